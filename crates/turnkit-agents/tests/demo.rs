//! The demo agent, event by event.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use turnkit_agent::{Agent as _, CancelHandle, InboxHandle, Run, RunRequest, Said};
use turnkit_agents::demo::Demo;
use turnkit_id::ExecutionId;
use turnkit_wire::{
    Event,
    interaction::{Outcome, Question, answered, input},
    write::Json,
};

async fn answer(message: &str) -> Vec<Event> {
    let request = RunRequest::new(ExecutionId::parse("exec-1").unwrap(), message);
    let events = Demo::new().pace(Duration::ZERO).run(request.into());
    events.boxed().try_collect().await.unwrap()
}

/// The updates of parts.
fn parts(events: &[Event]) -> Vec<Value> {
    let parts = events.iter().filter(|event| event.kind() == "message.part.updated");
    parts.map(|event| event.data().unwrap()).collect()
}

#[tokio::test]
async fn it_reasons_calls_a_tool_and_answers_in_pieces() {
    let events = answer("hello there").await;
    let parts = parts(&events);
    let mut types: Vec<_> =
        parts.iter().map(|data| data["part"]["type"].as_str().unwrap()).collect();
    types.dedup();
    assert_eq!(types, ["reasoning", "tool", "text"]);
    let tools: Vec<_> =
        parts.iter().filter_map(|data| data["part"]["state"]["status"].as_str()).collect();
    assert_eq!(tools, ["running", "completed"]);

    let text: String = parts
        .iter()
        .filter(|data| data["part"]["type"] == "text")
        .map(|data| data["delta"].as_str().unwrap())
        .collect();
    let last = events.last().unwrap();
    assert_eq!(last.kind(), "result");
    let result: Value = last.data().unwrap();
    assert_eq!(result["finalText"], text);
    assert!(text.contains("hello there"));
    assert_eq!(result["tokenUsage"]["inputTokens"], 2);
    assert!(result["timing"]["totalMs"].is_u64());
}

#[tokio::test]
async fn its_answer_depends_on_the_message_alone() {
    let first = answer("same").await;
    assert_eq!(first, answer("same").await);
    assert_ne!(first, answer("other").await);
}

#[tokio::test]
async fn the_word_long_gets_200_pieces() {
    let pieces = async |message| {
        let events = answer(message).await;
        parts(&events).iter().filter(|data| data["part"]["type"] == "text").count()
    };
    assert_eq!(pieces("Tell me a LONG story").await, 200);
    assert!(pieces("so it belongs here").await < 100);
}

/// What a demo says, with what it is answered, outcome after outcome.
async fn told(message: &str, answers: &[(Outcome, Option<&str>)]) -> Vec<Event> {
    let (handle, inbox) = InboxHandle::new();
    let (_cancel, cancelled) = CancelHandle::new();
    let request = RunRequest::new(ExecutionId::parse("exec-1").unwrap(), message);
    let run = Run::new(request, cancelled).with_inbox(inbox);
    let mut said = Demo::new().pace(Duration::ZERO).run(run).boxed();
    let (mut events, mut answers) = (Vec::new(), answers.iter());
    loop {
        tokio::select! {
            biased;
            event = said.next() => match event {
                Some(event) => events.push(event.unwrap()),
                None => return events,
            },
            asked = handle.said() => {
                let Said::Asked(question) = asked else { continue };
                Question::read(&question).unwrap();
                let (outcome, data) = answers.next().unwrap();
                let id: Value = question.data().unwrap();
                let data = data.map(|data| Json::verify(data).unwrap());
                let id = id["id"].as_str().unwrap();
                handle.deliver(answered(id, *outcome, data.as_ref(), None));
                events.push(question);
            }
        }
    }
}

fn text(events: &[Event]) -> String {
    let parts = parts(events).into_iter().filter(|data| data["part"]["type"] == "text");
    parts.map(|data| data["delta"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn it_asks_before_it_runs_its_tool_and_goes_on_by_the_answer() {
    for (outcome, status) in [(Outcome::Accepted, "completed"), (Outcome::Declined, "error")] {
        let events = told("May I? Please approve.", &[(outcome, None)]).await;
        let kinds: Vec<_> = events.iter().map(Event::kind).collect();
        let asked = kinds.iter().position(|kind| *kind == "interaction").unwrap();
        let states: Vec<_> = [asked - 1, asked + 1]
            .map(|at| events[at].data::<Value>().unwrap()["part"]["state"]["status"].clone())
            .into();
        assert_eq!(states, ["pending", status]);
        let result: Value = events.last().unwrap().data().unwrap();
        assert_eq!(result["finalText"], text(&events));
    }
}

#[tokio::test]
async fn it_has_a_question_of_each_kind_and_repeats_what_it_is_answered() {
    let all = [
        (Outcome::Accepted, Some(r#"{"option":"green"}"#)),
        (Outcome::Accepted, Some(r#"{"name":"Ada","floor":3}"#)),
        (Outcome::Expired, None),
    ];
    let said = text(&told("choose, form and location", &all).await);
    let begins = r#"You answered `{"option":"green"}`. You answered `{"name":"Ada","floor":3}`. Your answer was: expired. "#;
    assert!(said.starts_with(begins), "{said}");
    let alone = text(&answer("form").await);
    assert!(alone.starts_with("Nobody was there to ask. "), "{alone}");
}

#[tokio::test]
async fn a_message_into_its_turn_is_in_its_answer() {
    let (handle, inbox) = InboxHandle::new();
    let (_cancel, cancelled) = CancelHandle::new();
    let request = RunRequest::new(ExecutionId::parse("exec-1").unwrap(), "hello");
    let run = Run::new(request, cancelled).with_inbox(inbox);
    let mut events = Demo::new().pace(Duration::ZERO).run(run).boxed();
    let first = events.next().await.unwrap().unwrap();
    handle.deliver(input("i", "be\nquick", None));
    let rest: Vec<Event> = events.try_collect().await.unwrap();
    let events: Vec<Event> = [vec![first], rest].concat();
    assert!(text(&events).starts_with("\n\n> be quick\n\nYou wrote: "));
    assert_eq!(handle.try_said(), Some(Said::Taken("i".to_owned())));
}
