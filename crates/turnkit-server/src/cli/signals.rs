//! When to stop.

use std::io;

use tokio::signal::ctrl_c;

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_asked() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    ctrl_c().await
}
