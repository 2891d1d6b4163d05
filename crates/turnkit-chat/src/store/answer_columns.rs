//! An answer in three columns: `text`; `parts`, a JSON array; `summary`, a JSON object. The two latter are null where the text says it all.
//!
//! The text of an answer that has one text part is kept once: the part is empty in its column, and is told by the text when it is read.

use serde_json::value::RawValue;
use turnkit::BoxError;
use turnkit_wire::view::PartUpdate;
use turnkit_wire::write::Part;

use crate::{Answer, AnswerPart, PartKind, Summary};

/// The columns `parts` and `summary`.
pub(crate) fn of(answer: &Answer) -> (Option<String>, Option<String>) {
    let empty = text_part(&answer.parts)
        .filter(|(part, id)| part.as_json() == text_json(id, &answer.text))
        .map(|(_, id)| text_json(&id, ""));
    let says_it_all = match (&*answer.parts, &empty) {
        ([], _) => answer.text.trim().is_empty(),
        ([_], Some(empty)) => *empty == text_json(Answer::FINAL_PART, ""),
        _ => false,
    };
    let parts = (!says_it_all).then(|| {
        let json = answer.parts.iter().map(|part| match &empty {
            Some(empty) if part.kind() == PartKind::Text => empty,
            _ => part.as_json(),
        });
        format!("[{}]", json.collect::<Vec<_>>().join(","))
    });
    let summary = (answer.summary != Summary::default()).then(|| answer.summary.to_json());
    (parts, summary)
}

/// The answer in the columns.
///
/// # Errors
/// The name of the column that does not hold what it should, and why.
pub(crate) fn read(
    text: String,
    parts: Option<String>,
    summary: Option<String>,
) -> Result<Answer, (&'static str, BoxError)> {
    let summary = summary.map(|json| Summary::from_json(&json)).transpose();
    let summary = summary.map_err(|error| ("summary", error.into()))?.unwrap_or_default();
    let Some(parts) = parts else {
        let whole = Answer::new(text.as_str()).parts;
        return Ok(Answer::of_parts(text, whole, summary));
    };
    let broken = |error: BoxError| ("parts", error);
    let parts: Vec<&RawValue> =
        serde_json::from_str(&parts).map_err(|error| broken(error.into()))?;
    let parts: Result<Vec<_>, _> =
        parts.into_iter().map(|part| AnswerPart::from_json(part.get())).collect();
    let mut parts = parts.map_err(|error| broken(error.into()))?;
    let empty = text_part(&parts)
        .filter(|(part, id)| part.as_json() == text_json(id, ""))
        .map(|(_, id)| text_json(&id, &text));
    if let Some(whole) = empty
        && let Some(part) = parts.iter_mut().find(|part| part.kind() == PartKind::Text)
    {
        *part = AnswerPart::from_json(&whole).map_err(|error| broken(error.into()))?;
    }
    Ok(Answer::of_parts(text, parts, summary))
}

/// The one text part, and its id; nothing where there are several.
fn text_part(parts: &[AnswerPart]) -> Option<(&AnswerPart, String)> {
    let mut texts = parts.iter().filter(|part| part.kind() == PartKind::Text);
    let part = texts.next()?;
    if texts.next().is_some() { None } else { Some((part, part.id()?)) }
}

/// A text part with nothing but its id and its text.
fn text_json(id: &str, text: &str) -> String {
    let event = Part::new(id).text(text);
    let json = PartUpdate::of(&event).and_then(|update| update.part_json());
    json.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_read_as_it_was() {
        let tool = r#"{"id":"t","type":"tool","name":"clock","status":"completed"}"#;
        let text = |id: &str, text: &str| text_json(id, text);
        let long = "line one\n\"two\" \u{202e}".repeat(40);
        for (said, parts, is_kept_twice) in [
            ("", vec![], false),
            (" ", vec![], false),
            ("hello", vec![text("final", "hello")], false),
            (&*long, vec![text("final", &long)], false),
            (&*long, vec![text("prt_1", &long)], false),
            (&*long, vec![tool.to_owned(), text("prt_1", &long)], false),
            // What its text part is besides cannot be told by the text.
            (&*long, vec![text("p", &long).replace("{", r#"{"note":1,"#)], true),
            (&*long, vec![text("a", &long), tool.to_owned(), text("b", "")], true),
            ("hello", vec![text("p", "another text")], false),
            ("hello", vec![tool.to_owned()], false),
            ("hello", vec![], false),
        ] {
            let parts: Vec<_> =
                parts.iter().map(|json| AnswerPart::from_json(json).unwrap()).collect();
            let answer = Answer::of_parts(said, parts, Summary::default());
            let (parts, summary) = of(&answer);
            assert_eq!(summary, None);
            let in_parts = parts.as_ref().map_or(0, String::len);
            assert_eq!(in_parts > long.len(), is_kept_twice, "{parts:?}");
            assert_eq!(read(said.to_owned(), parts, None).unwrap(), answer);
        }
    }

    #[test]
    fn a_part_that_was_kept_whole_is_read() {
        let part = text_json("prt_1", "hello");
        let answer = read("hello".to_owned(), Some(format!("[{part}]")), None).unwrap();
        assert_eq!(answer.parts[0].as_json(), part);
    }
}
