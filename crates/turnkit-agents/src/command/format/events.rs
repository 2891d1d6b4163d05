//! Turnkit's own events, one a line.

use bytes::Bytes;
use serde_json::Value;
use turnkit_wire::{Event, kind};

use super::{Format, Mapper, Told, refuse_other};
use crate::lenient::{read, words};

pub(super) struct Events {
    max: usize,
    is_first: bool,
}

impl Events {
    pub(super) fn new(max: usize) -> Self {
        Self { max, is_first: true }
    }
}

impl Mapper for Events {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let Ok(event) = Event::from_bytes_within(Bytes::copy_from_slice(line), self.max) else {
            if self.is_first && line.trim_ascii_start().starts_with(b"{") {
                self.is_first = false;
                if read(line.trim_ascii())
                    .is_some_and(|value| refuse_other(&value, Format::Events, told))
                {
                    return;
                }
            }
            told.stray(line);
            return;
        };
        if std::mem::take(&mut self.is_first)
            && matches!(
                event.kind(),
                "system" | "result" | "thread.started" | "init" | "step_start"
            )
            && read(event.as_json().as_bytes())
                .is_some_and(|value| refuse_other(&value, Format::Events, told))
        {
            return;
        }
        if event.kind() != kind::ERROR {
            return told.push(event);
        }
        // An error as PROTOCOL 1.1 has it goes on as it is. One that is worded differently keeps its words.
        let value = read(event.as_json().as_bytes()).unwrap_or_default();
        if value.pointer("/data/message").is_some_and(Value::is_string) {
            return told.push(event);
        }
        let code = ["/code", "/error/code", "/error/type", "/data/code"];
        let code = code.into_iter().find_map(|path| value.pointer(path)?.as_str());
        let words = words(&value).unwrap_or_else(|| match value.get("data") {
            Some(data) => data.to_string(),
            None => "the program reported an error".to_owned(),
        });
        told.hold(&words, code);
    }
}
