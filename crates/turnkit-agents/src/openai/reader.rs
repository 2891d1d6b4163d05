//! From the bytes of a reply to an answer, in the form of whichever API was asked.

use std::time::Duration;

use serde_json::Value;
use turnkit_wire::Event;

use super::{
    AgentError,
    answer::{Answer, Close},
    api::Api,
    body::{Body, Piece},
    chat,
    messages::Messages,
    responses,
};
use crate::lenient::{is_nothing, read, words};

/// An answer, and how it is read.
pub(super) struct Reader {
    body: Body,
    frames: Frames,
}

struct Frames {
    answer: Answer,
    form: Form,
    pieces: u64,
    /// The body is one message, and no stream of pieces.
    is_message: bool,
}

enum Form {
    Chat,
    Messages(Messages),
    Responses,
}

/// A frame, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) value: &'a Value,
    /// It is a body of its own, and no frame of a stream.
    pub(super) is_body: bool,
    pub(super) at: Duration,
}

/// What came of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is part of an answer.
    Known,
    /// It is a whole answer.
    Message,
    /// It is the last one.
    Last,
    /// It has something that is no part of an answer, or is none.
    Unknown,
}

impl Reader {
    pub(super) fn new(api: Api, answer: Answer) -> Self {
        let form = match api {
            Api::ChatCompletions => Form::Chat,
            Api::Messages => Form::Messages(Messages::default()),
            Api::Responses => Form::Responses,
        };
        let frames = Frames { answer, form, pieces: 0, is_message: false };
        Self { body: Body::new(MAX_LINE), frames }
    }

    pub(super) fn answer(&mut self) -> &mut Answer {
        &mut self.frames.answer
    }

    /// Takes the next bytes, which came `at` this time after the request. What follows the end does not matter.
    pub(super) fn feed(&mut self, bytes: &[u8], at: Duration) -> Result<(), AgentError> {
        let (mut taken, frames) = (Ok(()), &mut self.frames);
        self.body.feed(bytes, |piece| {
            if taken.is_ok() && !frames.answer.is_over() {
                taken = frames.take(piece, at);
            }
        });
        taken.map_err(|error| self.frames.answer.fail(error))
    }

    /// There is no more, well or not.
    pub(super) fn close(&mut self, close: Close, at: Duration) -> Result<(), AgentError> {
        let (mut taken, frames) = (Ok(()), &mut self.frames);
        self.body.finish(|piece| {
            if taken.is_ok() && !frames.answer.is_over() {
                taken = frames.take(piece, at);
            }
        });
        taken.map_err(|error| self.frames.answer.fail(error))?;
        let is_whole = self.frames.pieces == 1 && self.frames.is_message;
        let close = if close == Close::Body && is_whole { Close::Said } else { close };
        self.frames.answer.close(close, at)
    }
}

impl Frames {
    fn take(&mut self, piece: Piece<'_>, at: Duration) -> Result<(), AgentError> {
        let (event, data, is_body) = match piece {
            Piece::TooLong => {
                let message = format!(
                    "a line of the model's answer was longer than {MAX_LINE} bytes and is left out"
                );
                self.answer.skip(b"a line that is too long", Some(&message));
                return Ok(());
            }
            Piece::Other(line) => {
                self.answer.skip(line, None);
                return Ok(());
            }
            Piece::Frame { event, data } => (event, data, false),
            Piece::Json(json) => ("", json, true),
        };
        self.pieces += 1;
        let word = data.trim_ascii();
        if word.eq_ignore_ascii_case(b"[DONE]")
            || word.eq_ignore_ascii_case(b"\"[DONE]\"")
            || word == b"DONE"
        {
            return self.answer.close(Close::Said, at);
        }
        let value = read(data);
        if event == "error" {
            let text = || Value::String(String::from_utf8_lossy(data).into_owned());
            return Err(self.answer.error(&value.unwrap_or_else(text)));
        }
        match value {
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => {
                for item in &items {
                    self.frame(data, Frame { value: item, is_body, at })?;
                }
                Ok(())
            }
            Some(value @ Value::Object(_)) => {
                self.frame(data, Frame { value: &value, is_body, at })
            }
            None if data.starts_with(b"{") => {
                let message = "a piece of the model's answer could not be read and is left out";
                self.answer.skip(data, Some(message));
                Ok(())
            }
            Some(_) | None => {
                self.answer.skip(data, None);
                Ok(())
            }
        }
    }

    fn frame(&mut self, data: &[u8], frame: Frame<'_>) -> Result<(), AgentError> {
        self.answer.begin_frame();
        let error = error_in(frame.value);
        let taken = match &mut self.form {
            Form::Chat => chat::take(&mut self.answer, frame),
            Form::Messages(messages) => messages.take(&mut self.answer, frame),
            Form::Responses => responses::take(&mut self.answer, frame),
        }?;
        match error {
            Some(Verdict::Error(error)) => return Err(self.answer.error(error)),
            Some(Verdict::Perhaps(words)) if taken == Taken::Unknown => self.answer.overhear(words),
            _ => {}
        }
        match taken {
            Taken::Known => {}
            Taken::Message => self.is_message = true,
            Taken::Last => self.answer.close(Close::Said, frame.at)?,
            Taken::Unknown => self.answer.skip(data, None),
        }
        Ok(())
    }
}

/// What a frame may be beside an answer.
enum Verdict<'a> {
    Error(&'a Value),
    /// It has words, and nothing that says that they are those of an error.
    Perhaps(String),
}

/// The error that a frame is or holds, in any of the ways in which servers say so.
fn error_in(frame: &Value) -> Option<Verdict<'_>> {
    let says = |name: &str| frame.get(name).filter(|member| !is_nothing(member));
    let is_answer =
        frame.get("choices").and_then(Value::as_array).is_some_and(|choices| !choices.is_empty());
    let status = frame.pointer("/base_resp/status_code").filter(|status| !is_nothing(status));
    if let Some(error) = says("error") {
        // What stands beside it may be the better words of the two.
        return Some(Verdict::Error(
            if is_answer || !error.is_object() && says("message").is_none() {
                error
            } else {
                frame
            },
        ));
    }
    if status.is_some() {
        return Some(Verdict::Error(frame));
    }
    let of_choice = |choice: &Value| choice.get("error").is_some_and(|error| !is_nothing(error));
    if let Some(choice) = frame
        .get("choices")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|choice| of_choice(choice))
    {
        return choice.get("error").map(Verdict::Error);
    }
    let is = |name: &str| frame.get(name).and_then(Value::as_str) == Some("error");
    if is("type") || is("object") {
        return Some(Verdict::Error(frame));
    }
    if is_answer {
        return None;
    }
    let is_good = |code: &Value| match code {
        Value::Number(code) => code.as_u64() == Some(200),
        Value::String(code) => {
            ["0", "200", "ok", "success"].contains(&code.to_ascii_lowercase().as_str())
        }
        _ => false,
    };
    let has_code = ["code", "error_code", "err_code", "errcode", "status_code", "statusCode"]
        .into_iter()
        .any(|name| says(name).is_some_and(|code| !is_good(code)));
    let has_failed =
        ["success", "ok"].into_iter().any(|name| frame.get(name) == Some(&Value::Bool(false)));
    let is_status = says("status").and_then(Value::as_u64).is_some_and(|status| status >= 400);
    let has_words =
        ["message", "msg", "status_msg", "detail", "errors", "error_msg", "errorMessage"]
            .into_iter()
            .any(|name| says(name).is_some_and(|member| !member.is_object()));
    if !has_words {
        return None;
    }
    let is_error =
        has_code || has_failed || is_status || says("errors").is_some() || says("detail").is_some();
    if is_error { Some(Verdict::Error(frame)) } else { words(frame).map(Verdict::Perhaps) }
}

/// The longest line and frame, in bytes.
const MAX_LINE: usize = Event::MAX_BYTES;
