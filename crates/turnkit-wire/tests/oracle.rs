//! The parser against a second one that follows the text of WHATWG HTML 9.2.6 word by word, on random streams.
//!
//! `PROPTEST_CASES=1000000` makes it a long run.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use proptest::prelude::*;
use turnkit_wire::sse::Parser;

#[derive(Debug, Default, PartialEq)]
struct Parsed {
    frames: Vec<(String, String, String)>,
    last_event_id: String,
    retry: Option<u64>,
}

/// The algorithm as it stands in the specification: decode everything, split into lines, process each.
fn specified(stream: &[u8]) -> Parsed {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut parsed = Parsed::default();
    let (mut data, mut event_type, mut id_buffer) = (String::new(), String::new(), String::new());
    for line in complete_lines(text) {
        if line.is_empty() {
            parsed.last_event_id.clone_from(&id_buffer);
            if data.is_empty() {
                event_type.clear();
                continue;
            }
            data.pop();
            let name = if event_type.is_empty() {
                "message".into()
            } else {
                core::mem::take(&mut event_type)
            };
            parsed.frames.push((name, core::mem::take(&mut data), id_buffer.clone()));
            continue;
        }
        let (field, value) = match line.split_once(':') {
            Some((field, value)) => (field, value.strip_prefix(' ').unwrap_or(value)),
            None => (line.as_str(), ""),
        };
        match field {
            "event" => value.clone_into(&mut event_type),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id_buffer),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                parsed.retry = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
    }
    parsed
}

/// Lines ended by CRLF, LF or CR; an unterminated one does not count.
fn complete_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => lines.push(core::mem::take(&mut line)),
            '\r' => {
                characters.next_if_eq(&'\n');
                lines.push(core::mem::take(&mut line));
            }
            _ => line.push(character),
        }
    }
    lines
}

fn ours(stream: &[u8], cuts: &[usize]) -> Parsed {
    let mut parser = Parser::new();
    let mut parsed = Parsed::default();
    let mut rest = stream;
    for cut in cuts {
        let (chunk, behind) = rest.split_at((*cut).min(rest.len()));
        rest = behind;
        feed(&mut parser, chunk, &mut parsed);
    }
    feed(&mut parser, rest, &mut parsed);
    parsed.last_event_id = parser.last_event_id().into();
    parsed.retry = parser.retry_ms();
    parsed
}

fn feed(parser: &mut Parser, chunk: &[u8], parsed: &mut Parsed) {
    let take = |frame: turnkit_wire::sse::Frame<'_>| {
        let data = String::from_utf8(frame.data().to_vec()).unwrap();
        parsed.frames.push((frame.event().into(), data, frame.id().into()));
    };
    parser.feed(chunk, take).unwrap();
}

/// Pieces of which streams with meaning, and nearly with meaning, are likely to come.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    const TOKENS: [&[u8]; 30] = [
        b"data",
        b"data:",
        b"data: ",
        b"event:",
        b"event: ",
        b"event",
        b"id:",
        b"id: ",
        b"id",
        b"retry:",
        b"retry: 1",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xe2\x82",
        b"\xac",
        b"\xf0\x9f\x98\x80",
        b"7",
        b"dat",
        b"datax",
        b"some longer text of plain words, over thirty-two bytes",
        "é€".as_bytes(),
        b"99999999999999999999999",
        b"\x0b\t",
    ];
    prop_oneof![
        20 => prop::sample::select(TOKENS.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_streams_parse_as_specified(stream in stream(), cuts in prop::collection::vec(0usize..9, 0..40)) {
        let expected = specified(&stream);
        prop_assert_eq!(&ours(&stream, &[]), &expected);
        prop_assert_eq!(&ours(&stream, &cuts), &expected);
        let every_byte = vec![1; stream.len()];
        prop_assert_eq!(&ours(&stream, &every_byte), &expected);
    }
}
