//! The request, and what comes while the program runs, on its way to a program's standard input.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::{io::AsyncWriteExt as _, process::ChildStdin};

use turnkit_agent::RunRequest;

/// What a program is still to be told.
pub(super) struct Input {
    pipe: Option<ChildStdin>,
    rest: Bytes,
    /// More may come: the pipe is not closed behind the last byte.
    stays_open: bool,
}

impl Input {
    pub(super) fn new(pipe: Option<ChildStdin>, line: Vec<u8>, stays_open: bool) -> Self {
        let rest = line.into();
        Self { pipe, rest, stays_open }
    }

    /// Whether there is something to do.
    pub(super) fn is_due(&self) -> bool {
        self.pipe.is_some() && !(self.rest.is_empty() && self.stays_open)
    }

    /// Whether all is written, and more can be.
    pub(super) fn is_idle(&self) -> bool {
        self.pipe.is_some() && self.rest.is_empty() && self.stays_open
    }

    /// Something more for the program.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.pipe.is_some() && !bytes.is_empty() {
            self.rest = [&self.rest[..], bytes].concat().into();
        }
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) {
        self.stays_open = false;
    }

    /// Writes what the pipe takes, and closes it behind the last byte. May be dropped and asked again.
    pub(super) async fn pump(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let written = pipe.write_buf(&mut self.rest).await;
        match written {
            Ok(_) if !self.rest.is_empty() || self.stays_open => return,
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tracing::warn!(%error, "a program's input broke");
            }
            // All is written, or the program does not want it.
            Ok(_) | Err(_) => {}
        }
        self.pipe = None;
    }
}

/// The request as one line: one JSON object, `executionId` first, then `message`, then the other members as they were sent.
pub(super) fn line(request: &RunRequest) -> Result<Vec<u8>, serde_json::Error> {
    let body: &[u8] = match &request.body()[..] {
        [] => b"{}",
        body => body,
    };
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_slice(body)?;
    let id = serde_json::value::to_raw_value(request.execution_id().as_str())?;
    let message = serde_json::value::to_raw_value(request.message())?;
    members.retain(|name, _| name != "executionId" && name != "message");
    let first = [("executionId", &*id), ("message", &*message)];
    let others = members.iter().map(|(name, value)| (name.as_str(), *value));
    object(first.into_iter().chain(others))
}

fn object<'a>(
    members: impl Iterator<Item = (&'a str, &'a RawValue)>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = Vec::new();
    for (name, value) in members {
        line.push(if line.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut line, name)?;
        line.push(b':');
        // Line breaks can stand between tokens only.
        let value = value.get().bytes();
        line.extend(value.map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => byte,
        }));
    }
    line.extend_from_slice(b"}\n");
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkit_id::ExecutionId;

    fn line_of(body: &'static str) -> String {
        let id = ExecutionId::parse("exec-1").unwrap();
        let request = RunRequest::parse(id, Bytes::from_static(body.as_bytes())).unwrap();
        String::from_utf8(line(&request).unwrap()).unwrap()
    }

    #[test]
    fn the_request_is_one_line_with_its_members_as_they_were_sent() {
        let body = "{\n \"x\": {\"n\":\r\n 1E5}, \"message\":\"a\\u000ab\",\n\"history\":[]}";
        let line = "{\"executionId\":\"exec-1\",\"message\":\"a\\nb\",\"history\":[],\"x\":{\"n\":   1E5}}\n";
        assert_eq!(line_of(body), line);
    }

    #[test]
    fn a_member_that_calls_itself_the_execution_id_is_not_passed_on() {
        let body = r#"{"executionId":"forged","message":"m"}"#;
        assert_eq!(line_of(body), "{\"executionId\":\"exec-1\",\"message\":\"m\"}\n");
    }
}
