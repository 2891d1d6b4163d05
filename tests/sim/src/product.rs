//! The product's workers: the real chat and its routes, over each of its stores and the adapter's real driver.

mod store;

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use turnkit::{BoxError, Hook, Persisted};
use turnkit_chat::{Attempt, AttemptObserver, BuildError, Chat, LocalUser, Observer, Turn};
use turnkit_id::ExecutionId;
use turnkit_sandbox::SandboxClient;

pub(crate) use self::store::Database;
use self::store::Unreliable;
use crate::{
    bugs,
    history::{Fact, Hooked},
    net,
    substrate::TOKEN,
    transport,
    world::World,
};

/// How often a worker looks for turns that nobody drives: sooner than by default, so that a world needs less time.
const SWEEP: Duration = Duration::from_secs(5);

/// When a silent stream counts as lost; the substrate says something every 2 s.
const IDLE: Duration = Duration::from_secs(6);

/// One worker, from its start to its death. All workers share the database, which outlives them.
pub(crate) async fn worker(
    world: World,
    database: Database,
    memory: bugs::Memory,
) -> Result<(), BoxError> {
    let way = bugs::transport(&world, transport::simulated(world.clone()), memory);
    let substrate = SandboxClient::builder("http://substrate")
        .bearer_token(TOKEN)
        .transport(tower::service_fn(move |request| transport::over(Arc::clone(&way), request)))
        .jitter_seed(world.plan().seed)
        .idle_timeout(IDLE)
        .build()?;
    let (chat, attendant) = loop {
        let (ids, watched) = (world.clone(), world.clone());
        let chat = Chat::builder(Unreliable::new(&world, database.open()?), substrate.clone())
            .session_ids(move || ids.fresh_id())
            .observe(Arc::new(Watcher(watched)))
            .sweep_every(SWEEP);
        match chat.build().await {
            Ok(built) => break built,
            // The substrate has lost its log, and the workers that live have not noticed yet: started again, as any process is.
            Err(BuildError::OtherLog) => sleep(Duration::from_secs(1)).await,
            Err(error) => return Err(error.into()),
        }
    };
    tokio::spawn(attendant);
    match net::serve(&world, chat.router::<(), LocalUser>()).await? {}
}

/// Writes down what each hook of each attempt has done.
struct Watcher(World);

impl Observer for Watcher {
    fn attempt(&self, turn: &Turn, _: Attempt) -> Option<Arc<dyn AttemptObserver>> {
        let (world, execution) = (self.0.clone(), turn.execution_id.clone());
        Some(Arc::new(Watched { world, execution }))
    }
}

struct Watched {
    world: World,
    execution: ExecutionId,
}

impl Watched {
    fn add(&self, hook: Hooked) {
        self.world.add(Fact::Hooked { execution: self.execution.clone(), hook });
    }
}

impl AttemptObserver for Watched {
    fn persisted(&self, persisted: Persisted) {
        self.add(match persisted {
            Persisted::Saved => Hooked::Saved,
            Persisted::AlreadySaved => Hooked::AlreadySaved,
        });
    }

    fn hook(&self, hook: Hook, _: Duration, _: Duration, ok: bool) {
        match hook {
            Hook::OnTurnComplete if ok => self.add(Hooked::Completed),
            Hook::OnTurnFailed if ok => self.add(Hooked::Failed),
            Hook::TraceFlush if ok => self.add(Hooked::Flushed),
            _ => {}
        }
    }
}
