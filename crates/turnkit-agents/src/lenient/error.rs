//! The words of an error, in whatever shape a peer puts them.

use serde_json::Value;

/// Whether a member says as much as its absence: `null`, `false`, `0`, an empty text, or a container of such alone.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(members) => members.values().all(is_nothing),
    }
}

/// What an error says: the texts of `error`, `message`, `msg`, `status_msg`, `detail`, `errors`, `base_resp` and what is
/// inside of them, each once. An item of a list of errors has its place (`loc`) in front. None where there is no text.
pub(crate) fn words(error: &Value) -> Option<String> {
    let mut found = Vec::new();
    collect(error, &mut found, 0);
    let mut said = String::new();
    for text in found {
        let text = text.trim();
        if text.is_empty() || said.contains(text) {
            continue;
        }
        if said.len() + text.len() > MAX {
            break;
        }
        if !said.is_empty() {
            said.push_str(": ");
        }
        said.push_str(text);
    }
    // The first text of all is told though it is long: whoever shows it cuts it.
    if said.is_empty() { first(error) } else { Some(said) }
}

/// Members that may hold words, or lead to them. `raw` and `metadata` are where a router keeps what its upstream said.
const MEMBERS: [&str; 15] = [
    "error",
    "message",
    "msg",
    "status_msg",
    "detail",
    "details",
    "errors",
    "base_resp",
    "error_msg",
    "errorMessage",
    "error_description",
    "reason",
    "metadata",
    "raw",
    "data",
];

const MAX: usize = 4 * 1024;

fn collect(error: &Value, found: &mut Vec<String>, depth: usize) {
    if depth > 8 || found.len() > 16 {
        return;
    }
    match error {
        Value::String(text) => match nested(text) {
            Some(inner) if depth < 4 => collect(&inner, found, depth + 4),
            _ => found.push(text.clone()),
        },
        Value::Array(items) => {
            for item in items {
                collect(item, found, depth + 1);
            }
        }
        Value::Object(members) => {
            let before = found.len();
            for name in MEMBERS {
                if let Some(member) = members.get(name).filter(|member| !is_nothing(member)) {
                    collect(member, found, depth + 1);
                }
            }
            let place = members.get("loc").and_then(place);
            if let (Some(place), Some(first)) = (place, found.get_mut(before)) {
                first.insert_str(0, &format!("{place}: "));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An error object that some gateway has written into a text.
fn nested(text: &str) -> Option<Value> {
    let looks_like_it = text.trim_start().starts_with(['{', '[']);
    let inner: Value = looks_like_it.then(|| serde_json::from_str(text).ok())??;
    let mut found = Vec::new();
    collect(&inner, &mut found, 4);
    (!found.is_empty()).then_some(inner)
}

fn place(loc: &Value) -> Option<String> {
    let steps = loc.as_array()?.iter().map(|step| match step {
        Value::String(name) => name.clone(),
        other => other.to_string(),
    });
    let steps: Vec<_> = steps.take(8).collect();
    (!steps.is_empty()).then(|| steps.join("."))
}

fn first(error: &Value) -> Option<String> {
    let mut found = Vec::new();
    collect(error, &mut found, 0);
    found.into_iter().find(|text| !text.trim().is_empty()).map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_words_are_found_wherever_they_stand() {
        let shapes = [
            json!("no money"),
            json!({ "error": "no money" }),
            json!({ "error": { "message": "no money", "type": "x", "code": 1 } }),
            json!({ "error": { "message": "", "msg": "no money" } }),
            json!({ "message": "no money" }),
            json!({ "detail": "no money" }),
            json!({ "detail": { "error": { "message": "no money" } } }),
            json!([{ "error": { "message": "no money", "status": "X" } }]),
            json!({ "errors": [{ "code": 7, "message": "no money" }], "success": false }),
            json!({ "base_resp": { "status_code": 1008, "status_msg": "no money" } }),
            json!({ "error": "{\"error\":{\"message\":\"no money\"}}" }),
            json!({ "message": "no money", "error": { "message": "no money" } }),
        ];
        for shape in shapes {
            assert_eq!(words(&shape).as_deref(), Some("no money"), "{shape}");
        }
    }

    #[test]
    fn all_of_the_words_are_told() {
        let router = json!({ "error": { "message": "Provider returned error", "metadata": { "raw": "{\"error\":\"no GPU\"}" } } });
        assert_eq!(words(&router).as_deref(), Some("Provider returned error: no GPU"));
        let places = json!({ "detail": [{ "loc": ["body", 0, "x"], "msg": "no" }, { "loc": [], "msg": "never" }] });
        assert_eq!(words(&places).as_deref(), Some("body.0.x: no: never"));
        assert_eq!(words(&json!({ "error": { "code": 5 }, "x": "y" })), None);
        let long = "x".repeat(10_000);
        assert_eq!(words(&json!({ "message": long })), Some(long));
    }

    #[test]
    fn an_error_that_is_none() {
        for nothing in [
            json!(null),
            json!(false),
            json!(""),
            json!({}),
            json!([]),
            json!(0),
            json!({ "message": "", "code": null }),
        ] {
            assert!(is_nothing(&nothing), "{nothing}");
        }
        assert!(!is_nothing(&json!({ "message": "", "code": 7 })));
    }
}
