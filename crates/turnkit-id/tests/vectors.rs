//! The table of PROTOCOL 1.4, shared with implementations in other languages: `tests/vectors/execution-id.json`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

use serde_json::Value;
use turnkit_id::{ExecutionId, IdError};

#[test]
fn every_vector_derives_as_written() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/vectors/execution-id.json")).unwrap();
    for case in &cases {
        assert_eq!(derived(case), expected(case), "{}", case["name"]);
    }
    assert!(cases.len() >= 26, "the table lost cases");
}

#[test]
fn every_derived_id_is_one_that_a_header_may_carry() {
    let long = "🦀".repeat(1_000);
    for (project, session) in [("p", "s"), ("a\r\nb", "c\0d"), (" ü ", "%"), (&*long, "s")] {
        let id = ExecutionId::derive(project, session, 1).unwrap();
        assert_eq!(ExecutionId::parse(id.as_str()), Ok(id.clone()));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}

#[test]
fn parse_takes_visible_ascii_of_1_to_256_bytes() {
    let longest = "x".repeat(256);
    for text in ["x", "exec-1", "!~", "a:b:c:d", "%zz", &longest] {
        assert_eq!(ExecutionId::parse(text).unwrap().as_str(), text);
    }
}

#[test]
fn parse_says_what_is_wrong_and_where() {
    let too_long = "x".repeat(257);
    let table = [
        ("", IdError::Empty),
        (&*too_long, IdError::TooLong { length: 257 }),
        ("a b", IdError::InvalidByte { byte: b' ', offset: 1 }),
        ("ab\r\nX-Evil: 1", IdError::InvalidByte { byte: b'\r', offset: 2 }),
        ("\0", IdError::InvalidByte { byte: 0, offset: 0 }),
        ("a\x7f", IdError::InvalidByte { byte: 0x7f, offset: 1 }),
        ("é", IdError::InvalidByte { byte: 0xc3, offset: 0 }),
    ];
    for (text, error) in table {
        assert_eq!(ExecutionId::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(
        ExecutionId::parse("a b").unwrap_err().to_string(),
        "an execution id holds byte 0x20 at offset 1, which is not visible ASCII"
    );
}

fn derived(case: &Value) -> Result<String, String> {
    ExecutionId::derive(
        case["project"].as_str().unwrap(),
        case["session"].as_str().unwrap(),
        case["turnIndex"].as_u64().unwrap(),
    )
    .map(|id| id.to_string())
    .map_err(|error| format!("{error:?}"))
}

fn expected(case: &Value) -> Result<String, String> {
    match (case["id"].as_str(), case["error"].as_str()) {
        (Some(id), None) => Ok(id.into()),
        (None, Some("TurnIndexTooLarge")) => {
            Err(format!("TurnIndexTooLarge {{ turn_index: {} }}", case["turnIndex"]))
        }
        (None, Some(error)) => Err(error.into()),
        _ => panic!("a vector needs an id or an error: {case}"),
    }
}
