//! The file of users' tokens, which SIGHUP has read again.

use std::error::Error;
use std::path::PathBuf;

use turnkit_chat::tokens::Users;

use super::signals::Hangups;

/// The file, and the users that are let in.
pub(super) struct Tokens {
    path: PathBuf,
    users: Users,
}

impl Tokens {
    /// Reads the file.
    pub(super) fn load(path: PathBuf) -> Result<Tokens, anyhow::Error> {
        Ok(Tokens { users: Users::load(&path)?, path })
    }

    pub(super) fn users(&self) -> Users {
        self.users.clone()
    }

    /// Reads the file again at each SIGHUP.
    pub(super) async fn read_when_told(self, mut hangups: Hangups) {
        while hangups.next().await {
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
}
