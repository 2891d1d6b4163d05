//! No token and no word of the user in any output, at the most verbose level. A binary of its own: loggers are global.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

#[path = "../adapter/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
};

use log::{LevelFilter, Log, Metadata, Record};
use support::{Answer, Server, completed, frames, id, read, refusal, response, stream};
use tracing_subscriber::{filter::LevelFilter as TracingLevel, fmt::MakeWriter};
use turnkit::TurnProducer;
use turnkit_sandbox::{RunRequest, SandboxClient};

const TOKEN: &str = "t0ken-that-nobody-sees";
const PROMPT: &str = "words-that-nobody-sees";

/// Everything that was written, by whatever way.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn add(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Log for Output {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.add(&format!("log {} {} {}\n", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn listen() -> Output {
    let output = Output::default();
    log::set_boxed_logger(Box::new(output.clone())).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let tracing = tracing_subscriber::fmt().with_max_level(TracingLevel::TRACE).with_ansi(false);
    tracing.with_writer(output.clone()).init();
    output
}

#[tokio::test]
async fn nothing_that_is_written_holds_the_token_or_the_users_words() {
    let output = listen();
    for answers in troubles() {
        let server = Server::start(answers).await;
        let client = server.builder().bearer_token(TOKEN).build().unwrap();
        meet(&client, &output).await;
        drop(server);
    }
    let text = output.text();
    for expected in
        ["TRACE", "reqwest", "turnkit_sandbox", "lost the substrate", "could not cancel"]
    {
        assert!(text.contains(expected), "nothing of {expected} was written: {text}");
    }
    for secret in [TOKEN, PROMPT, "Bearer t0"] {
        assert!(!text.contains(secret), "{secret} was written: {text}");
    }
}

/// Answers that lead down every path on which something is written.
fn troubles() -> Vec<Vec<Answer>> {
    let echo = format!(r#"{{"request":"{PROMPT}","authorization":"Bearer {TOKEN}"}}"#);
    let busy = refusal("503 Service Unavailable", "", &echo);
    let echoed = format!("id: 7-1\nevent: x\ndata: {echo}\n\n");
    let garbage = stream(echoed.clone() + &format!("event: x\ndata: {{{PROMPT}\n\n"));
    let html = Answer::Bytes(response("200 OK", "content-type: text/html\r\n", &echo));
    vec![
        Vec::new(),
        vec![busy.clone(), busy.clone(), busy.clone(), busy],
        vec![stream(echoed), stream(frames(3..=4))],
        vec![garbage],
        vec![html],
        vec![refusal("302 Found", "location: http://127.0.0.1:1/\r\n", &echo)],
        vec![refusal("401 Unauthorized", "", &echo)],
        vec![stream(completed(1)), refusal("400 Bad Request", "", &echo)],
    ]
}

async fn meet(client: &SandboxClient, output: &Output) {
    let request = RunRequest::new(id(), PROMPT).session_id("s");
    let mut shown = format!("{client:?} {request:?}");
    let mut turn = client.run(request);
    write!(shown, "{turn:?}").unwrap();
    let end = read(&mut turn).await.1;
    turn.cancel().await;
    write!(shown, "{end:?} {turn:?} {:?}", client.status(&id()).await).unwrap();
    if let Err(error) = end {
        write!(shown, "{error}").unwrap();
    }
    output.add(&shown);
}
