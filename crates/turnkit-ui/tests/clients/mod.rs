//! The rules of the published clients once more: what they let in, and what they make of it. The tests in `tests/front-ends` run the
//! clients themselves.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails its test")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A frame of `text/event-stream`: its id, and its data.
pub(crate) type Frame = (Option<u64>, String);

/// Splits as the strictest of the clients do: at LF LF, an id before its data, one data line.
pub(crate) fn frames(stream: &[u8]) -> Vec<Frame> {
    let text = std::str::from_utf8(stream).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"), "the last frame is whole");
    let blocks = text.split_terminator("\n\n").filter(|block| *block != ":");
    blocks
        .map(|block| {
            let (id, data) = match block.split_once('\n') {
                Some((id, data)) => (Some(id.strip_prefix("id: ").unwrap().parse().unwrap()), data),
                None => (None, block),
            };
            (id, data.strip_prefix("data: ").unwrap().to_owned())
        })
        .collect()
}

/// What `useChat` holds at the end of a stream.
#[derive(Debug, Default)]
pub(crate) struct UiClient {
    pub(crate) message: Map<String, Value>,
    parts: Vec<Value>,
    texts: BTreeMap<String, usize>,
    reasonings: BTreeMap<String, usize>,
    pieces: BTreeMap<String, String>,
    pub(crate) ended: Option<String>,
    pub(crate) is_done: bool,
}

impl UiClient {
    pub(crate) fn read(frames: &[Frame]) -> Result<Self, String> {
        let mut client = Self::default();
        for (_, data) in frames {
            client.take(data)?;
        }
        Ok(client)
    }

    pub(crate) fn take(&mut self, data: &str) -> Result<(), String> {
        if self.is_done {
            return Err("something after [DONE]".to_owned());
        }
        if data == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let chunk: Value =
            serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?;
        self.chunk(&chunk).ok_or_else(|| format!("no client takes {data}"))
    }

    pub(crate) fn message(&self) -> Value {
        let mut message = self.message.clone();
        message.insert("role".to_owned(), json!("assistant"));
        message.insert("parts".to_owned(), Value::Array(self.parts.clone()));
        Value::Object(message)
    }

    fn chunk(&mut self, chunk: &Value) -> Option<()> {
        let string = |name: &str| chunk.get(name)?.as_str().map(str::to_owned);
        let kind = string("type")?;
        if self.ended.is_some() {
            return None;
        }
        match &*kind {
            "start" => {
                self.message.insert("id".to_owned(), chunk.get("messageId")?.clone());
                self.metadata(chunk);
            }
            "start-step" => self.parts.push(json!({"type": "step-start"})),
            "finish-step" => (self.texts, self.reasonings) = Default::default(),
            "text-start" => {
                self.texts.insert(string("id")?, self.parts.len());
                self.parts.push(json!({"type": "text", "text": "", "state": "streaming"}));
            }
            "reasoning-start" => {
                self.reasonings.insert(string("id")?, self.parts.len());
                let id = string("id")?;
                self.parts
                    .push(json!({"type": "reasoning", "id": id, "text": "", "state": "streaming"}));
            }
            "text-delta" | "reasoning-delta" => {
                let open = if kind == "text-delta" { &self.texts } else { &self.reasonings };
                let part = &mut self.parts[*open.get(&string("id")?)?];
                part["text"] = json!(format!("{}{}", part["text"].as_str()?, string("delta")?));
            }
            "text-end" | "reasoning-end" => {
                let open = if kind == "text-end" { &mut self.texts } else { &mut self.reasonings };
                self.parts[open.remove(&string("id")?)?]["state"] = json!("done");
            }
            "tool-input-start" => {
                string("toolName")?;
                self.pieces.insert(string("toolCallId")?, String::new());
                self.tool_here(chunk, "input-streaming", None);
            }
            "tool-input-delta" => {
                let pieces = self.pieces.get_mut(&string("toolCallId")?)?;
                pieces.push_str(&string("inputTextDelta")?);
                let pieces = pieces.clone();
                let input = serde_json::from_str(&pieces).ok();
                let tool = self.tool(chunk)?;
                tool.insert("rawInput".to_owned(), json!(pieces));
                set(tool, "input", input);
            }
            "tool-input-available" => {
                string("toolName")?;
                let input = Some(chunk.get("input")?.clone());
                self.tool_here(chunk, "input-available", input);
            }
            "tool-output-available" | "tool-output-error" => {
                let tool = self.tool(chunk)?;
                let is_error = kind == "tool-output-error";
                let state = if is_error { "output-error" } else { "output-available" };
                tool.insert("state".to_owned(), json!(state));
                tool.remove("rawInput");
                set(
                    tool,
                    "output",
                    if is_error { None } else { Some(chunk.get("output")?.clone()) },
                );
                set(
                    tool,
                    "errorText",
                    if is_error { Some(json!(string("errorText")?)) } else { None },
                );
                set(tool, "preliminary", chunk.get("preliminary").cloned());
                if let Some(executed) = chunk.get("providerExecuted") {
                    tool.insert("providerExecuted".to_owned(), executed.clone());
                }
            }
            "tool-approval-request" => {
                let approval = json!({"id": string("approvalId")?});
                let tool = self.tool(chunk)?;
                tool.insert("state".to_owned(), json!("approval-requested"));
                tool.insert("approval".to_owned(), approval);
            }
            "tool-approval-response" => {
                let id = string("approvalId")?;
                let is_it = |part: &&mut Value| part["approval"]["id"] == id.as_str();
                let tool = self.parts.iter_mut().find(is_it)?.as_object_mut()?;
                tool.insert("state".to_owned(), json!("approval-responded"));
                let approval = tool.get_mut("approval")?.as_object_mut()?;
                approval.insert("approved".to_owned(), json!(chunk.get("approved")?.as_bool()?));
                if let Some(reason) = chunk.get("reason") {
                    approval.insert("reason".to_owned(), reason.clone());
                }
            }
            "tool-output-denied" => {
                self.tool(chunk)?.insert("state".to_owned(), json!("output-denied"));
            }
            "file" => self.parts.push(
                json!({"type": "file", "url": string("url")?, "mediaType": string("mediaType")?}),
            ),
            "source-url" => {
                string("sourceId")?;
                string("url")?;
                self.parts.push(chunk.clone());
            }
            "message-metadata" => self.metadata(chunk),
            "abort" => {}
            "finish" => {
                let reasons = ["stop", "length", "content-filter", "tool-calls", "error", "other"];
                reasons.contains(&&*string("finishReason")?).then_some(())?;
                self.metadata(chunk);
                self.ended = Some(kind);
            }
            "error" => {
                string("errorText")?;
                self.ended = Some(kind);
            }
            data if data.starts_with("data-") => {
                chunk.get("data")?;
                if chunk.get("transient") != Some(&json!(true)) {
                    self.parts.push(chunk.clone());
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn metadata(&mut self, chunk: &Value) {
        if let Some(Value::Object(new)) = chunk.get("messageMetadata") {
            let metadata = self.message.entry("metadata").or_insert_with(|| json!({}));
            metadata.as_object_mut().unwrap().extend(new.clone());
        }
    }

    fn step_start(&self) -> usize {
        self.parts.iter().rposition(|part| part["type"] == "step-start").map_or(0, |at| at + 1)
    }

    /// The tool part of the current step, or a new one.
    fn tool_here(&mut self, chunk: &Value, state: &str, input: Option<Value>) {
        let start = self.step_start();
        let id = chunk["toolCallId"].clone();
        let is_it = |part: &Value| part["type"] == "dynamic-tool" && part["toolCallId"] == id;
        let at =
            self.parts[start..].iter().position(is_it).map_or(self.parts.len(), |at| start + at);
        if at == self.parts.len() {
            self.parts.push(json!({"type": "dynamic-tool", "toolCallId": id}));
        }
        let tool = self.parts[at].as_object_mut().unwrap();
        tool.insert("state".to_owned(), json!(state));
        for name in ["rawInput", "output", "errorText", "preliminary"] {
            tool.remove(name);
        }
        set(tool, "input", input);
        for name in ["toolName", "providerExecuted", "title"] {
            if let Some(value) = chunk.get(name) {
                tool.insert(name.to_owned(), value.clone());
            }
        }
    }

    fn tool(&mut self, chunk: &Value) -> Option<&mut Map<String, Value>> {
        let id = chunk.get("toolCallId")?;
        let is_it = |part: &&mut Value| part["type"] == "dynamic-tool" && part["toolCallId"] == *id;
        self.parts.iter_mut().rev().find(is_it)?.as_object_mut()
    }
}

fn set(object: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
}

/// What `HttpAgent` holds at the end of a stream.
#[derive(Debug, Default)]
pub(crate) struct AgUiClient {
    pub(crate) messages: Vec<Value>,
    texts: BTreeSet<String>,
    reasonings: BTreeSet<String>,
    spans: BTreeSet<String>,
    calls: BTreeSet<String>,
    has_started: bool,
    pub(crate) ended: Option<Value>,
}

impl AgUiClient {
    pub(crate) fn read(frames: &[Frame]) -> Result<Self, String> {
        let mut client = Self::default();
        for (_, data) in frames {
            client.take(data)?;
        }
        Ok(client)
    }

    pub(crate) fn take(&mut self, data: &str) -> Result<(), String> {
        let event: Value =
            serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?;
        self.event(&event).ok_or_else(|| format!("no client takes {data}"))
    }

    fn event(&mut self, event: &Value) -> Option<()> {
        let string = |name: &str| event.get(name)?.as_str().map(str::to_owned);
        let kind = string("type")?;
        if self.ended.is_some()
            || event.as_object()?.values().any(Value::is_null) && kind != "CUSTOM"
        {
            return None;
        }
        if !self.has_started && kind != "RUN_STARTED" && kind != "RUN_ERROR" {
            return None;
        }
        match &*kind {
            "RUN_STARTED" => {
                string("threadId")?;
                string("runId")?;
                (!std::mem::replace(&mut self.has_started, true)).then_some(())?;
            }
            "TEXT_MESSAGE_START" => {
                (event["role"] == "assistant" && self.texts.insert(string("messageId")?))
                    .then_some(())?;
                self.begin(&string("messageId")?, "assistant");
            }
            "TEXT_MESSAGE_CONTENT" => {
                self.texts.contains(&string("messageId")?).then_some(())?;
                self.grow(&string("messageId")?, &string("delta")?)?;
            }
            "TEXT_MESSAGE_END" => self.texts.remove(&string("messageId")?).then_some(())?,
            "REASONING_START" => self.spans.insert(string("messageId")?).then_some(())?,
            "REASONING_END" => self.spans.remove(&string("messageId")?).then_some(())?,
            "REASONING_MESSAGE_START" => {
                (event["role"] == "reasoning" && self.reasonings.insert(string("messageId")?))
                    .then_some(())?;
                self.begin(&string("messageId")?, "reasoning");
            }
            "REASONING_MESSAGE_CONTENT" => {
                self.reasonings.contains(&string("messageId")?).then_some(())?;
                self.grow(&string("messageId")?, &string("delta")?)?;
            }
            "REASONING_MESSAGE_END" => {
                self.reasonings.remove(&string("messageId")?).then_some(())?;
            }
            "TOOL_CALL_START" => {
                let (id, name) = (string("toolCallId")?, string("toolCallName")?);
                self.calls.insert(id.clone()).then_some(())?;
                if self.call(&id).is_none() {
                    let function = json!({"name": name, "arguments": ""});
                    let call = json!({"id": id, "type": "function", "function": function});
                    self.messages.push(json!({"id": id, "role": "assistant", "toolCalls": [call]}));
                }
            }
            "TOOL_CALL_ARGS" => {
                self.calls.contains(&string("toolCallId")?).then_some(())?;
                let delta = string("delta")?;
                let place = self.call(&string("toolCallId")?)?;
                let arguments = &mut self.messages[place]["toolCalls"][0]["function"]["arguments"];
                *arguments = json!(format!("{}{delta}", arguments.as_str()?));
            }
            "TOOL_CALL_END" => self.calls.remove(&string("toolCallId")?).then_some(())?,
            "TOOL_CALL_RESULT" => {
                let mut result = json!({
                    "id": string("messageId")?, "toolCallId": string("toolCallId")?,
                    "role": string("role")?, "content": string("content")?,
                });
                if let Some(metadata) = event.get("metadata") {
                    result["metadata"] = metadata.clone();
                }
                let mut place = self.call(&string("toolCallId")?)? + 1;
                while self.messages.get(place).is_some_and(|message| message["role"] == "tool") {
                    place += 1;
                }
                self.messages.insert(place, result);
            }
            "MESSAGES_SNAPSHOT" => self.snapshot(event.get("messages")?.as_array()?),
            "CUSTOM" => {
                string("name")?;
                event.get("value")?;
            }
            "RUN_FINISHED" => {
                let open = [&self.texts, &self.reasonings, &self.spans, &self.calls];
                open.iter().all(|open| open.is_empty()).then_some(())?;
                if let Some(usage) = event.get("usage") {
                    let numbers =
                        usage.as_array()?.iter().flat_map(|usage| usage.as_object().unwrap());
                    let mut numbers = numbers.filter(|(name, _)| name.ends_with("Tokens"));
                    numbers.all(|(_, number)| number.as_u64().is_some()).then_some(())?;
                }
                let outcome = event.get("outcome")?.get("type")?.as_str()?;
                ["success", "interrupt", "cancelled"].contains(&outcome).then_some(())?;
                self.ended = Some(event.clone());
            }
            "RUN_ERROR" => {
                string("message")?;
                self.ended = Some(event.clone());
            }
            _ => return None,
        }
        Some(())
    }

    fn begin(&mut self, id: &str, role: &str) {
        if !self.messages.iter().any(|message| message["id"] == id) {
            self.messages.push(json!({"id": id, "role": role, "content": ""}));
        }
    }

    fn grow(&mut self, id: &str, delta: &str) -> Option<()> {
        let message = self.messages.iter_mut().find(|message| message["id"] == id)?;
        message["content"] = json!(format!("{}{delta}", message["content"].as_str()?));
        Some(())
    }

    fn call(&self, id: &str) -> Option<usize> {
        let holds = |message: &Value| {
            message["toolCalls"]
                .as_array()
                .is_some_and(|calls| calls.iter().any(|call| call["id"] == id))
        };
        self.messages.iter().position(holds)
    }

    fn snapshot(&mut self, snapshot: &[Value]) {
        let has_reasoning = snapshot.iter().any(|message| message["role"] == "reasoning");
        let find = |id: &Value| snapshot.iter().find(|message| message["id"] == *id);
        self.messages.retain(|message| {
            find(&message["id"]).is_some() || message["role"] == "reasoning" && !has_reasoning
        });
        for message in &mut self.messages {
            if let Some(new) = find(&message["id"]) {
                *message = new.clone();
            }
        }
        for message in snapshot {
            if !self.messages.iter().any(|had| had["id"] == message["id"]) {
                self.messages.push(message.clone());
            }
        }
    }
}
