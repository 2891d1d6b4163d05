//! What encoders hold and allocate, counted.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use serde_json::{Value, json};
use turnkit_ui::{AgUi, AiSdk, Chunks, Encoder};
use turnkit_wire::{Event, write::Part};

fn event(kind: &str, data: &Value) -> Event {
    Event::new(kind, data).unwrap()
}

/// The most bytes that an encoder held at once over these events, beside the frames of each, and the allocations that it made.
fn held(mut encoder: impl Encoder, events: impl Iterator<Item = Event>) -> u64 {
    let mut out = Chunks::new();
    let measured = allocation_counter::measure(|| {
        for event in events {
            encoder.event(&event, &mut out);
            drop(out.take());
        }
        drop(encoder);
    });
    measured.bytes_max
}

/// Its name, and its events.
type Stream = (&'static str, Box<dyn Fn(usize) -> Event>);

#[test]
fn what_is_held_is_bounded_whatever_an_agent_sends() {
    const COUNT: usize = 18_000;
    const LIMIT: u64 = 24 << 20;
    let tool = |id: usize, state: Value| {
        let id = format!("{}{id}", "t".repeat(100));
        event(
            "message.part.updated",
            &json!({"part": {"id": id, "type": "tool", "tool": id, "callID": id, "state": state}}),
        )
    };
    let long = "x".repeat(100_000);
    let streams: [Stream; 8] = [
        ("parts", Box::new(|n| Part::new(&format!("p{n}")).text_delta("x"))),
        (
            "parts by turns",
            Box::new(|n| Part::new(if n % 2 == 0 { "a" } else { "b" }).text_delta("x")),
        ),
        ("calls", Box::new(move |n| tool(n, json!({"status": "pending"})))),
        (
            "questions",
            Box::new(|n| event("interaction", &json!({"id": format!("q{n}"), "kind": "question"}))),
        ),
        ("files", Box::new(|n| Part::new(&n.to_string()).file(&format!("u{n}"), "m", None))),
        ("results", Box::new(|n| event("result", &json!({"finalText": "x".repeat(n % 100)})))),
        (
            "long texts",
            Box::new(move |n| {
                if n < 400 { Part::new("p").text_delta(&long) } else { Event::bare("x").unwrap() }
            }),
        ),
        (
            "long ids",
            Box::new(|n| {
                if n < 400 {
                    Part::new(&format!("{}{n}", "i".repeat(50_000))).text_delta("x")
                } else {
                    Event::bare("x").unwrap()
                }
            }),
        ),
    ];
    for (name, stream) in streams {
        let ai_sdk = held(AiSdk::new("id"), (0..COUNT).map(&stream));
        assert!(ai_sdk < LIMIT, "{name}: {ai_sdk} bytes");
        let ag_ui = held(AgUi::new("s", "t", "id"), (0..COUNT).map(&stream));
        assert!(ag_ui < LIMIT, "{name}: {ag_ui} bytes");
    }
}

#[test]
fn a_hundred_text_deltas_take_less_than_one_allocation() {
    let events: Vec<Event> =
        (0..10_000).map(|n| Part::new("p").message("m").text_delta(&format!("{n} \"\n"))).collect();
    let allocations = |mut encoder: Box<dyn Encoder>| {
        let mut out = Chunks::new();
        allocation_counter::measure(|| {
            for batch in events.chunks(100) {
                for event in batch {
                    encoder.event(event, &mut out);
                }
                drop(out.take());
            }
        })
        .count_total
    };
    assert!(allocations(Box::new(AiSdk::new("id"))) < 100);
    assert!(allocations(Box::new(AgUi::new("s", "t", "id"))) < 100);
}
