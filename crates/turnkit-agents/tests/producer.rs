//! Agents as producers, and producers as agents.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{Stream, StreamExt as _, stream};
use turnkit::{
    BoxError, ExecutionId, Produced, TurnProducer,
    producer::{from_events, from_stream},
};
use turnkit_agent::{Agent, AgentError, CancelHandle, Run, RunRequest};
use turnkit_agents::{
    demo::Demo,
    producer::{self, CANCELLED, FAILED},
};
use turnkit_wire::{
    Event,
    write::{Part, TurnResult},
};

fn request() -> RunRequest {
    RunRequest::new(ExecutionId::parse("exec-1").unwrap(), "hello")
}

fn text(delta: &str) -> Event {
    Part::new("prt_1").text_delta(delta)
}

/// What a run of `agent` says.
async fn said(agent: &impl Agent) -> Vec<Result<Event, AgentError>> {
    agent.run(request().into()).collect().await
}

/// What a producer gives until it ends, and how.
async fn given<P: TurnProducer>(
    producer: &mut P,
) -> (Vec<Event>, Result<Option<String>, P::Error>) {
    let mut events = Vec::new();
    loop {
        match producer.next().await {
            Ok(Produced::Event(event)) => events.push(event),
            Ok(Produced::Done { final_text }) => return (events, Ok(final_text)),
            Err(error) => return (events, Err(error)),
        }
    }
}

/// Says one thing and fails.
struct Failing(AgentError);

impl Agent for Failing {
    fn run(&self, _: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        stream::iter([Ok(text("half ")), Err(self.0.clone())])
    }
}

/// Says one thing, waits to be cancelled, and then takes its time; counts how often it has ended in peace.
#[derive(Clone, Default)]
struct Patient(Arc<AtomicUsize>);

impl Agent for Patient {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let ended = Arc::clone(&self.0);
        let farewell = async move {
            run.cancel().cancelled().await;
            tokio::task::yield_now().await;
            ended.fetch_add(1, Ordering::SeqCst);
            Ok(text("bye"))
        };
        stream::iter([Ok(text("half "))]).chain(stream::once(farewell))
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_gives_a_turn_what_it_says() {
    let demo = Demo::new();
    let mut producer = producer::of(demo.clone(), request());
    assert_eq!(producer.prompt(), Some("hello"));
    let (events, end) = given(&mut producer).await;
    assert_eq!(end, Ok(None));
    let said: Vec<_> = said(&demo).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(events, said);
}

#[tokio::test]
async fn a_failure_is_the_same_on_both_sides() {
    for error in
        [AgentError::new("busy", "come back later").temporary(), AgentError::new("off", "no")]
    {
        let agent = Failing(error.clone());
        let (events, end) = given(&mut producer::of(Failing(error.clone()), request())).await;
        assert_eq!((events, end), (vec![text("half ")], Err(error.clone())));

        let there_and_back = producer::agent_of(move |request| {
            producer::of(Failing(agent.0.clone()), request.clone())
        });
        assert_eq!(said(&there_and_back).await, [Ok(text("half ")), Err(error)]);
    }
}

#[tokio::test]
async fn a_failure_without_a_code_has_one_behind_a_substrate() {
    let broken =
        || stream::iter([Ok(text("half ").into()), Err(BoxError::from("the line is dead"))]);
    let agent = producer::agent_of(move |_| from_stream(broken()));
    assert_eq!(
        said(&agent).await,
        [Ok(text("half ")), Err(AgentError::new(FAILED, "the line is dead"))]
    );
}

#[tokio::test]
async fn a_turn_that_is_stopped_lets_the_agent_end() {
    let agent = Patient::default();
    let mut producer = producer::of(agent.clone(), request());
    assert_eq!(producer.next().await, Ok(Produced::Event(text("half "))));
    producer.cancel().await;
    assert_eq!(agent.0.load(Ordering::SeqCst), 1);
    // What ended because it was cancelled is no whole answer.
    assert_eq!(producer.next().await.unwrap_err().code(), CANCELLED);
}

#[tokio::test]
async fn a_run_that_is_cancelled_stops_its_producer() {
    let agent = Patient::default();
    let inner = agent.clone();
    let outer = producer::agent_of(move |request| producer::of(inner.clone(), request.clone()));
    let (handle, cancel) = CancelHandle::new();
    let mut events = Box::pin(outer.run(Run::new(request(), cancel)));
    assert_eq!(events.next().await, Some(Ok(text("half "))));
    handle.cancel();
    assert_eq!(events.next().await, None);
    assert_eq!(agent.0.load(Ordering::SeqCst), 1);
}

/// Knows its whole answer only at the end.
struct Late(Option<Event>, &'static str);

impl TurnProducer for Late {
    type Error = BoxError;

    async fn next(&mut self) -> Result<Produced, BoxError> {
        Ok(match self.0.take() {
            Some(event) => event.into(),
            None => Produced::Done { final_text: Some(self.1.to_owned()) },
        })
    }
}

#[tokio::test]
async fn what_a_producer_knows_at_its_end_is_the_agents_result() {
    let agent = producer::agent_of(|_| Late(Some(text("Hel")), "Hello"));
    let result = TurnResult::new().final_text("Hello").event();
    assert_eq!(said(&agent).await, [Ok(text("Hel")), Ok(result)]);
}

#[tokio::test]
async fn the_events_of_another_run_are_not_the_agents_but_their_failures_are() {
    let event = |kind: &str, data: serde_json::Value| Event::new(kind, &data).unwrap();
    let data =
        serde_json::json!({ "code": "model_gone", "message": "it is gone", "temporary": true });
    let of = |last: Event| {
        let events = [event("execution.started", serde_json::json!({})), text("a"), last];
        let agent = producer::agent_of(move |_| from_events(events.clone()));
        async move { said(&agent).await }
    };
    let gone = AgentError::new("model_gone", "it is gone").temporary();
    for kind in ["execution.failed", "session.run.failed"] {
        assert_eq!(of(event(kind, data.clone())).await, [Ok(text("a")), Err(gone.clone())]);
    }
    let cancelled = of(event("execution.cancelled", serde_json::json!({}))).await;
    assert_eq!(cancelled[1].as_ref().unwrap_err().code(), CANCELLED);
    assert_eq!(of(event("execution.completed", serde_json::json!({}))).await, [Ok(text("a"))]);
    let error = event("error", data);
    assert_eq!(of(error.clone()).await, [Ok(text("a")), Ok(error)]);
}
