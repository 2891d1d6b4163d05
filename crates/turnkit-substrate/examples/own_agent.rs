//! Your own agent behind a substrate.
//!
//! ```sh
//! cargo run -p turnkit-substrate --example own_agent
//! curl -N 127.0.0.1:8790/agents/run/stream -H 'content-type: application/json' -H 'x-execution-id: one' -d '{"message":"hello"}'
//! curl -N 127.0.0.1:8790/agents/executions/one/stream    # again, from the log: the agent is not asked
//! ```

use std::time::Duration;

use futures_core::Stream;
use futures_util::stream;
use tokio::{net::TcpListener, time};
use turnkit_substrate::{Agent, AgentError, Run, Substrate};
use turnkit_wire::{Event, write::Part};

/// Says the message, one word every 200 ms.
struct Parrot;

impl Agent for Parrot {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let words: Vec<_> =
            run.request().message().split_inclusive(' ').map(str::to_owned).collect();
        stream::unfold(words.into_iter(), async |mut words| {
            let word = words.next()?;
            time::sleep(Duration::from_millis(200)).await;
            Some((Ok(Part::new("prt_1").text_delta(&word)), words))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let substrate = Substrate::builder().agent("default", Parrot).build()?;
    let listener = TcpListener::bind("127.0.0.1:8790").await?;
    substrate.serve(listener, std::future::pending()).await?;
    Ok(())
}
