//! What real endpoints send (`tests/vectors/model-endpoints.json`), and what each answer must come to.

use std::{collections::BTreeMap, fs, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::{StreamExt as _, future::join_all};
use serde::Deserialize;
use serde_json::Value;
use turnkit_agent::{Agent as _, AgentError, RunRequest};
use turnkit_agents::openai::OpenAi;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use crate::{
    KEY,
    harness::data,
    upstream::{Step, Upstream},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    name: String,
    status: u16,
    content_type: String,
    steps: Vec<Sent>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sent {
    send: Option<String>,
    send_base64: Option<String>,
    pause_seconds: Option<f64>,
    abort: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    outcome: String,
    text: Option<String>,
    reasoning: Option<String>,
    tools: Option<Value>,
    usage: Option<[u64; 2]>,
    message_contains: Option<String>,
}

impl Endpoint {
    /// What a connection sends, each step a chunk of HTTP's own; an abort leaves out the last one.
    fn script(&self) -> Vec<Step> {
        let head = format!(
            "HTTP/1.1 {} \r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.status, self.content_type
        );
        let mut script = vec![Step::send(&head)];
        for step in &self.steps {
            let bytes = match step {
                Sent { send: Some(text), .. } => text.clone().into_bytes(),
                Sent { send_base64: Some(text), .. } => BASE64_STANDARD.decode(text).unwrap(),
                Sent { pause_seconds: Some(seconds), .. } => {
                    script.push(Step::Pause(Duration::from_secs_f64(*seconds)));
                    continue;
                }
                Sent { abort, .. } => {
                    assert_eq!(*abort, Some(true));
                    script.push(Step::Close);
                    continue;
                }
            };
            let framed = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
            script.push(Step::Send(framed));
        }
        script.push(Step::send("0\r\n\r\n"));
        script.push(Step::Close);
        script
    }

    /// What is wrong about the turn, if anything.
    async fn tried(&self) -> Result<(), String> {
        let upstream = Upstream::new(vec![self.script(), self.script()]).await;
        let agent = OpenAi::builder(upstream.base_url(), "m").key(KEY).build().unwrap();
        let request = RunRequest::new(ExecutionId::parse("exec-1").unwrap(), "m");
        let events: Vec<Result<Event, AgentError>> = agent.run(request.into()).collect().await;
        let seen = Seen::of(events);
        let outcome = match (&seen.failure, seen.finish_reason.as_str()) {
            (Some(_), _) => "failed",
            (None, "length" | "content-filter") => "complete, told as cut (finishReason)",
            (None, _) => "complete",
        };
        let expect = &self.expect;
        let is = |expected: Option<&String>, found: &String| {
            expected.is_none_or(|expected| expected == found)
        };
        let is_right = outcome == expect.outcome
            && is(expect.text.as_ref(), &seen.text)
            && is(expect.reasoning.as_ref(), &seen.reasoning)
            && expect.tools.as_ref().is_none_or(|tools| *tools == seen.tools())
            && expect.usage.is_none_or(|usage| seen.usage == Some(usage))
            && expect
                .message_contains
                .as_ref()
                .is_none_or(|words| seen.failure.as_ref().is_some_and(|told| told.contains(words)));
        if is_right { Ok(()) } else { Err(format!("{}: {outcome}, {seen:?}", self.name)) }
    }
}

/// What a reader of a turn has at its end.
#[derive(Debug, Default)]
struct Seen {
    text: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
    usage: Option<[u64; 2]>,
    finish_reason: String,
    failure: Option<String>,
}

impl Seen {
    fn of(events: Vec<Result<Event, AgentError>>) -> Self {
        let mut seen = Self::default();
        let mut order = Vec::new();
        let mut parts = BTreeMap::<String, Value>::new();
        for event in events {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    seen.failure = Some(error.message().to_owned());
                    continue;
                }
            };
            let data = data(&event);
            if event.kind() == "result" {
                data["finishReason"]
                    .as_str()
                    .unwrap_or_default()
                    .clone_into(&mut seen.finish_reason);
                let usage = |name: &str| data["tokenUsage"][name].as_u64();
                seen.usage = usage("inputTokens")
                    .zip(usage("outputTokens"))
                    .map(|(input, output)| [input, output]);
            }
            if event.kind() != "message.part.updated" {
                continue;
            }
            let id = data["part"]["id"].as_str().unwrap().to_owned();
            if !parts.contains_key(&id) {
                order.push(id.clone());
            }
            let part = parts.entry(id).or_insert_with(|| data["part"].clone());
            if data["part"]["type"] == "tool" {
                *part = data["part"].clone();
            } else if let Some(delta) = data["delta"].as_str() {
                part["text"] =
                    format!("{}{delta}", part["text"].as_str().unwrap_or_default()).into();
            } else {
                part["text"] = data["part"]["text"].clone();
            }
        }
        for id in order {
            let part = &parts[&id];
            let text = part["text"].as_str().unwrap_or_default();
            match part["type"].as_str().unwrap() {
                "text" => seen.text.push_str(text),
                "reasoning" => seen.reasoning.push_str(text),
                _ => seen.calls.push((
                    part["tool"].as_str().unwrap().to_owned(),
                    part["state"]["input"].clone(),
                )),
            }
        }
        seen
    }

    fn tools(&self) -> Value {
        serde_json::to_value(&self.calls).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_an_endpoint_comes_to_what_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/model-endpoints.json");
    let endpoints: Vec<Endpoint> =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(endpoints.len(), 49);
    let tried = join_all(endpoints.iter().map(Endpoint::tried)).await;
    let wrong: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
