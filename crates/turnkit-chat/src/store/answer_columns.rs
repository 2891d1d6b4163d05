//! An answer in three columns: `text`; `parts`, a JSON array; `summary`, a JSON object. The two latter are null where the text says it all.

use serde_json::value::RawValue;
use turnkit::BoxError;

use crate::{Answer, AnswerPart, Summary};

/// The columns `parts` and `summary`.
pub(crate) fn of(answer: &Answer) -> (Option<String>, Option<String>) {
    let is_text = answer.parts == Answer::new(answer.text.as_str()).parts;
    let parts = (!is_text).then(|| {
        let parts: Vec<&str> = answer.parts.iter().map(AnswerPart::as_json).collect();
        format!("[{}]", parts.join(","))
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
    Ok(Answer::of_parts(text, parts.map_err(|error| broken(error.into()))?, summary))
}
