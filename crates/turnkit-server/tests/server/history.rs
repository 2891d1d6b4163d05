//! What was said before goes with each run.

use std::sync::{Arc, Mutex};

use futures_util::stream;
use serde_json::{Value, json};
use turnkit_server::{Agents, ServerConfig, SubstrateChoice};
use turnkit_substrate::{Agent, AgentError, Run};
use turnkit_wire::Event;

use crate::support::{Client, TestServer};

/// Answers what it is told to, and remembers the history of each run.
#[derive(Clone, Default)]
struct Remembers(Arc<Mutex<Vec<Option<Value>>>>);

impl Agent for Remembers {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let history = run.request().member("history").unwrap();
        let history = history.map(|raw| serde_json::from_str(raw.get()).unwrap());
        self.0.lock().unwrap().push(history);
        let text = run.request().message().replace("say ", "");
        let part = json!({ "part": { "id": "p", "type": "text" }, "delta": text });
        let fails = text.contains("fail");
        let failure = fails.then(|| Err(AgentError::new("failed", "as it was told")));
        let said = (text != "fail").then(|| Ok(Event::new("message.part.updated", &part).unwrap()));
        stream::iter(said.into_iter().chain(failure))
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
        let (agent, data_dir) = (Remembers::default(), tempfile::tempdir().unwrap());
        let agents = SubstrateChoice::Embedded(Agents::new("remembers", agent.clone()));
        let config = ServerConfig::new("127.0.0.1:0".parse().unwrap(), data_dir.path(), agents);
        let server = TestServer::run(config).await;
        let client = server.client.clone();
        let session = client.session().await;
        Talk { client, agent, session, _server: server, _data_dir: data_dir }
    }

    /// One turn, and the history that its run came with.
    async fn turn(&self, message: &str) -> Option<Value> {
        let id = format!("t{}", self.agent.0.lock().unwrap().len());
        self.client.turn(&self.session, &id, message).await.all().await;
        self.agent.0.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test]
async fn a_run_comes_with_what_was_said_before_it() {
    let talk = Talk::begin().await;
    assert_eq!(talk.turn("say one").await, None);
    assert_eq!(
        talk.turn("say half, then fail").await,
        Some(json!([
            { "role": "user", "content": "say one" },
            { "role": "assistant", "content": "one" },
        ]))
    );
    talk.turn("fail").await;
    assert_eq!(
        talk.turn("say three").await,
        Some(json!([
            { "role": "user", "content": "say one" },
            { "role": "assistant", "content": "one" },
            { "role": "user", "content": "say half, then fail" },
            { "role": "assistant", "content": "half, then fail" },
        ])),
        "a question without any answer is left out"
    );
}

#[tokio::test]
async fn the_oldest_messages_are_left_out_first() {
    let talk = Talk::begin().await;
    for at in 0..51 {
        talk.turn(&format!("say {at}")).await;
    }
    let history = talk.turn("say last").await.unwrap();
    let history = history.as_array().unwrap();
    assert_eq!((history.len(), &history[0]["content"]), (100, &json!("say 1")));
    let long = "\n".repeat(70_000);
    talk.turn(&format!("say a{long}")).await;
    let history = talk.turn("say after").await;
    assert_eq!(history, None, "280,000 bytes of JSON are over the limit");
    let history = talk.turn("say on").await.unwrap();
    assert_eq!(history.as_array().unwrap().len(), 2);
    assert_eq!(history[0]["content"], "say after");
}
