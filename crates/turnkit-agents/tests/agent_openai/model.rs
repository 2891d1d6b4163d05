//! The agent that asks an OpenAI-compatible endpoint, against a real server with a real, small model.
//!
//! `TURNKIT_MODEL_PYTHON` names a Python in which `examples/agents/model.py` runs. Where it is not set, nothing is asked, and
//! the test says so.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use turnkit_agents::openai::{OpenAi, code};

use crate::harness::{Server, failure, joined, result};

/// A server of a model. Dropping it ends it.
struct Model {
    process: Child,
    base_url: String,
}

impl Model {
    fn start() -> Option<Self> {
        let python = env::var_os("TURNKIT_MODEL_PYTHON")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/agents/model.py");
        let mut model = Command::new(python);
        model.args([script, "0"]).stdin(Stdio::null());
        model.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = model.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let base_url = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()));
        Some(Self { process, base_url: base_url.expect("the model is not served") })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_model_answers_remembers_and_is_stopped() {
    let Some(model) = Model::start() else {
        println!("TURNKIT_MODEL_PYTHON is not set: no real model is asked");
        return;
    };
    let agent = OpenAi::builder(&model.base_url, "smollm2")
        .parameter("temperature", 0)
        .parameter("max_tokens", 24);
    let server = Server::with(agent.build().unwrap()).await;

    let question = "What is the capital of France? One sentence.";
    let events = server.ask(question).await;
    let answer = joined(&events, "text");
    assert!(answer.contains("Paris"), "{answer}");
    let first = result(&events);
    assert_eq!(first["finalText"], answer);
    assert!(events.len() > 5, "it came in pieces");

    let history = json!([{ "role": "user", "content": question }, { "role": "assistant", "content": answer }]);
    let again = json!({ "message": "Which country is that in?", "history": history });
    let second = result(&server.open("exec-2", &again).await.rest().await);
    let tokens = |result: &Value| result["tokenUsage"]["inputTokens"].as_u64().unwrap();
    assert!(tokens(&second) > tokens(&first), "the history was read");

    let mut stream = server.open("exec-3", &json!({ "message": "Tell me a long story." })).await;
    stream.until("message.part.updated").await;
    server.cancel("exec-3").await;
    assert_eq!(stream.rest().await.last().unwrap().kind(), "execution.cancelled");

    let too_long = json!({ "message": "word ".repeat(4_000) });
    let (code, message) = failure(&server.open("exec-4", &too_long).await.rest().await);
    assert_eq!(code, code::UPSTREAM_REJECTED);
    assert!(message.contains("400 Bad Request: request ("), "{message}");
}
