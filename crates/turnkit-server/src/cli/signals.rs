//! When to stop.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

/// Ctrl-C and SIGTERM, each one since this was made: none is lost between two looks.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(windows)]
    interrupt: CtrlC,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn listen() -> io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(windows)]
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals { interrupt: ctrl_c()? })
    }

    /// Waits for the next one. Cancel: safe.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the next one. Cancel: safe.
    #[cfg(windows)]
    pub(super) async fn next(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Each SIGHUP since this was made, which ends the process no more: with a file of tokens it has that read again, and whoever leaves the
/// terminal in which a server runs does not mean to stop it.
pub(super) struct Hangups {
    #[cfg(unix)]
    hangup: Signal,
}

impl Hangups {
    pub(super) fn listen() -> io::Result<Hangups> {
        Ok(Hangups {
            #[cfg(unix)]
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one; false where none will come. Cancel: safe.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> bool {
        self.hangup.recv().await.is_some()
    }

    /// There are none.
    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> bool {
        false
    }

    /// From now on the log says of each that there is nothing to do.
    pub(super) fn ignore(mut self) {
        tokio::spawn(async move {
            while self.next().await {
                tracing::info!("SIGHUP is ignored: there is no file of tokens to read again");
            }
        });
    }
}
