//! Producers that make their events of something else: those of the examples and those that the crate offers keep the contract,
//! and the contract finds the ones that do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::StreamExt;
use turnkit::{BoxError, Event, TurnProducer, producer};
use turnkit_testkit::{
    Recording,
    contract::translating::{self, Chunks},
    events,
};

#[expect(dead_code, reason = "its main")]
#[path = "../examples/async_openai.rs"]
mod async_openai_example;

#[expect(dead_code, reason = "its main")]
#[path = "../examples/ollama_rs.rs"]
mod ollama_rs_example;

fn recorded<C: serde::de::DeserializeOwned>(lines: &str) -> Vec<C> {
    lines.trim().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

mod async_openai {
    use super::{async_openai_example::*, *};

    turnkit_testkit::translating_contract! {
        // The fourth chunk has the finish reason; the fifth, with the usage, may be missing.
        Recording::new(recorded(RECORDING), "Hello, world.", chat_events).whole_after(4)
    }
}

mod ollama_rs {
    use super::{ollama_rs_example::*, *};

    turnkit_testkit::translating_contract! {
        Recording::new(recorded(RECORDING), "Hello, world.", chat_events)
    }
}

const LINES: [&str; 4] = ["Hello, ", "w\u{f6}rld", ".", "[DONE]"];
const ANSWER: &str = "Hello, w\u{f6}rld.";

/// A task that pushes what it reads, until it is stopped.
fn pushed(mut chunks: Chunks<&'static str>) -> impl TurnProducer {
    let (mut sender, producer) = producer::channel();
    tokio::spawn(async move {
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = sender.stopped() => break,
            };
            match chunk {
                Some(Ok("[DONE]")) => break sender.finish(),
                Some(Ok(text)) => {
                    if sender.send(events::delta("p", text)).await.is_err() {
                        break;
                    }
                }
                Some(Err(error)) => break sender.fail(producer::Failure::from_error(error)),
                None => break, // the sender is dropped without a word: a cut
            }
        }
    });
    producer
}

mod channel {
    use super::*;

    turnkit_testkit::translating_contract!(Recording::new(LINES, ANSWER, pushed));
}

/// Lines out of bytes that are cut anywhere.
fn lines(chunks: Chunks<bytes::Bytes>) -> impl TurnProducer {
    let mut line = Vec::new();
    producer::translate(chunks, move |bytes: bytes::Bytes, out| {
        for byte in bytes {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            match String::from_utf8(std::mem::take(&mut line))? {
                end if end == "[DONE]" => out.finish(),
                text => out.send(events::delta("p", &text)),
            }
        }
        Ok(())
    })
}

mod bytes_cut_anywhere {
    use super::*;

    turnkit_testkit::translating_contract! {
        Recording::of_bytes("Hello, \nw\u{f6}rld\n.\n[DONE]\n".as_bytes(), ANSWER, lines)
    }
}

/// Each rule finds the producers that break it, and says what to look for.
mod a_wrong_producer_is_found_as {
    use std::{
        collections::VecDeque,
        future::{pending, poll_fn},
        task::{Context, Waker},
    };

    use futures::channel::mpsc;
    use turnkit::Produced;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Wrong {
        TakesAnyEndForTheAnswers,
        SwallowsErrors,
        ThrowsItsBufferAwayAtAnError,
        SendsASnapshotAsADelta,
        LosesAChunk,
        DoesNotSeeTheEnd,
        FailsWithoutAWord,
        KeepsNoWaker,
        ReadsAhead,
        HangsInCancel,
        KeepsItsUpstream,
        OpensAnEnvelope,
    }

    /// Translates `LINES` as it should, but for one thing.
    struct Producer {
        wrong: Wrong,
        chunks: Chunks<&'static str>,
        events: VecDeque<Event>,
        is_whole: bool,
        text: String,
    }

    impl TurnProducer for Producer {
        type Error = BoxError;

        async fn next(&mut self) -> Result<Produced, BoxError> {
            // Buffers one chunk more than it gives, as one does that waits for whole lines.
            loop {
                let buffered = usize::from(self.wrong == Wrong::ThrowsItsBufferAwayAtAnError);
                if self.events.len() > buffered
                    && let Some(event) = self.events.pop_front()
                {
                    return Ok(event.into());
                }
                let chunk = if self.wrong == Wrong::KeepsNoWaker {
                    poll_fn(|_| {
                        let mut nobody = Context::from_waker(Waker::noop());
                        self.chunks.poll_next_unpin(&mut nobody)
                    })
                    .await
                } else {
                    self.chunks.next().await
                };
                match chunk {
                    Some(Ok("[DONE]")) => self.is_whole = self.wrong != Wrong::DoesNotSeeTheEnd,
                    Some(Ok(chunk)) => self.translate(chunk),
                    Some(Err(_)) if self.wrong == Wrong::SwallowsErrors => self.is_whole = true,
                    Some(Err(error)) => return Err(error),
                    None if self.wrong == Wrong::TakesAnyEndForTheAnswers => self.is_whole = true,
                    None if self.is_whole => {}
                    None if self.wrong == Wrong::FailsWithoutAWord => return Err("".into()),
                    None => match self.events.pop_front() {
                        Some(event) => return Ok(event.into()),
                        None => return Err("the upstream was cut".into()),
                    },
                }
                if self.is_whole {
                    return Ok(match self.events.pop_front() {
                        Some(event) => event.into(),
                        None => Produced::Done { final_text: None },
                    });
                }
            }
        }

        async fn cancel(&mut self) {
            if self.wrong == Wrong::HangsInCancel {
                pending::<()>().await;
            }
        }
    }

    impl Producer {
        fn translate(&mut self, chunk: &str) {
            self.text.push_str(chunk);
            let event = match self.wrong {
                Wrong::SendsASnapshotAsADelta => events::delta("p", &self.text),
                Wrong::LosesAChunk if chunk == "." => return,
                Wrong::OpensAnEnvelope => {
                    self.events.push_back(events::verbatim(r#"{"type":"session.run.started"}"#));
                    events::delta("p", chunk)
                }
                _ => events::delta("p", chunk),
            };
            self.events.push_back(event);
        }
    }

    /// The chunks through a task of its own that reads ahead without a bound, or never looks whether anybody is there.
    fn through_a_task(wrong: Wrong, mut chunks: Chunks<&'static str>) -> Chunks<&'static str> {
        let (sender, receiver) = mpsc::unbounded();
        if !matches!(wrong, Wrong::ReadsAhead | Wrong::KeepsItsUpstream) {
            return chunks;
        }
        tokio::spawn(async move {
            while let Some(chunk) = chunks.next().await {
                if wrong == Wrong::KeepsItsUpstream {
                    tokio::task::yield_now().await;
                }
                let _ = sender.unbounded_send(chunk);
            }
        });
        receiver.boxed()
    }

    fn recording(wrong: Wrong) -> Recording<&'static str, Producer> {
        Recording::new(LINES, ANSWER, move |chunks| Producer {
            wrong,
            chunks: through_a_task(wrong, chunks),
            events: VecDeque::new(),
            is_whole: false,
            text: String::new(),
        })
    }

    macro_rules! finds {
        ($($rule:ident: $($wrong:ident $says:literal),+;)+) => {
            $(
                #[tokio::test(start_paused = true)]
                async fn $rule() {
                    for (wrong, says) in [$((Wrong::$wrong, $says)),+] {
                        let rule = tokio::spawn(translating::$rule(recording(wrong)));
                        let failure = rule.await.expect_err("the rule holds").into_panic();
                        let message = *failure.downcast::<String>().unwrap();
                        let begin = concat!("the producer breaks `", stringify!($rule), "` ");
                        assert!(message.starts_with(begin), "{wrong:?}: {message}");
                        assert!(message.contains(says), "{wrong:?}: {message}");
                    }
                }
            )+
        };
    }

    finds! {
        the_whole_recording_gives_its_answer:
            SendsASnapshotAsADelta "look for: text that is there twice",
            LosesAChunk "came: \"Hello, wörld\"\n  look for: a chunk whose text is dropped",
            DoesNotSeeTheEnd "look for: the chunk by which the upstream says that its answer is complete";
        a_cut_at_any_chunk_fails_the_turn:
            TakesAnyEndForTheAnswers "where the upstream ends after 1 chunks\n  wanted: a turn that fails\n  came: the answer \"Hello, \"\n",
            FailsWithoutAWord "look for: an error without a `Display`";
        an_error_at_any_chunk_fails_the_turn:
            SwallowsErrors "look for: a failure that is taken for the upstream's end",
            ThrowsItsBufferAwayAtAnError "look for: a chunk whose text is dropped, or a buffer that is thrown away";
        late_chunks_wake_its_task:
            KeepsNoWaker "kept no waker";
        it_reads_no_faster_than_it_is_asked:
            ReadsAhead "look for: a task or a buffer without a bound";
        cancelling_lets_the_upstream_go:
            HangsInCancel "in `cancel`, after 0 chunks\n",
            KeepsItsUpstream "once cancelled after 0 chunks and dropped\n";
        it_leaves_the_envelope_to_the_engine:
            OpensAnEnvelope "at event 1\n";
    }
}

/// What a channel's two ends tell each other.
mod a_channel {
    use std::sync::Arc;

    use futures::FutureExt;
    use turnkit::{ClientLeft, code, producer::Failure};
    use turnkit_testkit::{Recorder, turn};

    use super::*;

    #[tokio::test]
    async fn whose_sender_is_dropped_or_panics_fails_the_turn_and_keeps_the_text() {
        for panics in [false, true] {
            let (mut sender, producer) = producer::channel();
            let task = tokio::spawn(async move {
                sender.send(events::delta("p", "half")).await.unwrap();
                assert!(!panics, "on purpose");
            });
            let hooks = Arc::new(Recorder::new());
            let (_body, driver) = turn().start(producer, hooks.clone());
            let failure = driver.await.result.unwrap_err();
            assert_eq!(failure.code(), Some(code::UPSTREAM_CUT));
            assert!(failure.is_temporary() && !failure.is_retryable());
            assert!(hooks.calls().iter().any(|call| call.to_string().contains("\"half\"")));
            assert_eq!(task.await.is_err(), panics);
        }
    }

    #[tokio::test]
    async fn tells_a_failure_after_the_events_before_it() {
        let (mut sender, mut producer) = producer::channel();
        sender.send(events::delta("p", "half")).await.unwrap();
        sender.fail(Failure::new("busy", "the model is busy").temporary());
        assert!(producer.next().await.is_ok());
        let failure = producer.next().await.unwrap_err();
        assert_eq!((failure.code(), failure.is_temporary()), (Some("busy"), true));
    }

    #[tokio::test]
    async fn holds_sixteen_events_and_takes_none_once_the_turn_is_over() {
        let (mut sender, mut producer) = producer::channel();
        let mut held = 0;
        while sender.send(events::delta("p", "x")).now_or_never().is_some() {
            held += 1;
        }
        assert_eq!(held, 16);
        assert!(sender.stopped().now_or_never().is_none());
        assert!(producer.next().await.is_ok());
        sender.send(events::delta("p", "x")).await.unwrap();
        drop(producer);
        sender.stopped().await;
        assert_eq!(sender.send(events::delta("p", "x")).await, Err(producer::Stopped));
    }

    #[tokio::test]
    async fn tells_its_task_that_the_turn_was_cancelled() {
        let (mut sender, producer) = producer::channel();
        let (body, driver) =
            turn().on_client_left(ClientLeft::Cancel).start(producer, Recorder::new());
        drop(body);
        assert_eq!(driver.await.result.unwrap_err().code(), Some(code::CANCELLED));
        sender.stopped().await;
    }
}

#[tokio::test]
async fn an_error_is_the_failure_that_it_holds() {
    use std::error::Error;
    use turnkit::producer::Failure;

    let boxed: BoxError = Failure::new("busy", "the model is busy").temporary().into();
    let failure = Failure::from_error(boxed);
    assert_eq!((failure.code(), failure.is_temporary()), (Some("busy"), true));

    let failure = Failure::from_error(std::io::Error::other("no route")).with_code("network");
    assert_eq!((failure.to_string().as_str(), failure.code()), ("no route", Some("network")));
    assert!(failure.source().is_none(), "its own text is not told twice");
    assert!(failure.get_ref().unwrap().is::<std::io::Error>());
}
