//! The product's workers: the real routes, turns, sweep and database, over the adapter's real driver.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use turnkit::{BoxError, Persisted, TurnContext};
use turnkit_sandbox::SandboxClient;
use turnkit_server::{Environment, Product};

use crate::{
    bugs,
    history::{Fact, Hooked},
    net,
    substrate::TOKEN,
    transport,
    world::{World, unix_ms},
};

/// How often a worker looks for turns that nobody drives: sooner than by default, so that a world needs less time.
const SWEEP: Duration = Duration::from_secs(5);

/// When a silent stream counts as lost; the substrate says something every 2 s.
const IDLE: Duration = Duration::from_secs(6);

/// One worker, from its start to its death. All workers share the database in `data_dir`, which outlives them.
pub(crate) async fn worker(
    world: World,
    data_dir: PathBuf,
    memory: bugs::Memory,
) -> Result<(), BoxError> {
    let way = bugs::transport(&world, transport::simulated(world.clone()), memory);
    let substrate = SandboxClient::builder("http://substrate")
        .bearer_token(TOKEN)
        .transport(tower::service_fn(move |request| transport::over(Arc::clone(&way), request)))
        .jitter_seed(world.plan().seed)
        .idle_timeout(IDLE)
        .build()?;
    let product = Product::builder(data_dir, substrate)
        .environment(environment(&world))
        .sweep_every(SWEEP)
        .build()?;
    tokio::spawn(product.sweep_always());
    match net::serve(&world, product.router()).await? {}
}

fn hooked(world: &World, turn: &TurnContext, hook: turnkit_server::Hooked) {
    let hook = match hook {
        turnkit_server::Hooked::Persisted(Persisted::Saved) => Hooked::Saved,
        turnkit_server::Hooked::Persisted(Persisted::AlreadySaved) => Hooked::AlreadySaved,
        turnkit_server::Hooked::Completed => Hooked::Completed,
        turnkit_server::Hooked::Failed => Hooked::Failed,
        turnkit_server::Hooked::Flushed => Hooked::Flushed,
    };
    world.add(Fact::Hooked { execution: turn.execution_id().clone(), hook });
}

fn environment(world: &World) -> Environment {
    let (ids, pauses, hooks) = (world.clone(), world.clone(), world.clone());
    Environment {
        clock: Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms())),
        ids: Arc::new(move || ids.fresh_id()),
        threads: false,
        pause: Some(Arc::new(move || pauses.pause())),
        on_hook: Some(Arc::new(move |turn, hook| hooked(&hooks, turn, hook))),
        ..Environment::default()
    }
}
