//! What the published clients hold at the end of a turn (`tests/vectors/ui/`): live, and at rest.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod clients;

use std::{fs, path::Path};

use serde_json::Value;
use turnkit_ui::{AgUi, AiSdk, Chunks, Encoder, Version, ag_ui_messages, ui_message};
use turnkit_wire::{Event, ndjson::Decoder};

use self::clients::{AgUiClient, UiClient, frames};

fn cases() -> Vec<(String, Vec<Event>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/ui");
    let mut cases = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if let Some(stem) = path.to_str().unwrap().strip_suffix(".turnkit.ndjson") {
            let mut decoder = Decoder::new();
            decoder.push(fs::read(&path).unwrap().into());
            cases.push((
                stem.to_owned(),
                std::iter::from_fn(|| decoder.next_event()).map(Result::unwrap).collect(),
            ));
        }
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(cases.len() >= 14);
    cases
}

fn expected(stem: &str, kind: &str) -> Value {
    serde_json::from_slice(&fs::read(format!("{stem}.{kind}.json")).unwrap()).unwrap()
}

fn ai_sdk() -> AiSdk {
    AiSdk::new("local:s:0").turn_id("t")
}

fn ag_ui() -> AgUi {
    AgUi::new("s", "t", "local:s:0")
}

fn encode(mut encoder: impl Encoder, events: &[Event]) -> String {
    let mut chunks = Chunks::new();
    for event in events {
        encoder.event(event, &mut chunks);
    }
    assert!(chunks.is_ended());
    String::from_utf8(chunks.take().to_vec()).unwrap()
}

#[test]
fn the_ai_sdk_holds_the_message_that_its_client_made() {
    for (stem, events) in cases() {
        for version in [Version::V5, Version::V6, Version::V7] {
            let chunks = encode(ai_sdk().version(version), &events);
            let client = UiClient::read(&frames(chunks.as_bytes())).unwrap();
            let mut expected = expected(&stem, "ui-message");
            assert_eq!(client.message(), expected, "{stem} {version:?}");
            assert!(client.is_done, "{stem}");
            let rest: Value =
                serde_json::from_str(&ui_message(ai_sdk().version(version), &events)).unwrap();
            if version == Version::V5 {
                for part in expected["parts"].as_array_mut().unwrap() {
                    part.as_object_mut().unwrap().remove("title");
                }
            }
            assert_eq!(rest, expected, "{stem} {version:?} at rest");
        }
    }
}

#[test]
fn ag_ui_holds_the_messages_that_its_client_made() {
    for (stem, events) in cases() {
        let client = AgUiClient::read(&frames(encode(ag_ui(), &events).as_bytes())).unwrap();
        let expected = expected(&stem, "ag-ui-messages");
        assert_eq!(Value::Array(client.messages), expected, "{stem}");
        assert!(client.ended.is_some(), "{stem}");
        let rest = format!("[{}]", ag_ui_messages(ag_ui(), &events).join(","));
        assert_eq!(serde_json::from_str::<Value>(&rest).unwrap(), expected, "{stem} at rest");
    }
}

#[test]
fn chunks() {
    for (stem, events) in cases() {
        if stem.ends_with("demo") {
            continue;
        }
        let name = Path::new(&stem).file_name().unwrap().to_str().unwrap();
        insta::assert_snapshot!(format!("{name}.ai-sdk"), encode(ai_sdk(), &events));
        insta::assert_snapshot!(format!("{name}.ag-ui"), encode(ag_ui(), &events));
    }
}
