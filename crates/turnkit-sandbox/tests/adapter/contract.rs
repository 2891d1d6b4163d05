//! The contract of producers, with the adapter as the producer and a scripted substrate as its upstream.

use bytes::BytesMut;
use turnkit_sandbox::SandboxTurn;
use turnkit_testkit::{ProducerFixture, Upstream, UpstreamEnd};
use turnkit_wire::sse;

use super::support::{Answer, Server, completed, refusal, response};

#[derive(Default)]
struct Sandbox {
    server: Option<Server>,
}

impl ProducerFixture for Sandbox {
    type Producer = SandboxTurn;

    async fn produce(&mut self, upstream: Upstream) -> SandboxTurn {
        let status = r#"{"executionId":"project:session:0","state":"cancelled"}"#;
        let server = Server::start([answer(&upstream), refusal("200 OK", "", status)]).await;
        let turn = server.run();
        self.server = Some(server);
        turn
    }

    async fn released(&mut self) {
        if let Some(server) = &self.server {
            server.released().await;
        }
    }
}

fn answer(upstream: &Upstream) -> Answer {
    let mut body = BytesMut::new();
    for (event, seq) in upstream.events.iter().zip(1..) {
        sse::write_event(&mut body, Some(&format!("7-{seq}")), event).unwrap();
    }
    let last = upstream.events.len() + 1;
    let head = |body: &[u8]| response("200 OK", "content-type: text/event-stream\r\n", body);
    match upstream.end {
        UpstreamEnd::Open => Answer::Silent(head(&body)),
        UpstreamEnd::Done => {
            body.extend_from_slice(completed(u32::try_from(last).unwrap()).as_bytes());
            Answer::Bytes(head(&body))
        }
        UpstreamEnd::Failed => {
            let failed = format!("id: 7-{last}\nevent: execution.failed\ndata: {{}}\n\n");
            body.extend_from_slice(failed.as_bytes());
            Answer::Bytes(head(&body))
        }
    }
}

turnkit_testkit::producer_contract!(Sandbox::default());
