//! What must never be said. A test binary of its own, because it listens to everything that is logged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::net::TcpListener;
use tracing_subscriber::fmt::MakeWriter;
use turnkit_substrate::{Agent, AgentError, Run, RunRequest, Substrate};
use turnkit_wire::Event;

const TOKEN: &str = "a-token-nobody-may-see";
const WRONG: &str = "a-wrong-token-nobody-may-see";
const MESSAGE: &str = "a-message-nobody-may-see";

/// Answers with the message, then panics with it.
struct Indiscreet;

impl Agent for Indiscreet {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_core::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let mut said = false;
        futures_util::stream::poll_fn(move |_| {
            assert!(!said, "{}", run.request().message());
            said = true;
            let event = Event::new("said", run.request().message()).unwrap();
            std::task::Poll::Ready(Some(Ok(event)))
        })
    }
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Heard {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_token_and_no_message_is_ever_logged() {
    let heard = Heard::default();
    let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    everything.with_writer(heard.clone()).init();
    tracing::trace!("the log is heard");

    let substrate = Substrate::builder().agent("default", Indiscreet);
    let substrate = substrate.token("scope", TOKEN).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = substrate.clone();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/agents/run/stream");
    for (token, message) in [(TOKEN, MESSAGE), (WRONG, MESSAGE), (TOKEN, "another")] {
        let body = format!("{{\"message\":\"{message}\",\"timeout\":100}}");
        let request = client.post(&url).bearer_auth(token).body(body);
        let request = request.header("Content-Type", "application/json");
        request.header("X-Execution-ID", "a").send().await.unwrap().bytes().await.unwrap();
    }
    let shown =
        format!("{:?} {:?}", substrate.stats(), RunRequest::new("a".parse().unwrap(), MESSAGE));

    let heard = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap() + &shown;
    assert!(heard.contains("the log is heard"));
    for secret in [TOKEN, WRONG, MESSAGE] {
        assert!(!heard.contains(secret), "{secret} was said");
    }
}
