//! Text assembly over streams that look like real ones (PROTOCOL 2.3).

use std::fmt::Write;

use turnkit_wire::Event;

use super::AnswerReader;
use crate::{Answer, turn::Settings};

const LIMIT: usize = 1 << 20;

/// What was read out of `stream`, one event a line; an empty line is none.
fn read(stream: &str) -> AnswerReader {
    read_with(stream, LIMIT, None)
}

fn read_with(stream: &str, limit: usize, prompt: Option<&str>) -> AnswerReader {
    let settings = Settings { max_text: limit, ..Settings::default() };
    let mut reader = AnswerReader::new(&settings, prompt);
    for line in stream.lines().filter(|line| !line.trim().is_empty()) {
        let event = Event::from_json(line.trim().as_bytes()).unwrap();
        match event.kind() {
            "message.part.updated" => reader.part(&event),
            "result" => reader.result(&event),
            "warning" => reader.warning(&event),
            _ if event.class().is_interaction() => reader.interaction(&event),
            _ => {}
        }
    }
    reader
}

/// The final text, or the code that refuses it.
fn settle(mut reader: AnswerReader, done: Option<&str>) -> Result<String, String> {
    let settled = reader.settle(done.map(str::to_owned));
    let text = reader.take().into_string();
    settled.map(|()| text).map_err(|error| error.code().unwrap().to_owned())
}

fn text(stream: &str) -> String {
    settle(read(stream), None).unwrap()
}

#[test]
fn deltas_of_one_part() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text","text":""}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text","text":"Once"},"delta":"Once"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text","text":"Once upon"},"delta":" upon"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text","text":"Once upon\n\"a"},"delta":"\n\"a"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","messageID":"m","type":"text","text":"Once upon\n\"a time\""},"delta":" time\""}}
    "#), @r#"
    Once upon
    "a time"
    "#);
}

#[test]
fn cumulative_snapshots_are_not_appended() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One"}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One two"}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","content":"One two three"}}}
    "#), @"One two three");
}

#[test]
fn parts_are_joined_in_order_of_first_appearance_with_tools_between() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"r","type":"reasoning","text":"hmm"},"delta":"hmm"}}
        {"type":"message.part.updated","data":{"part":{"id":"a","type":"text","text":"Let me"},"delta":"Let me"}}
        {"type":"message.part.updated","data":{"part":{"id":"t","type":"tool","tool":"bash","state":{"status":"running"}}}}
        {"type":"message.part.updated","data":{"part":{"id":"b","type":"text","text":"Done."},"delta":"Done."}}
        {"type":"message.part.updated","data":{"part":{"id":"t","type":"tool","text":"not an answer","state":{"status":"completed"}}}}
        {"type":"message.part.updated","data":{"part":{"id":"a","type":"text","text":"Let me look. "},"delta":" look. "}}
        {"type":"message.part.updated","data":{"part":{"id":"b","type":"text","text":"Done. Bye."},"delta":" Bye."}}
    "#), @"
    Let me look. 

    Done. Bye.
    ");
}

#[test]
fn an_empty_snapshot_never_erases() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"kept"}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":""}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":null},"delta":null}}
    "#), @"kept");
}

#[test]
fn a_delta_after_a_snapshot_appends() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"abc"}}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"def"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":""}}
    "#), @"abcdef");
}

#[test]
fn parts_without_an_id_are_one_part() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"type":"text"},"delta":"a"}}
        {"type":"message.part.updated","data":{"part":{"type":"text"},"delta":"b"}}
    "#), @"ab");
}

#[test]
fn escapes_and_lone_surrogates_are_read() {
    insta::assert_snapshot!(text(r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"\u0041\t\\"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"\ud83d\ude00\ud800"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"é"}}
    "#), @r"A	\😀�é");
}

/// A character beyond U+FFFF as JavaScript may cut it.
#[test]
fn a_character_that_two_deltas_share_is_whole() {
    let event = |part: &str, member: &str, text: &str| {
        let part = format!(r#"{{"id":"{part}","type":"text"{member}"#);
        format!(r#"{{"type":"message.part.updated","data":{{"part":{part}"{text}"}}}}"#)
    };
    let delta = |part: &str, delta: &str| event(part, r#"},"delta":"#, delta);
    let snapshot = |text: &str| event("p", r#","text":"#, text) + "}";
    let deltas = |deltas: &[&str]| deltas.iter().map(|text| delta("p", text)).collect();
    let streams: [(Vec<String>, &str); 9] = [
        (deltas(&[r"a\ud83d", "", r"\uDE00b"]), "a😀b"),
        (deltas(&[r"\\\ud83d", r"\ude00\ud83d", r"\ude01"]), r"\😀😁"),
        (vec![snapshot(r"a\uD83D"), delta("p", r"\ude00")], "a😀"),
        // These are no halves of one character.
        (deltas(&[r"\\ud83d", r"\ude00"]), "\\ud83d\u{fffd}"),
        (deltas(&[r"\ud83d", "-", r"\ude00"]), "\u{fffd}-\u{fffd}"),
        (deltas(&[r"\ude00", r"\ud83d", r"\u0041"]), "\u{fffd}\u{fffd}A"),
        (deltas(&[r"\u0041", r"\ude00"]), "A\u{fffd}"),
        (vec![delta("p", r"ab\ud83d"), snapshot("abcde"), delta("p", r"\ude00")], "abcde\u{fffd}"),
        (vec![delta("p", r"\ud83d"), delta("q", r"\ude00")], "\u{fffd}\u{fffd}"),
    ];
    for (stream, expected) in streams {
        assert_eq!(text(&stream.join("\n")), expected, "{stream:?}");
    }
    // The limit counts the character as it is; where that does not fit, there is none of it.
    let stream = deltas(&[r"abc\ud83d", r"\ude00"]).join("\n");
    assert_eq!(settle(read_with(&stream, 7, None), None).unwrap(), "abc😀");
    let mut cut = read_with(&stream, 6, None);
    assert_eq!(cut.settle(None).unwrap_err().code(), Some("text_too_large"));
    assert_eq!(cut.take().as_str(), "abc");
}

const PARTS_AND_RESULT: &str = r#"
    {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"parts"}}
    {"type":"result","data":{"finalText":"result"}}
    {"type":"result","data":{"finalText":" \n "}}
    {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":" more"}}
"#;

#[test]
fn the_first_text_that_is_not_blank_wins() {
    assert_eq!(settle(read(PARTS_AND_RESULT), Some("done")).unwrap(), "done");
    assert_eq!(settle(read(PARTS_AND_RESULT), Some(" ")).unwrap(), "result");
    assert_eq!(settle(read(PARTS_AND_RESULT), None).unwrap(), "result");
    let blank = PARTS_AND_RESULT.replace(r#""finalText":"result""#, r#""finalText":"\t""#);
    assert_eq!(settle(read(&blank), Some("")).unwrap(), "parts more");
    let two = r#"
        {"type":"result","data":{"finalText":"first"}}
        {"type":"result","data":{"finalText":"second"}}
    "#;
    assert_eq!(text(two), "second");
}

#[test]
fn without_any_part_and_any_text_there_is_no_answer() {
    for (stream, done) in [
        ("", None),
        ("", Some(" \n")),
        (r#"{"type":"result","data":{"finalText":" "}}"#, None),
        (r#"{"type":"result"}"#, None),
        (r#"{"type":"result","data":{"finalText":7}}"#, None),
    ] {
        assert_eq!(settle(read(stream), done).unwrap_err(), "empty_answer", "{stream}");
    }
}

#[test]
fn a_part_without_text_is_an_answer() {
    let tool = r#"{"type":"message.part.updated","data":{"part":{"id":"t","type":"tool"}}}"#;
    assert_eq!(text(tool), "");
    assert_eq!(text(r#"{"type":"message.part.updated"}"#), "");
}

#[test]
fn a_text_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut_at_a_character() {
    let deltas = |texts: &[&str]| {
        texts.iter().fold(String::new(), |mut stream, text| {
        writeln!(stream, r#"{{"type":"message.part.updated","data":{{"part":{{"id":"p","type":"text"}},"delta":"{text}"}}}}"#).unwrap();
        stream
    })
    };
    assert_eq!(settle(read_with(&deltas(&["abcd", "é"]), 6, None), None).unwrap(), "abcdé");
    let mut cut = read_with(&deltas(&["abcd", "é", "x"]), 5, None);
    assert_eq!(cut.settle(None).unwrap_err().code(), Some("text_too_large"));
    // After the cut nothing is appended: the partial text has no hole.
    assert_eq!(cut.take().as_str(), "abcd");
    assert_eq!(settle(read_with(&deltas(&["abcd", "é"]), 5, None), Some("done")).unwrap(), "done");
    assert_eq!(settle(read_with("", 5, None), Some("abcde")).unwrap(), "abcde");
    let long = read_with("", 5, None);
    assert_eq!(settle(long, Some("abcdef")).unwrap_err(), "text_too_large");
    let mut result = read_with(r#"{"type":"result","data":{"finalText":"ab€cd"}}"#, 4, None);
    assert_eq!(result.settle(None).unwrap_err().code(), Some("text_too_large"));
    assert_eq!(result.take().as_str(), "ab");
}

#[test]
fn a_text_that_was_cut_goes_on_in_no_other_part() {
    let delta = |id: &str, delta: &str| {
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"id":"{id}","type":"text"}},"delta":"{delta}"}}}}"#
        )
    };
    let partial = |deltas: [String; 4]| {
        let mut reader = read_with(&deltas.join("\n"), 6, None);
        assert_eq!(reader.settle(None).unwrap_err().code(), Some("text_too_large"));
        reader.take().into_string()
    };
    let cut = [delta("a", "abcd"), delta("b", "x"), delta("a", "€"), delta("b", "y")];
    assert_eq!(partial(cut), "abcd");
    // There is no room even for this id.
    let endless = "e".repeat(20_000);
    let lost = [delta("a", "ab"), delta(&endless, "cd"), delta("b", "ef"), delta("a", "!")];
    assert_eq!(partial(lost), "ab!");
}

#[test]
fn a_snapshot_that_fits_heals_a_part_that_was_cut() {
    let stream = r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"abcdefgh"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"abc"}}}
        {"type":"message.part.updated","data":{"part":{"id":"q","type":"text","text":"de"}}}
    "#;
    assert_eq!(settle(read_with(stream, 5, None), None).unwrap(), "abcde");
}

#[test]
fn countless_tiny_parts_are_bounded() {
    // 132 parts of 128 bytes besides an id of 4: 16 KiB of them are free, and 1040 bytes fill the limit.
    let mut reader = read_with("", 1040, None);
    for part in 0..10_000 {
        let part = format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"id":"{part:04}","type":"text"}},"delta":""}}}}"#
        );
        reader.part(&Event::from_json(part.as_bytes()).unwrap());
    }
    assert_eq!(reader.assembly.parts(), 132);
    assert_eq!(reader.settle(None).unwrap_err().code(), Some("text_too_large"));
}

#[test]
fn what_is_shown_for_debugging_is_a_length_and_never_the_text() {
    let mut reader = read(r#"{"type":"result","data":{"finalText":"secret"}}"#);
    let raw = reader.take();
    assert_eq!(format!("{raw:?}"), "RawText(6 bytes)");
    assert_eq!(format!("{:?}", raw.transformed("secrets".into())), "FinalText(7 bytes)");
    assert_eq!(format!("{:?}", Answer::from("secret".to_owned())), "Answer(6 bytes, 1 parts)");
}

const ECHO: &str = r#"
    {"type":"message.part.updated","data":{"part":{"id":"u","messageID":"user","type":"text","text":"hello"}}}
    {"type":"message.part.updated","data":{"part":{"id":"s","messageID":"bot","type":"step-start"}}}
    {"type":"message.part.updated","data":{"part":{"id":"a","messageID":"bot","type":"text"},"delta":"hello"}}
    {"type":"message.part.updated","data":{"part":{"id":"u","messageID":"user","type":"text","text":"hello"}}}
    {"type":"message.part.updated","data":{"part":{"id":"a","messageID":"bot","type":"text"},"delta":" you"}}
"#;

#[test]
fn an_echoed_prompt_counts_in_no_text() {
    let echoed = read_with(ECHO, LIMIT, Some("hello"));
    assert_eq!(settle(echoed, None).unwrap(), "hello you");
}

#[test]
fn a_first_part_that_is_not_the_prompt_or_whose_message_is_the_only_one_counts() {
    assert_eq!(settle(read_with(ECHO, LIMIT, Some("hell")), None).unwrap(), "hello\n\nhello you");
    assert_eq!(settle(read_with(ECHO, LIMIT, None), None).unwrap(), "hello\n\nhello you");
    let alone = r#"
        {"type":"message.part.updated","data":{"part":{"id":"a","messageID":"bot","type":"text","text":"hello"}}}
        {"type":"message.part.updated","data":{"part":{"id":"s","messageID":"bot","type":"step-finish"}}}
    "#;
    assert_eq!(settle(read_with(alone, LIMIT, Some("hello")), None).unwrap(), "hello");
}

#[test]
fn a_part_without_a_message_between_hides_no_echo() {
    let stream = r#"
        {"type":"message.part.updated","data":{"part":{"id":"u","messageID":"user","type":"text","text":"hello"}}}
        {"type":"message.part.updated","data":{"part":{"id":"n","type":"text","text":"well, "}}}
        {"type":"message.part.updated","data":{"part":{"id":"a","messageID":"bot","type":"text","text":"you"}}}
    "#;
    assert_eq!(settle(read_with(stream, LIMIT, Some("hello")), None).unwrap(), "well, you");
}

#[test]
fn an_echo_over_the_limit_is_one_all_the_same() {
    let stream = r#"
        {"type":"message.part.updated","data":{"part":{"id":"u","messageID":"user","type":"text","text":"a long question"}}}
        {"type":"message.part.updated","data":{"part":{"id":"a","messageID":"bot","type":"text"},"delta":"yes"}}
    "#;
    assert_eq!(settle(read_with(stream, 6, Some("a long question")), None).unwrap(), "yes");
    for other in ["a long", "another question"] {
        let settled = settle(read_with(stream, 6, Some(other)), None);
        assert_eq!(settled.unwrap_err(), "text_too_large");
    }
}

#[test]
fn an_echo_gives_its_room_back() {
    assert_eq!(settle(read_with(ECHO, 9, Some("hello")), None).unwrap(), "hello you");
}

/// The short way through deltas must say what the view says.
mod template {
    use super::*;

    /// Each line after the first is like a template learnt from the first, in one respect not.
    #[test]
    fn lines_that_differ_outside_the_strings_are_read_anew() {
        let first = r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"a"},"delta":"a"}}"#;
        for (line, expected) in [
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"q","type":"text","text":"b"},"delta":"b"}}"#,
                "ab",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"tool","text":"b"},"delta":"b"}}"#,
                "a",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"b"},"delta":"b"},"n":1}"#,
                "ab",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"b"},"delta":"b","delta":"c"}}"#,
                "ac",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"b","text":"c"},"delta":"b"}}"#,
                "ab",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"\"},\"delta\":\"x"},"delta":"b"}}"#,
                "ab",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"\\"},"delta":"b\\"}}"#,
                r"ab\",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":""},"delta":""}}"#,
                "a",
            ),
            (
                r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"a"},"delta":null}}"#,
                "a",
            ),
        ] {
            assert_eq!(text(&format!("{first}\n{line}")), expected, "{line}");
        }
    }

    #[test]
    fn the_delta_may_stand_before_the_text_or_alone() {
        for shape in [
            r#"{"type":"message.part.updated","data":{"delta":"DELTA","part":{"id":"p","type":"text","text":"TEXT"}}}"#,
            r#"{"type":"message.part.updated","data":{"part":{"id":"p","text":"TEXT","type":"text"},"delta":"DELTA"}}"#,
            r#"{"type":"message.part.updated","data":{"part":{"id":"p","type":"text"},"delta":"DELTA"}}"#,
            r#"{"type":"message.part.updated","data":{"delta":"DELTA","part":{"id":"p","type":"text"}}}"#,
        ] {
            let stream = ["one", " tw\\no", "", " three", "€", " \\\" \\\\", " four"];
            let lines = stream.map(|delta| {
                shape.replace("DELTA", delta).replace("TEXT", &format!("so far{delta}"))
            });
            assert_eq!(text(&lines.join("\n")), "one tw\no three€ \" \\ four", "{shape}");
        }
    }

    #[test]
    fn a_learnt_line_is_recognised() {
        let line = |delta: &str| {
            let line = format!(
                r#"{{"type":"message.part.updated","data":{{"part":{{"id":"p","type":"text","text":"x{delta}"}},"delta":"{delta}"}}}}"#
            );
            Event::from_json(line.as_bytes()).unwrap()
        };
        let mut reader = read("");
        reader.part(&line("one"));
        assert_eq!(reader.template.read(line(" two").as_line()), Some((0, " two")));
        assert_eq!(reader.template.read(line("\\n").as_line()), None);
    }
}

/// A `message.part.updated` of a text part.
fn delta(part: &str, message: &str, delta: &str) -> String {
    format!(
        r#"{{"type":"message.part.updated","data":{{"part":{{"id":"{part}","messageID":"{message}","type":"text"}},"delta":"{delta}"}}}}"#
    )
}

const TOOL: &str = r#"{"type":"message.part.updated","data":{"part":{"id":"t","messageID":"m","type":"tool","tool":"bash","state":{"status":"running"}}}}"#;

#[test]
fn a_blank_line_stands_between_messages_and_around_tools_only() {
    let cases: [(&[String], &str); 8] = [
        (&[delta("a", "m", "one"), delta("b", "m", "two")], "onetwo"),
        (&[delta("a", "m", "one"), delta("b", "n", "two")], "one\n\ntwo"),
        (&[delta("a", "m", "one"), TOOL.into(), delta("b", "m", "two")], "one\n\ntwo"),
        (&[delta("a", "m", "one\\n"), delta("b", "n", "two")], "one\n\ntwo"),
        (&[delta("a", "m", "one\\n"), delta("b", "n", "\\r\\ntwo")], "one\n\r\ntwo"),
        (&[delta("a", "m", "one\\n\\n\\n"), delta("b", "n", "two")], "one\n\n\ntwo"),
        (&[delta("a", "m", "one"), delta("b", "n", " \\n"), delta("c", "m", "two")], "onetwo"),
        // A part that goes on after a tool stays where it was.
        (&[delta("a", "m", "one"), TOOL.into(), delta("a", "m", "two")], "onetwo"),
    ];
    for (stream, expected) in cases {
        assert_eq!(text(&stream.join("\n")), expected, "{stream:?}");
    }
}

#[test]
fn a_final_text_that_says_nothing_new_leaves_the_parts() {
    let parts = [delta("a", "m", "Let me look."), TOOL.into(), delta("b", "n", "Done.")].join("\n");
    let result = |text: &str| {
        format!("{parts}\n{{\"type\":\"result\",\"data\":{{\"finalText\":\"{text}\"}}}}")
    };
    for known in ["Let me look.\\n\\nDone.", "Let me look.Done.", "Done.", "Done.\\n"] {
        let mut reader = read(&result(known));
        reader.settle(None).unwrap();
        let raw = reader.take();
        assert_eq!(raw.as_str(), "Let me look.\n\nDone.", "{known}");
        assert_eq!(raw.answer().parts.len(), 3, "{known}");
        assert_eq!(raw.clone().transformed(raw.as_str().to_owned()).unseen(), None);
    }
    let mut reader = read(&result("Something else."));
    reader.settle(None).unwrap();
    let kept = reader.take();
    assert_eq!(kept.as_str(), "Something else.");
    insta::assert_snapshot!(json(kept.answer()), @r##"
    {"id":"t","messageID":"m","type":"tool","tool":"bash","state":{"status":"running"}}
    {"id":"b","type":"text","text":"Something else."}
    {}
    "##);
    // Only what a client has not drawn is told again.
    assert_eq!(kept.transformed("Something else.".to_owned()).unseen(), None);
    let mut reader = read(&parts);
    reader.settle(Some("From the end.".to_owned())).unwrap();
    let raw = reader.take();
    assert_eq!(raw.transformed("From the end.".to_owned()).unseen(), Some("From the end."));
}

fn json(answer: &Answer) -> String {
    let parts: Vec<&str> = answer.parts.iter().map(crate::AnswerPart::as_json).collect();
    format!("{}\n{}", parts.join("\n"), answer.summary.to_json())
}

const EVERY_PART: &str = r#"
    {"type":"warning","data":{"code":"history_omitted","message":"2 turns were left out"}}
    {"type":"message.part.updated","data":{"part":{"id":"r","messageID":"m","type":"reasoning"},"delta":"hm"}}
    {"type":"message.part.updated","data":{"part":{"id":"r","messageID":"m","type":"reasoning"},"delta":"m"}}
    {"type":"message.part.updated","data":{"part":{"id":"t","type":"tool","tool":"bash","callID":"c","state":{"status":"pending"}},"delta":"{\"a\""}}
    {"type":"message.part.updated","data":{"part":{"id":"t","type":"tool","tool":"bash","callID":"c","state":{"status":"pending"}},"delta":":1"}}
    {"type":"message.part.updated","data":{"part":{"type":"tool","tool":"read","callID":"d","state":{"status":"pending"}},"delta":"{"}}
    {"type":"message.part.updated","data":{"part":{"type":"tool","tool":"read","callID":"d","state":{"status":"completed","input":{"f":1E5},"output":"\u0041\ud800"}}}}
    {"type":"message.part.updated","data":{"part":{"id":"f","type":"file","url":"https://x/y.png","mediaType":"image/png"}}}
    {"type":"message.part.updated","data":{"part":{"id":"s","type":"source","url":"https://x","title":"X"}}}
    {"type":"message.part.updated","data":{"part":{"id":"step","type":"step-start"}}}
    {"type":"message.part.updated","data":{"part":{"id":"a","type":"text","text":"Hello"}}}
    {"type":"message.part.updated","data":{"part":{"id":"d","type":"data","name":"price","data":[1]}}}
    {"type":"result","data":{"finishReason":"length","model":"m-1","tokenUsage":{"inputTokens":2,"outputTokens":3,"reasoningTokens":1},"timing":{"totalMs":9}}}
"#;

#[test]
fn an_answer_keeps_every_part_as_of_its_last_event_and_what_its_agent_told() {
    let mut reader = read(EVERY_PART);
    reader.settle(None).unwrap();
    insta::assert_snapshot!(json(reader.take().answer()), @r##"
    {"type":"warning","code":"history_omitted","message":"2 turns were left out"}
    {"id":"r","messageID":"m","type":"reasoning","text":"hmm"}
    {"id":"t","type":"tool","tool":"bash","callID":"c","state":{"status":"pending","raw":"{\"a\":1"}}
    {"type":"tool","tool":"read","callID":"d","state":{"status":"completed","input":{"f":1E5},"output":"\u0041\ud800"}}
    {"id":"f","type":"file","url":"https://x/y.png","mediaType":"image/png"}
    {"id":"s","type":"source","url":"https://x","title":"X"}
    {"id":"a","type":"text","text":"Hello"}
    {"id":"d","type":"data","name":"price","data":[1]}
    {"finishReason":"length","model":"m-1","tokenUsage":{"inputTokens":2,"outputTokens":3,"reasoningTokens":1},"timing":{"totalMs":9}}
    "##);
}

#[test]
fn an_answer_is_read_from_its_own_replay() {
    let mut reader = read(EVERY_PART);
    reader.settle(None).unwrap();
    let answer = reader.take().answer().clone();
    let events: Vec<Event> = answer.parts.iter().map(crate::AnswerPart::event).collect();
    let lines: Vec<&str> = events.iter().map(Event::as_json).collect();
    let summary = answer.summary.event(Some(&answer.text));
    let mut again = read(&format!("{}\n{}", lines.join("\n"), summary.as_json()));
    again.settle(None).unwrap();
    assert_eq!(json(again.take().answer()), json(&answer));
    let kept =
        answer.parts.iter().map(|part| crate::AnswerPart::from_json(part.as_json()).unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), *answer.parts);
}

#[test]
fn parts_beyond_the_limit_say_that_they_were_cut() {
    let settings = Settings { max_parts: 1000, ..Settings::default() };
    let mut reader = AnswerReader::new(&settings, None);
    let output = "\\\"o\\\" ".repeat(10_000);
    for line in [
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"id":"t","type":"tool","tool":"bash","state":{{"status":"completed","input":[1],"output":"{output}"}}}}}}}}"#
        ),
        format!(
            r#"{{"type":"message.part.updated","data":{{"part":{{"id":"r","type":"reasoning","text":"{}"}}}}}}"#,
            "é".repeat(500)
        ),
        r#"{"type":"message.part.updated","data":{"part":{"id":"f","type":"file","url":"data:"}}}"#
            .to_owned(),
        r#"{"type":"message.part.updated","data":{"part":{"id":"a","type":"text","text":"Hello"}}}"#
            .to_owned(),
    ] {
        reader.part(&Event::from_json(line.as_bytes()).unwrap());
    }
    reader.settle(None).unwrap();
    let raw = reader.take();
    let parts = json(raw.answer());
    assert!(parts.len() < 1200, "{} bytes", parts.len());
    insta::assert_snapshot!(parts, @r##"
    {"id":"t","type":"tool","cut":true,"tool":"bash","state":{"status":"completed","input":[1],"output":"\"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \"o\" \""}}
    {"id":"r","type":"reasoning","cut":true,"text":"éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé"}
    {"id":"a","type":"text","text":"Hello"}
    {}
    "##);
}

#[test]
fn an_input_that_was_taken_stands_between_two_halves() {
    let mut reader = read(
        r#"
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One"},"delta":"One"}}
        {"type":"input","data":{"id":"i","message":"and?"}}
        {"type":"input","data":{"id":"never","message":"nobody hears this"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One."},"delta":"."}}
        {"type":"input.taken","data":{"id":"i"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One.Two"},"delta":"Two"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One.Two."}}}
        {"type":"interaction","data":{"id":"q","kind":"approval"}}
        {"type":"message.part.updated","data":{"part":{"id":"p","type":"text","text":"One.Two."},"delta":" Three."}}
        {"type":"interaction.answered","data":{"id":"q","outcome":"accepted","by":"ann"}}
        {"type":"interaction","data":{"type":"text","id":"odd"}}
    "#,
    );
    let answer = reader.take().answer().clone();
    let parts: Vec<&str> = answer.parts.iter().map(crate::AnswerPart::as_json).collect();
    insta::assert_snapshot!(parts.join("\n"), @r##"
    {"id":"p","type":"text","text":"One."}
    {"type":"input","id":"i","message":"and?"}
    {"id":"p#2","type":"text","text":"Two. Three."}
    {"type":"interaction","id":"q","kind":"approval"}
    {"type":"interaction.answered","id":"q","outcome":"accepted","by":"ann"}
    "##);
    assert_eq!(answer.text, "One.\n\nTwo. Three.");
    let halves = answer.halves();
    let said: Vec<_> = halves.iter().map(|half| (half.said(), &*half.answer.text)).collect();
    let input = ("i".to_owned(), Some("and?".to_owned()));
    assert_eq!(said, [(None, "One."), (Some(input), "Two. Three.")]);
    // Each is told by its own event again, and read as what it was.
    for part in answer.parts.iter() {
        assert_eq!(part.event().kind().starts_with("message."), part.kind().is_part());
        assert_eq!(&crate::AnswerPart::from_json(part.as_json()).unwrap(), part);
    }
}

#[test]
fn a_snapshot_behind_an_input_is_the_whole() {
    let text = |rest: &str| {
        text(&format!(
            r#"
        {{"type":"message.part.updated","data":{{"part":{{"id":"p","type":"text","text":"One. "}}}}}}
        {{"type":"input","data":{{"id":"i","message":"and?"}}}}
        {{"type":"input.taken","data":{{"id":"i"}}}}
        {{"type":"message.part.updated","data":{{"part":{{"id":"p","type":"text","text":"{rest}"}}}}}}
        "#
        ))
    };
    assert_eq!(text("One. Two."), "One. \n\nTwo.");
    assert_eq!(text("Another."), "Another.");
}
