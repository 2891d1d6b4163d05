//! What was said before goes with each run.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use serde_json::{Value, json};
use turnkit_chat::store::HistoryLimits;
use turnkit_server::{Agents, ServerConfig, SubstrateChoice};
use turnkit_substrate::{Agent, AgentError, Run};
use turnkit_wire::Event;
use turnkit_wire::write::TurnResult;

use crate::support::{Client, TestServer, json_of};

/// Answers what it is told to, and remembers the body of each run.
#[derive(Clone, Default)]
struct Remembers {
    bodies: Arc<Mutex<Vec<Value>>>,
    has_sessions: bool,
}

impl Agent for Remembers {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let body = serde_json::from_slice(run.request().body()).unwrap();
        let count = {
            let mut bodies = self.bodies.lock().unwrap();
            bodies.push(body);
            bodies.len()
        };
        let text = run.request().message().replace("say ", "");
        let part = json!({ "part": { "id": "p", "type": "text" }, "delta": text });
        let fails = text.contains("fail");
        let failure = fails.then(|| Err(AgentError::new("failed", "as it was told")));
        let said = (text != "fail").then(|| Ok(Event::new("message.part.updated", &part).unwrap()));
        let session = format!("own-{count}");
        let own = self.has_sessions.then_some(&*session);
        let result = TurnResult::new().agent_session_id(own).event();
        let end = failure.unwrap_or(Ok(result));
        stream::iter(said.into_iter().chain([end]))
    }
}

struct Talk {
    client: Client,
    agent: Remembers,
    session: String,
    _server: TestServer,
    _data_dir: tempfile::TempDir,
}

impl Talk {
    async fn begin() -> Talk {
        Talk::with(Remembers::default(), HistoryLimits::default()).await
    }

    async fn with(agent: Remembers, history: HistoryLimits) -> Talk {
        let data_dir = tempfile::tempdir().unwrap();
        let agents = SubstrateChoice::Embedded(Agents::new("remembers", agent.clone()));
        let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), agents);
        let config = ServerConfig { history, ..config };
        let server = TestServer::run(config).await;
        let client = server.client.clone();
        let session = client.session().await;
        Talk { client, agent, session, _server: server, _data_dir: data_dir }
    }

    /// One turn, and what its run came with.
    async fn turn(&self, message: &str) -> Value {
        self.ask(json!({ "message": message })).await
    }

    async fn ask(&self, mut body: Value) -> Value {
        body["turnId"] = format!("t{}", self.agent.bodies.lock().unwrap().len()).into();
        let path = format!("/{}/turns", self.session);
        self.client.post(&path, &body).await.text().await.unwrap();
        self.agent.bodies.lock().unwrap().last().unwrap().clone()
    }
}

/// The history of a run: who said what.
fn history(body: &Value) -> Vec<(&str, &str)> {
    let said = body["history"].as_array().into_iter().flatten();
    said.map(|said| (said["role"].as_str().unwrap(), said["content"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_run_comes_with_what_was_said_before_it() {
    let talk = Talk::begin().await;
    assert_eq!(history(&talk.turn("say one").await), []);
    let one = [("user", "say one"), ("assistant", "one")];
    assert_eq!(history(&talk.turn("say half, then fail").await), one);
    assert_eq!(history(&talk.turn("fail").await), one);
    let body = talk.turn("say three").await;
    assert_eq!(history(&body), one, "what failed is left out, with what there was of it");
    assert_eq!(body.get("historyOmitted"), None);
    let body = talk.turn("say four").await;
    assert_eq!(history(&body)[2..], [("user", "say three"), ("assistant", "three")]);
}

/// PROTOCOL 4.2: whole turns go, the oldest first, one that is too big is cut, and the user sees what the agent was not told, live and at
/// rest.
#[tokio::test]
async fn what_does_not_fit_is_left_out_and_told() {
    let talk = Talk::with(Remembers::default(), HistoryLimits { turns: 4, bytes: 8 * 1024 }).await;
    for at in 0..5 {
        talk.turn(&format!("say {at}")).await;
    }
    let body = talk.turn("say after five").await;
    assert_eq!((history(&body).len(), history(&body)[0]), (8, ("user", "say 1")));
    assert_eq!(body["historyOmitted"], json!({ "turns": 1, "bytes": "say 00".len() }));
    let long = "\n".repeat(70_000);
    talk.turn(&format!("say a{long}")).await;
    let body = talk.turn("say on").await;
    let contents: Vec<_> = history(&body).into_iter().map(|(_, content)| content).collect();
    assert_eq!((contents.len(), contents[0]), (8, "say 3"));
    assert!(contents[6].starts_with("say a\n") && contents[6].len() < 4_096);
    assert!(contents[6].ends_with("bytes of this message were left out]"), "{:?}", contents[6]);
    let path = format!("/{}/messages", talk.session);
    let messages = json_of(talk.client.get(&path).await).await;
    let answer = messages["messages"].as_array().unwrap().last().unwrap();
    let told = &answer["parts"][0];
    assert_eq!((&told["type"], &told["code"]), (&json!("warning"), &json!("history_omitted")));
    assert!(told["message"].as_str().unwrap().contains("the oldest 3 messages"), "{told}");
}

/// PROTOCOL 3.4, 4.2: an agent's own session goes on from turn to turn, and not beside another answer that has gone on with it.
#[tokio::test]
async fn an_agents_own_session_goes_on_in_its_branch() {
    let agent = Remembers { has_sessions: true, ..Remembers::default() };
    let talk = Talk::with(agent, HistoryLimits::default()).await;
    let own = |body: &Value| body["metadata"]["agentSessionId"].as_str().map(str::to_owned);
    assert_eq!(own(&talk.turn("say one").await), None);
    let body = talk.turn("say two").await;
    assert_eq!((own(&body).as_deref(), history(&body).len()), (Some("own-1"), 2));
    let again = talk.ask(json!({ "message": "say two", "replaces": "t1" })).await;
    assert_eq!((own(&again), history(&again).len()), (None, 2));
    assert_eq!(own(&talk.turn("fail").await).as_deref(), Some("own-3"));
    assert_eq!(own(&talk.turn("say after").await), None, "what failed told no session");
}
