//! The file of users' tokens, which SIGHUP has read again.

use std::error::Error;
use std::path::PathBuf;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

use turnkit_chat::tokens::Users;

/// The file, and the users that are let in.
pub(super) struct Tokens {
    path: PathBuf,
    users: Users,
    #[cfg(unix)]
    hangup: Signal,
}

impl Tokens {
    /// Reads the file. From here on SIGHUP does not end the process.
    pub(super) fn load(path: PathBuf) -> Result<Tokens, anyhow::Error> {
        Ok(Tokens {
            users: Users::load(&path)?,
            path,
            #[cfg(unix)]
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) fn users(&self) -> Users {
        self.users.clone()
    }

    /// Reads the file again at each SIGHUP.
    pub(super) async fn read_when_told(mut self) {
        while self.is_told().await {
            self.read();
        }
    }

    /// A file that is wrong locks nobody out: its users stay as they are.
    fn read(&self) {
        match Users::load(&self.path) {
            Ok(users) => {
                self.users.replace(&users);
                tracing::info!(?users, "read the tokens again");
            }
            Err(error) => {
                let why = error.source().map(ToString::to_string);
                tracing::error!(%error, why, "the tokens stay as they were");
            }
        }
    }

    #[cfg(unix)]
    async fn is_told(&mut self) -> bool {
        self.hangup.recv().await.is_some()
    }

    #[cfg(not(unix))]
    async fn is_told(&mut self) -> bool {
        false
    }
}
