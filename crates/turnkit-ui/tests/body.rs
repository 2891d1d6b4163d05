//! The body of a response: how it is cut and resumed, where it ends, and when it fails.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod clients;
mod turns;

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::executor::block_on;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use turnkit_ui::{
    AgUi, AiSdk, Chunks, Cut, Encoded, Encoder, Version, ag_ui_messages, messages_snapshot,
    request::RunAgentInput, ui_message,
};
use turnkit_wire::Event;

use self::{
    clients::{AgUiClient, UiClient, frames},
    turns::{
        answered, any_turn, completed, failed, interaction, lines, replayed, started, text, tool,
    },
};

/// A body of these chunks; it waits once before each.
struct Pieces<E = Infallible> {
    pieces: VecDeque<Result<Bytes, E>>,
    waits: bool,
}

impl Pieces {
    fn of(bytes: &[u8], cuts: &[usize]) -> Self {
        let mut pieces = VecDeque::new();
        let mut rest = bytes;
        for cut in cuts {
            let (piece, after) = rest.split_at(cut % (rest.len() + 1));
            pieces.push_back(Ok(Bytes::copy_from_slice(piece)));
            rest = after;
        }
        pieces.push_back(Ok(Bytes::copy_from_slice(rest)));
        Self { pieces, waits: true }
    }
}

impl<E: Unpin> Body for Pieces<E> {
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        self.waits = !self.waits;
        if !self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.pieces.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

type Read = (Vec<u8>, Option<Cut>);

fn read(mut body: impl Body<Data = Bytes, Error = Cut> + Unpin) -> Read {
    let mut bytes = Vec::new();
    loop {
        match block_on(body.frame()) {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(cut)) => return (bytes, Some(cut)),
            None => return (bytes, None),
        }
    }
}

fn whole(body: impl Body<Data = Bytes, Error = Cut> + Unpin) -> Vec<u8> {
    let (bytes, cut) = read(body);
    assert!(cut.is_none(), "{cut:?}");
    bytes
}

fn ai_sdk() -> AiSdk {
    AiSdk::new("local:s:0")
}

fn ag_ui() -> AgUi {
    AgUi::new("s", "t", "local:s:0")
}

fn encoded<E: Encoder + Unpin>(turn: &[Event], encoder: E) -> Encoded<Pieces, E> {
    Encoded::new(Pieces::of(&lines(turn), &[]), encoder)
}

/// A question's card, and what was answered.
fn approval() -> Vec<Event> {
    let state = json!({"status": "pending", "input": {"command": "rm"}});
    vec![
        started(),
        text("p1", "May I?"),
        tool("t1", state),
        interaction(
            json!({"id": "q1", "kind": "approval", "callId": "call_t1", "message": "remove?"}),
        ),
        answered(json!({"id": "q1", "outcome": "accepted", "by": "u"})),
        tool("t1", json!({"status": "completed", "input": {"command": "rm"}, "output": "gone"})),
        text("p1", "Done."),
        completed(),
    ]
}

fn question() -> Vec<Event> {
    vec![
        started(),
        interaction(
            json!({"id": "q1", "kind": "question", "message": "which?", "options": [{"id": "a", "label": "A"}]}),
        ),
        answered(json!({"id": "q1", "outcome": "accepted", "data": {"id": "a"}})),
        text("p1", "A it is."),
        completed(),
    ]
}

fn client_tool() -> Vec<Event> {
    vec![
        started(),
        interaction(
            json!({"id": "q1", "kind": "tool", "callId": "c1", "tool": "where", "input": {"exact": true}}),
        ),
        answered(json!({"id": "q1", "outcome": "accepted", "data": "home"})),
        text("p1", "At home."),
        completed(),
    ]
}

#[test]
fn a_body_that_ends_without_an_end_is_an_error_behind_all_that_was_there() {
    let turn = [started(), text("p1", "Half")];
    let (bytes, cut) = read(encoded(&turn, ai_sdk()));
    assert!(matches!(cut, Some(Cut::Ended)));
    assert_eq!(frames(&bytes).len(), 4);
    let (bytes, cut) = read(encoded(&turn, ag_ui()));
    assert!(matches!(cut, Some(Cut::Ended)));
    assert_eq!(frames(&bytes).len(), 3);
}

#[test]
fn a_body_that_fails_or_is_none_is_an_error() {
    let broken = io::Error::other("reset");
    let pieces = VecDeque::from([Ok(lines(&[started()]).into()), Err(broken)]);
    let (bytes, cut) = read(Encoded::new(Pieces { pieces, waits: true }, ai_sdk()));
    assert!(matches!(cut, Some(Cut::Body(error)) if error.to_string() == "reset"));
    assert_eq!(frames(&bytes).len(), 2);
    let (_, cut) = read(Encoded::new(Pieces::of(b"<html>\n", &[]), ai_sdk()));
    assert!(matches!(cut, Some(Cut::Line(_))));
}

#[test]
fn nothing_follows_the_end_and_the_body_behind_it_is_not_waited_for() {
    let mut turn = vec![started(), completed()];
    turn.push(text("p1", "late"));
    let mut bytes = lines(&turn);
    bytes.extend_from_slice(b"no line at all");
    let body = Encoded::new(Pieces::of(&bytes, &[]), ai_sdk());
    assert!(whole(body).ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn a_keep_alive_is_a_comment() {
    let turn = [started(), completed()];
    let (first, second) = (lines(&turn[..1]), lines(&turn[1..]));
    let pieces = [first.into(), Bytes::from_static(b"\n"), second.into()].map(Ok::<_, Infallible>);
    let bytes = whole(Encoded::new(Pieces { pieces: pieces.into(), waits: true }, ai_sdk()));
    assert_eq!(bytes.windows(4).filter(|window| window == b"\n:\n\n").count(), 1);
}

#[test]
fn ndjson_has_the_number_beside_the_chunk() {
    let body = whole(encoded(&[started(), completed()], ag_ui()).ndjson().after(0));
    let text = String::from_utf8(body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({"id": "1", "chunk": {"type": "RUN_STARTED", "threadId": "s", "runId": "t"}})
    );
    assert_eq!(lines[1]["type"], "RUN_FINISHED");
}

#[test]
fn a_replay_has_no_numbers_and_who_has_chunks_gets_one_error_in_its_place() {
    let turn = [replayed(), text("p1", "Hello"), completed()];
    let all = frames(&whole(encoded(&turn, ai_sdk())));
    assert!(all.iter().all(|(id, _)| id.is_none()));
    assert_eq!(UiClient::read(&all).unwrap().message()["parts"][1]["text"], "Hello");
    let rest = frames(&whole(encoded(&turn, ai_sdk()).after(3)));
    assert_eq!(rest.len(), 2);
    assert!(rest[0].1.contains(r#""type":"error""#) && rest[0].1.contains("cursor_expired"));
    let rest = frames(&whole(encoded(&turn, ag_ui()).after(3)));
    assert_eq!(rest.len(), 1);
    assert_eq!(AgUiClient::read(&rest).unwrap().ended.unwrap()["code"], "cursor_expired");
    // Where the log was lost under a reader's eyes it begins anew.
    let lost = [started(), text("p1", "Hel"), replayed(), text("p1", "Hello"), completed()];
    assert!(
        UiClient::read(&frames(&whole(encoded(&lost, ai_sdk())))).unwrap().ended.unwrap()
            == "error"
    );
    // Nothing but the start had come: that is no reason to begin anew.
    let early = [started(), replayed(), text("p1", "Hello"), completed()];
    let all = frames(&whole(encoded(&early, ai_sdk())));
    assert_eq!(UiClient::read(&all).unwrap().message()["parts"].as_array().unwrap().len(), 2);
    assert_eq!(all.iter().filter(|(id, _)| id.is_some()).count(), 2);
}

#[test]
fn a_cursor_beyond_the_counted_chunks_is_given_what_is_left_of_the_end_and_always_the_last() {
    let turn = [started(), text("p1", "Hi"), completed()];
    let kinds = |after| {
        let frames = frames(&whole(encoded(&turn, ai_sdk()).after(after)));
        let kind = |data: &str| {
            serde_json::from_str::<Value>(data)
                .map_or_else(|_| data.into(), |it| it["type"].clone())
        };
        frames.iter().map(|(_, data)| kind(data)).collect::<Vec<Value>>()
    };
    assert_eq!(kinds(4), ["text-end", "finish-step", "finish", "[DONE]"]);
    assert_eq!(kinds(5), ["finish-step", "finish", "[DONE]"]);
    assert_eq!(kinds(6), ["finish", "[DONE]"]);
    assert_eq!(kinds(999), ["finish", "[DONE]"]);
}

#[test]
fn a_question_that_waits_ends_the_response_and_the_answer_goes_on_to_the_same_message() {
    for turn in [approval(), question(), client_tool()] {
        for version in [Version::V5, Version::V6, Version::V7] {
            let encoder = || ai_sdk().version(version);
            let asked =
                whole(encoded(&turn, encoder()).asking(|id| std::future::ready(id == "q1")));
            let asked = frames(&asked);
            let mut client = UiClient::read(&asked).unwrap();
            let counted = asked.iter().filter_map(|(id, _)| *id).max().unwrap();
            assert!(asked[asked.len() - 2].1.contains("tool-calls"), "{asked:?}");
            let mut answer = encoded(&turn, encoder())
                .asking(|_| std::future::ready(false))
                .behind_question("q1");
            assert_eq!(block_on(answer.found()).unwrap(), counted);
            let answer = frames(&whole(answer));
            assert_eq!(answer[0].0, Some(1));
            assert!(
                answer[0].1.contains(r#""type":"start""#) && answer[1].1.contains("start-step")
            );
            client.ended = None;
            client.is_done = false;
            for (_, data) in &answer {
                client.take(data).unwrap();
            }
            let all = UiClient::read(&frames(&whole(encoded(&turn, encoder())))).unwrap();
            let mut live = client.message();
            if turn == client_tool() {
                // What it was to run itself is told as the agent's own where it is answered already.
                assert_eq!(live["parts"][1]["output"], "home");
                live["parts"][1]["providerExecuted"] = json!(true);
            }
            assert_eq!(live, all.message(), "{version:?}");
            let rest: Value = serde_json::from_str(&ui_message(encoder(), &turn)).unwrap();
            assert_eq!(rest, all.message(), "{version:?} at rest");
            // Wherever the answer's response is cut, it goes on by its own numbers.
            let last = answer.iter().filter_map(|(id, _)| *id).max().unwrap();
            for after in 0..=last {
                let rest = encoded(&turn, encoder()).after(after).behind_chunks(counted);
                let place = usize::try_from(after).unwrap();
                assert_eq!(frames(&whole(rest)), answer[place..], "{version:?} {after}");
            }
        }
    }
}

#[test]
fn a_client_is_told_to_run_a_tool_only_while_nobody_has() {
    let input = |frames: &[clients::Frame]| {
        let told = frames.iter().find(|(_, data)| data.contains("tool-input-available")).unwrap();
        serde_json::from_str::<Value>(&told.1).unwrap()
    };
    let waiting =
        frames(&whole(encoded(&client_tool(), ai_sdk()).asking(|_| std::future::ready(true))));
    assert_eq!(input(&waiting)["providerExecuted"], false);
    assert_eq!(input(&waiting)["input"], json!({"exact": true}));
    let answered =
        frames(&whole(encoded(&client_tool(), ai_sdk()).asking(|_| std::future::ready(false))));
    assert_eq!(input(&answered)["providerExecuted"], true);
}

#[test]
fn ag_ui_is_interrupted_and_its_next_run_goes_on() {
    for turn in [approval(), question(), client_tool()] {
        let asked = frames(&whole(encoded(&turn, ag_ui()).asking(|_| std::future::ready(true))));
        let mut client = AgUiClient::read(&asked).unwrap();
        let ended = client.ended.take().unwrap();
        let interrupt = &ended["outcome"]["interrupts"][0];
        assert_eq!(interrupt["id"], "q1");
        if let Some(call) = interrupt.get("toolCallId") {
            assert!(
                client.messages.iter().any(|message| message["toolCalls"][0]["id"] == *call),
                "{call}"
            );
        }
        let answer = encoded(&turn, AgUi::new("s", "t2", "local:s:0")).behind_question("q1");
        let answer = frames(&whole(answer));
        // A run of its own for the client's verifier, on the same messages.
        let mut next = AgUiClient::read(&[]).unwrap();
        next.messages = client.messages;
        for (_, data) in &answer {
            next.take(data).unwrap();
        }
        assert_eq!(next.ended.unwrap()["runId"], "t2");
        let rest = format!("[{}]", ag_ui_messages(ag_ui(), &turn).join(","));
        assert_eq!(Value::Array(next.messages), serde_json::from_str::<Value>(&rest).unwrap());
    }
}

/// The message of a client that was told these events, and the one at rest. They are the same.
fn told_and_at_rest(live: &[Event], at_rest: &[Event]) -> Value {
    let told = UiClient::read(&frames(&whole(encoded(live, ai_sdk())))).unwrap().message();
    let rest: Value = serde_json::from_str(&ui_message(ai_sdk(), at_rest)).unwrap();
    assert_eq!(told, rest);
    told
}

#[test]
fn an_input_stands_between_two_parts_of_text_live_and_at_rest() {
    let input = |kind: &str| {
        let data = json!({"id": "i", "message": "be brief"});
        Event::new(kind, &data).unwrap()
    };
    let (one, end) = (text("p1", "One "), completed());
    let live =
        [started(), one.clone(), input("input"), input("input.taken"), text("p1", "two"), end];
    let at_rest = [started(), one, input("input"), text("p1#2", "two"), completed()];
    let told = told_and_at_rest(&live, &at_rest);
    let texts: Vec<_> =
        told["parts"].as_array().unwrap().iter().filter_map(|part| part["text"].as_str()).collect();
    assert_eq!(texts, ["One ", "two"]);
}

#[test]
fn a_call_at_rest_that_stands_before_the_question_about_it_is_as_it_was_in_the_end() {
    let call = |state: Value| tool("t1", state);
    let pending = call(json!({"status": "pending", "input": {}}));
    let done = call(json!({"status": "completed", "input": {}, "output": "gone"}));
    let ask = interaction(
        json!({"id": "q1", "kind": "approval", "callId": "call_t1", "tool": "bash", "input": {}}),
    );
    let yes = answered(json!({"id": "q1", "outcome": "accepted"}));
    let live = [started(), pending, ask.clone(), yes.clone(), done.clone(), completed()];
    let told = told_and_at_rest(&live, &[started(), done, ask, yes, completed()]);
    let part = &told["parts"][1];
    assert_eq!(
        (&part["state"], &part["approval"]["approved"]),
        (&json!("output-available"), &json!(true))
    );
}

#[test]
fn two_questions_about_one_call_are_answered_in_any_order() {
    let ask = |id: &str| {
        interaction(json!({"id": id, "kind": "approval", "callId": "call_t1", "tool": "bash"}))
    };
    let yes = |id: &str| answered(json!({"id": id, "outcome": "accepted"}));
    let turn =
        [started(), ask("q1"), ask("q2"), yes("q1"), ask("q3"), yes("q2"), yes("q3"), completed()];
    let message = UiClient::read(&frames(&whole(encoded(&turn, ai_sdk())))).unwrap().message();
    let tools =
        message["parts"].as_array().unwrap().iter().filter(|part| part["type"] == "dynamic-tool");
    let tools: Vec<_> = tools
        .map(|tool| (tool["approval"]["id"].clone(), tool["approval"]["approved"].clone()))
        .collect();
    // The call's own part, where a later question takes the place of an answered one, and a part for the one in between.
    assert_eq!(tools, [(json!("q3"), json!(true)), (json!("q2"), json!(true))]);
}

#[test]
fn a_run_behind_a_question_that_is_not_there_is_the_end_alone() {
    let turn = [started(), text("p1", "Hi"), completed()];
    let ended = frames(&whole(encoded(&turn, ag_ui()).behind_question("gone")));
    assert_eq!(AgUiClient::read(&ended).unwrap().ended.unwrap()["outcome"]["type"], "success");
    let expired = [replayed(), text("p1", "Hi"), completed()];
    let expired = frames(&whole(encoded(&expired, ai_sdk()).behind_question("q1")));
    assert!(expired[0].1.contains("cursor_expired"));
    let (_, cut) = read(encoded(&turn[..2], ai_sdk()).behind_question("q1"));
    assert!(matches!(cut, Some(Cut::Ended)));
}

#[test]
fn a_client_of_ag_ui_that_asks_for_the_whole_again_doubles_nothing() {
    let reasoning = Event::new(
        "message.part.updated",
        &json!({"part": {"id": "r", "messageID": "m", "type": "reasoning"}, "delta": "Hm. "}),
    );
    let reasoning = reasoning.unwrap();
    let turn = [
        started(),
        text("p1", "First "),
        reasoning.clone(),
        tool("t1", json!({"status": "completed", "input": {}, "output": "x"})),
        text("p1", "then"),
        reasoning,
        completed(),
    ];
    let user = turnkit_ui::ag_ui_user_message("u", "Hi");
    let all = frames(&whole(encoded(&turn, ag_ui())));
    let user_message: Value = serde_json::from_str(&user).unwrap();
    let fresh = |messages: Vec<Value>, frames: &[clients::Frame]| {
        let mut client = AgUiClient::read(&[]).unwrap();
        client.messages = messages;
        for (_, data) in frames {
            client.take(data).unwrap();
        }
        client.messages
    };
    let expected = fresh(vec![user_message.clone()], &all);
    for cut in 0..all.len() {
        let had = fresh(vec![user_message.clone()], &all[..cut]);
        let body = json!({"threadId": "s", "runId": "t", "messages": had}).to_string();
        let input = RunAgentInput::parse(body.as_bytes()).unwrap();
        let snapshot = messages_snapshot([&*user], &input, "local:s:0");
        let again = frames(&whole(encoded(&turn, ag_ui().snapshot(snapshot))));
        assert_eq!(again[1].0, None);
        assert_eq!(fresh(had, &again), expected, "cut at {cut}");
    }
}

#[test]
fn who_stops_a_turn_gets_an_end_that_every_transport_knows() {
    let mut turn = vec![started(), text("p1", "Half")];
    turn.extend(failed("cancelled"));
    let chunks = frames(&whole(encoded(&turn, ai_sdk())));
    let ended = UiClient::read(&chunks).unwrap();
    assert_eq!(ended.ended.unwrap(), "finish");
    assert!(chunks.iter().any(|(_, data)| data.contains(r#""type":"abort""#)));
    let ended = AgUiClient::read(&frames(&whole(encoded(&turn, ag_ui())))).unwrap().ended.unwrap();
    assert_eq!(ended["outcome"]["type"], "cancelled");
}

/// The chunks of a turn in one go.
fn at_once(turn: &[Event], encoder: impl Encoder) -> Vec<u8> {
    behind(turn, encoder, 0)
}

fn behind(turn: &[Event], mut encoder: impl Encoder, after: u64) -> Vec<u8> {
    let mut chunks = Chunks::new().after(after);
    for event in turn {
        encoder.event(event, &mut chunks);
    }
    assert!(chunks.is_ended());
    chunks.take().to_vec()
}

/// Without comments: where the lines are cut decides which blank lines are keep-alives.
fn is_the_same(body: &[u8], chunks: &[u8]) -> bool {
    frames(body) == frames(chunks)
}

/// Each case reads a turn once for every place in it.
fn quarter() -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig { cases: all.cases / 4, failure_persistence: None, ..all }
}

proptest! {
    #![proptest_config(quarter())]

    #[test]
    fn chunks_are_the_same_however_the_lines_are_cut_and_wherever_they_are_resumed(
        turn in any_turn(), cuts in proptest::collection::vec(0_usize..4000, 0..6), version in 5_u8..8,
    ) {
        let version = Version::parse(&version.to_string()).unwrap();
        let ai_sdk = || ai_sdk().version(version);
        let (ui, ag) = (at_once(&turn, ai_sdk()), at_once(&turn, ag_ui()));
        let bytes = lines(&turn);
        let body = |cuts| Pieces::of(&bytes, cuts);
        prop_assert!(is_the_same(&whole(Encoded::new(body(&cuts), ai_sdk())), &ui));
        prop_assert!(is_the_same(&whole(Encoded::new(body(&cuts), ag_ui())), &ag));
        let (ui, ag) = (frames(&ui), frames(&ag));
        let counted = |frames: &[clients::Frame]| frames.iter().map_while(|(id, _)| *id).collect::<Vec<u64>>();
        for numbers in [counted(&ui), counted(&ag)] {
            prop_assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "numbers without a gap");
        }
        for (n, rest) in (0..).zip((0..=counted(&ui).len()).map(|n| &ui[n..])) {
            prop_assert_eq!(&frames(&behind(&turn, ai_sdk(), n)), rest);
        }
        for (n, rest) in (0..).zip((0..=counted(&ag).len()).map(|n| &ag[n..])) {
            prop_assert_eq!(&frames(&behind(&turn, ag_ui(), n)), rest);
        }
        let n = cuts.len() % (counted(&ui).len() + 1);
        prop_assert_eq!(&frames(&whole(Encoded::new(body(&cuts), ai_sdk()).after(n as u64))), &ui[n..]);
    }

    #[test]
    fn clients_take_every_turn_and_hold_in_the_end_what_is_at_rest(turn in any_turn(), version in 5_u8..8) {
        let version = Version::parse(&version.to_string()).unwrap();
        let ai_sdk = || ai_sdk().version(version);
        let ui = UiClient::read(&frames(&at_once(&turn, ai_sdk())));
        let ui = ui.map_err(TestCaseError::fail)?;
        prop_assert!(ui.is_done);
        let rest: Value = serde_json::from_str(&ui_message(ai_sdk(), &turn)).unwrap();
        prop_assert_eq!(normal(rest), normal(ui.message()));
        let ag = AgUiClient::read(&frames(&at_once(&turn, ag_ui())));
        let ag = ag.map_err(TestCaseError::fail)?;
        prop_assert!(ag.ended.is_some());
        let rest = format!("[{}]", ag_ui_messages(ag_ui(), &turn).join(","));
        prop_assert_eq!(serde_json::from_str::<Value>(&rest).unwrap(), Value::Array(ag.messages));
    }

    #[test]
    fn lines_that_no_engine_makes_are_told_as_well(turn in any_turn(), picks in proptest::collection::vec(0_usize..99, 0..30)) {
        // Without a start, with two ends, in any order: nothing panics, and nothing follows the end.
        let (mut ui, mut ag) = (ai_sdk(), ag_ui());
        let (mut ui_chunks, mut ag_chunks) = (Chunks::new(), Chunks::new());
        for pick in picks {
            let event = &turn[pick % turn.len()];
            ui.event(event, &mut ui_chunks);
            ag.event(event, &mut ag_chunks);
        }
        UiClient::read(&frames(&ui_chunks.take())).map_err(TestCaseError::fail)?;
        AgUiClient::read(&frames(&ag_chunks.take())).map_err(TestCaseError::fail)?;
    }
}

/// The input that a client guesses of pieces that are no JSON is its own affair. And at rest a call stands before the question about it,
/// and as it was in the end: whether it had ended when somebody asked or answered is not known there.
fn normal(mut message: Value) -> Value {
    for part in message["parts"].as_array_mut().into_iter().flatten() {
        if part["type"] == "dynamic-tool"
            && let Some(part) = part.as_object_mut()
        {
            part.retain(|name, _| name != "title");
            if part.contains_key("rawInput") {
                part.remove("input");
            }
            let has_ended = part.contains_key("output") || part.contains_key("errorText");
            if has_ended && part.contains_key("approval") {
                part.retain(|name, _| name != "state" && name != "approval");
            }
        }
    }
    message
}
