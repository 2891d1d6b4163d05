//! The substrate's node: the real routes over the log that outlives it, with the scripted agent behind them.

use std::{sync::Arc, time::Duration};

use turnkit::BoxError;
use turnkit_substrate::Substrate;

use crate::{
    agent::Scripted,
    log::{Logs, SimClock},
    net,
    world::World,
};

/// The token that everyone here bears: one scope.
pub(crate) const TOKEN: &str = "simulated";

/// How long a run counts as alive that has nobody to run it.
const LEASE: Duration = Duration::from_secs(2);

/// The node, from its start to its death.
pub(crate) async fn node(world: World, logs: Logs) -> Result<(), BoxError> {
    let (log, unnoticed) = logs.open();
    let substrate = Substrate::builder()
        .agent("default", Scripted::new(world.clone()))
        .log(log.clone())
        .clock(Arc::new(SimClock))
        .token("product", TOKEN)
        .build()?;
    tokio::spawn(async move {
        tokio::time::sleep(unnoticed).await;
        loop {
            log.bury().await;
            tokio::time::sleep(LEASE).await;
        }
    });
    match net::serve(&world, substrate.router()).await? {}
}
