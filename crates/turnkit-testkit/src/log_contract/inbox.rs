//! The clauses about inboxes (PROTOCOL 3.6).

use std::sync::Arc;

use turnkit_substrate::{
    Clock, ExecutionLog, Limits,
    log::{
        AppendError, Change, Content, Ending, LogWriter, MAX_UNTAKEN, Post, Slot, SlotState, Usage,
    },
};
use turnkit_wire::{
    Event,
    interaction::{self, Interaction, Kind, Outcome},
};

use super::bench::{Bench, key, number};

fn question(id: &str) -> Event {
    Interaction::new(Kind::Approval, id).event()
}

fn yes(id: &str) -> Event {
    interaction::answered(id, Outcome::Accepted, None, None)
}

fn no(id: &str) -> Event {
    interaction::answered(id, Outcome::Declined, None, None)
}

fn input(id: &str) -> Event {
    interaction::input(id, "a message", None)
}

fn slot(event: &Event) -> Slot {
    Slot::of(event).unwrap()
}

impl<L: ExecutionLog> Bench<L> {
    async fn post(&self, event: &Event) -> Post {
        self.log.post(&key("a"), &slot(event), event).await.unwrap()
    }
}

/// Appends what was posted first.
async fn tell(writer: &mut dyn LogWriter) -> Event {
    let (slot, event) = writer.posted().await.unwrap().swap_remove(0);
    writer.append_with(&event, Change::Tells(&slot)).await.unwrap();
    event
}

/// An id asks once in an execution, whatever came of it; a question pends from its event to the event of its answer.
pub async fn a_question_is_asked_once<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    writer.append_with(&question("q"), Change::Asks("q")).await.unwrap();
    writer.append_with(&question("r"), Change::Asks("r")).await.unwrap();
    assert_eq!(reader.pending().await.unwrap(), [2, 3]);
    let again = writer.append_with(&question("q"), Change::Asks("q")).await;
    assert!(matches!(again, Err(AppendError::AskedBefore)));
    assert_eq!(bench.post(&yes("q")).await, Post::Set);
    assert_eq!(reader.pending().await.unwrap(), [2, 3], "its answer is not in the log yet");
    tell(&mut *writer).await;
    assert_eq!(reader.pending().await.unwrap(), [3]);
    let again = writer.append_with(&question("q"), Change::Asks("q")).await;
    assert!(matches!(again, Err(AppendError::AskedBefore)));
    assert_eq!(reader.status().await.unwrap().last.seq, 4, "nothing was stored by that");
}

/// Of any number of posts into one slot at the same time one sets it, and that one is appended.
pub async fn a_slot_is_set_once<L: ExecutionLog>(make: impl Fn(Limits, Arc<dyn Clock>) -> L) {
    let bench = Arc::new(Bench::new(make));
    let (mut writer, reader) = bench.start("a").await;
    assert_eq!(bench.post(&yes("q")).await, Post::Unknown);
    assert_eq!(reader.slot(&slot(&yes("q"))).await.unwrap(), None);
    writer.append_with(&question("q"), Change::Asks("q")).await.unwrap();
    let state = |content| Some(SlotState { asked: 2, content });
    assert_eq!(reader.slot(&slot(&yes("q"))).await.unwrap(), state(Content::Nothing));
    let posts = (0..50).map(|at| {
        let bench = Arc::clone(&bench);
        let event = if at % 2 == 0 { yes("q") } else { no("q") };
        tokio::spawn(async move { (bench.post(&event).await, event) })
    });
    let mut set = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        match post.await.unwrap() {
            (Post::Set, event) => set.push(event),
            (post, _) => assert_eq!(post, Post::Occupied),
        }
    }
    assert_eq!(reader.slot(&slot(&yes("q"))).await.unwrap(), state(Content::Posted));
    assert_eq!([tell(&mut *writer).await], *set);
    assert_eq!(bench.post(&no("q")).await, Post::Occupied);
    assert_eq!(reader.slot(&slot(&yes("q"))).await.unwrap(), state(Content::Appended(3)));
    assert_eq!(reader.slot(&slot(&input("q"))).await.unwrap(), None, "an input is another slot");
}

/// A writer that waits for posts gets them in their order, also those that came before it waited.
pub async fn whoever_waits_for_posts_is_woken<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, _) = bench.start("a").await;
    for id in ["q", "r"] {
        writer.append_with(&question(id), Change::Asks(id)).await.unwrap();
    }
    let waiting = tokio::spawn(writer.posted());
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_eq!(bench.post(&yes("r")).await, Post::Set);
    assert_eq!(waiting.await.unwrap().unwrap(), [(slot(&yes("r")), yes("r"))]);
    for event in [yes("q"), input("i")] {
        assert_eq!(bench.post(&event).await, Post::Set);
    }
    for event in [yes("r"), yes("q"), input("i")] {
        assert_eq!(tell(&mut *writer).await, event);
    }
}

/// As many inputs as there may be wait to be taken, and every writer knows which these are: also the one that tells a loss.
pub async fn inputs_that_are_not_taken_are_few_and_known<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, reader) = bench.start("a").await;
    for at in 0..MAX_UNTAKEN {
        assert_eq!(bench.post(&input(&at.to_string())).await, Post::Set);
        if at % 2 == 0 {
            tell(&mut *writer).await;
        }
    }
    assert_eq!(bench.post(&input("more")).await, Post::Crowded);
    assert_eq!(bench.post(&input("0")).await, Post::Occupied);
    while writer.untaken().await.unwrap().len() < MAX_UNTAKEN {
        tell(&mut *writer).await;
    }
    for at in 2..MAX_UNTAKEN {
        let id = at.to_string();
        let taken = interaction::input_taken(&id);
        writer.append_with(&taken, Change::Takes(&id)).await.unwrap();
    }
    assert_eq!(writer.untaken().await.unwrap(), ["0", "1"]);
    assert_eq!(bench.post(&input("more")).await, Post::Set, "there is room again");

    let last = reader.status().await.unwrap().last.seq;
    let heir = bench.take_over("a").await;
    assert_eq!(
        heir.untaken().await.unwrap(),
        ["0", "1"],
        "what is not in the log was not accepted"
    );
    drop((writer, heir));
    let page = reader.next(last).await.unwrap().unwrap();
    let text = String::from_utf8(page.frames.to_vec()).unwrap();
    assert!(text.contains("runner_lost") && text.contains(r#""untaken":["0","1"]"#), "{text}");
}

/// At the end nothing is pending any more; what was appended stays to be seen, and what was not never will be.
pub async fn an_inbox_closes_with_its_execution<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    assert_eq!(bench.post(&input("i")).await, Post::Ended, "there is no such execution");
    let (mut writer, reader) = bench.start("a").await;
    assert!(reader.status().await.unwrap().takes_input);
    for id in ["told", "posted", "pending"] {
        writer.append_with(&question(id), Change::Asks(id)).await.unwrap();
    }
    assert_eq!(bench.post(&yes("told")).await, Post::Set);
    tell(&mut *writer).await;
    assert_eq!(bench.post(&yes("posted")).await, Post::Set);
    writer.end(Ending::Completed, &number(0)).await.unwrap();
    assert_eq!(reader.pending().await.unwrap(), Vec::<u64>::new());
    let mut contents = Vec::new();
    for id in ["told", "posted", "pending"] {
        contents.push(reader.slot(&slot(&yes(id))).await.unwrap().unwrap().content);
        assert_eq!(bench.post(&no(id)).await, Post::Ended);
    }
    assert_eq!(contents, [Content::Appended(5), Content::Posted, Content::Nothing]);
    assert_eq!(bench.post(&input("i")).await, Post::Ended);
}

/// What is posted is charged, and given back to the last byte; what is refused costs nothing.
pub async fn every_byte_of_an_inbox_is_accounted<L: ExecutionLog>(
    make: impl Fn(Limits, Arc<dyn Clock>) -> L,
) {
    let bench = Bench::new(make);
    let (mut writer, _reader) = bench.start("a").await;
    let start = bench.usage().await;
    writer.append_with(&question("q"), Change::Asks("q")).await.unwrap();
    let asked = bench.usage().await;
    assert!(asked.bytes >= start.bytes + question("q").as_line().len() as u64 + 64);
    bench.post(&yes("q")).await;
    let posted = bench.usage().await;
    assert!(posted.bytes >= asked.bytes + yes("q").as_json().len() as u64);
    bench.post(&no("q")).await;
    bench.post(&no("unknown")).await;
    assert_eq!(bench.usage().await, posted);
    tell(&mut *writer).await;
    bench.post(&input("i")).await;
    bench.post(&input("j")).await;
    tell(&mut *writer).await;
    writer.end(Ending::Completed, &number(0)).await.unwrap();
    for duration in [Limits::default().retention, Limits::default().binding] {
        bench.clock.advance(duration);
        bench.log.sweep().await.unwrap();
    }
    assert_eq!(bench.usage().await, Usage::default());
}
