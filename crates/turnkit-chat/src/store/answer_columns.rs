//! An answer in three columns: `text`; `parts`, a JSON array; `summary`, a JSON object. The two latter are null where the text says it all.
//!
//! The text of an answer that has one text part is kept once: the part is kept with an empty text, and has the column's when it is read. A
//! part whose text is empty beside a text in the column is kept with a space before its last brace, and read with it.

use std::borrow::{Borrow, Cow};

use serde_json::value::RawValue;
use turnkit::BoxError;

use crate::{Answer, AnswerPart, PartKind, Summary};

/// The part that [`Answer::new`] makes, without its text.
const FINAL: &str = r#"{"id":"final","type":"text","text":""}"#;

/// The columns `parts` and `summary`.
pub(crate) fn of(answer: &Answer) -> (Option<String>, Option<String>) {
    let is_blank = answer.text.trim().is_empty();
    let text_part = text_part(answer.parts.iter()).map(|part| match part.without_text() {
        Some((without, text)) if text == answer.text => Cow::Borrowed(without),
        // An empty one is told from one whose text is in the column by a space before its last brace.
        _ => match part.as_json().strip_suffix(r#""text":""}"#) {
            Some(before) => format!(r#"{before}"text":"" }}"#).into(),
            None => part.as_json().into(),
        },
    });
    let says_it_all = match &*answer.parts {
        [] => is_blank,
        [_] => !is_blank && text_part.as_deref() == Some(FINAL),
        _ => false,
    };
    let parts = (!says_it_all).then(|| {
        let json = answer.parts.iter().map(|part| match &text_part {
            Some(kept) if part.kind() == PartKind::Text => kept,
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
    if let Some(part) = text_part(&mut parts)
        && part.without_text().is_some_and(|(_, text)| text.is_empty())
    {
        *part = part.with_text(&text);
    }
    Ok(Answer::of_parts(text, parts, summary))
}

/// The one text part; nothing where there are several.
fn text_part<P: Borrow<AnswerPart>>(parts: impl IntoIterator<Item = P>) -> Option<P> {
    let mut texts = parts.into_iter().filter(|part| part.borrow().kind() == PartKind::Text);
    texts.next().filter(|_| texts.next().is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use turnkit_wire::view::PartUpdate;
    use turnkit_wire::write::Part;

    use super::*;

    fn text_json(id: &str, text: &str) -> String {
        let event = Part::new(id).text(text);
        PartUpdate::of(&event).unwrap().part_json().unwrap().to_owned()
    }

    fn part(json: &str) -> AnswerPart {
        AnswerPart::from_json(json).unwrap()
    }

    /// As the engine makes it.
    fn text_part(id: &str, text: &str) -> AnswerPart {
        part(&text_json(id, "")).with_text(text)
    }

    #[test]
    fn a_text_is_kept_once_and_read_as_it_was() {
        let tool = || part(r#"{"id":"t","type":"tool","name":"clock","status":"completed"}"#);
        let long = "line one\n\"two\" \u{202e}".repeat(40);
        let noted = text_json("p", "").replacen('{', r#"{"note":1,"#, 1);
        for (said, parts, is_kept_twice) in [
            ("", vec![], false),
            (" ", vec![], false),
            (" ", vec![text_part("final", " ")], false),
            ("", vec![text_part("p", "")], false),
            ("hello", vec![text_part("final", "hello")], false),
            (&*long, vec![text_part("final", &long)], false),
            (&*long, vec![text_part("prt_1", &long)], false),
            (&*long, vec![tool(), text_part("prt_1", &long)], false),
            // Members before the text stay, and where any is behind it nothing is left out.
            (&*long, vec![part(&noted).with_text(&long)], false),
            (&*long, vec![part(&text_json("p", &long).replace("\"}", r#"","note":1}"#))], true),
            (&*long, vec![text_part("a", &long), tool(), text_part("b", "")], true),
            ("hello", vec![text_part("p", "another text")], false),
            // The same bytes, and not the same text.
            ("a\\nb", vec![text_part("p", "a\nb")], false),
            ("hello", vec![tool()], false),
            ("hello", vec![], false),
        ] {
            let answer = Answer::of_parts(said, parts, Summary::default());
            let (parts, summary) = of(&answer);
            assert_eq!(summary, None);
            let in_parts = parts.as_ref().map_or(0, String::len);
            assert_eq!(in_parts > long.len(), is_kept_twice, "{parts:?}");
            assert_eq!(read(said.to_owned(), parts, None).unwrap(), answer);
        }
    }

    #[test]
    fn an_empty_text_part_beside_a_text_stays_empty() {
        for json in [
            r#"{"id":"p","type":"text","text":""}"#,
            r#"{"type":"text","text":"","more":{"text":""}}"#,
            r#"{"type":"text","text" :"","a\"text":""}"#,
            r#"{"type":"text","text":"hello","a\"text":""}"#,
            r#"{"type":"text","a\"text":""}"#,
        ] {
            let parts = vec![part(json)];
            let (parts, _) = of(&Answer::of_parts("hello", parts, Summary::default()));
            let read = read("hello".to_owned(), parts, None).unwrap();
            let value = |json: &str| serde_json::from_str::<Value>(json).unwrap();
            assert_eq!(value(read.parts[0].as_json()), value(json));
        }
    }

    #[test]
    fn a_text_is_read_of_a_part_that_others_have_spelt() {
        let parts = r#"[{"id":"p", "type":"text", "text":""}]"#.to_owned();
        let answer = read("hello".to_owned(), Some(parts), None).unwrap();
        assert_eq!(answer.parts[0].as_json(), r#"{"id":"p", "type":"text", "text":"hello"}"#);
    }

    #[test]
    fn a_part_that_was_kept_whole_is_read() {
        let part = text_json("prt_1", "hello");
        let answer = read("hello".to_owned(), Some(format!("[{part}]")), None).unwrap();
        assert_eq!(answer.parts[0].as_json(), part);
    }
}
