//! Asks an agent once and prints its events, one a line: to try one without a server.
//!
//! ```sh
//! cargo run -p turnkit-agents --features command,openai --example agents -- command ./agent.sh
//! cargo run -p turnkit-agents --features command,openai --example agents -- openai http://127.0.0.1:8080/v1 local
//! ```
//!
//! The message comes from standard input, the key from `OPENAI_API_KEY`.

use std::{
    env,
    error::Error,
    io::{self, Read as _, Write as _},
    pin::pin,
    sync::Arc,
};

use futures_util::StreamExt as _;
use turnkit_agent::{ErasedAgent, RunRequest};
use turnkit_agents::{command::Command, openai::OpenAi};
use turnkit_id::ExecutionId;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let agent = agent(&arguments)?;
    let mut message = String::new();
    io::stdin().read_to_string(&mut message)?;
    let request = RunRequest::new(ExecutionId::parse("exec-1")?, message.trim());
    let mut events = pin!(agent.run_boxed(request.into()));
    while let Some(event) = events.next().await {
        io::stdout().write_all(event?.as_line())?;
    }
    Ok(())
}

fn agent(arguments: &[String]) -> Result<Arc<dyn ErasedAgent>, Box<dyn Error>> {
    match arguments {
        [kind, program, arguments @ ..] if kind == "command" => {
            Ok(Arc::new(Command::new(program).args(arguments)))
        }
        [kind, base_url, model] if kind == "openai" => {
            let mut agent = OpenAi::builder(base_url, model);
            if let Ok(key) = env::var("OPENAI_API_KEY") {
                agent = agent.key(key);
            }
            Ok(Arc::new(agent.build()?))
        }
        _ => Err("say `command PROGRAM [ARGUMENTS]` or `openai BASE_URL MODEL`".into()),
    }
}
