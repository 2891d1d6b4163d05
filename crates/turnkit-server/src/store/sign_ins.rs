//! Sign-ins: the secrets of cookies, and the tokens that they stand for. Of both, only the SHA-256 is kept.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, StoreError};
use crate::users::Digest;

/// Sign-ins of one token. The oldest gives way to one more.
const MAX_OF_TOKEN: u32 = 100;

/// A sign-in.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    pub(crate) secret: Digest,
    pub(crate) token: Digest,
    /// For how many milliseconds it holds.
    pub(crate) lasts: i64,
}

impl Store {
    /// Keeps a sign-in, and drops those that are over.
    pub(crate) async fn sign_in(&self, sign_in: SignIn) -> Result<(), StoreError> {
        let now = self.now();
        self.writer.run(move |db| insert(db, &sign_in, now)).await
    }

    /// The token that a sign-in stands for, where it still does.
    pub(crate) async fn signed_in(&self, secret: Digest) -> Result<Option<Digest>, StoreError> {
        let now = self.now();
        let sql = "SELECT token FROM sign_ins WHERE secret = ?1 AND ends_at > ?2";
        self.reader
            .run(move |db| {
                let values = params![secret, now];
                db.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
            })
            .await
    }

    /// Ends a sign-in.
    pub(crate) async fn sign_out(&self, secret: Digest) -> Result<(), StoreError> {
        let sql = "DELETE FROM sign_ins WHERE secret = ?1";
        self.writer.run(move |db| db.prepare_cached(sql)?.execute([secret]).map(drop)).await
    }
}

fn insert(db: &Connection, sign_in: &SignIn, now: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM sign_ins WHERE ends_at <= ?1")?.execute([now])?;
    let sql = "INSERT INTO sign_ins (secret, token, created_at, ends_at) VALUES (?1, ?2, ?3, ?4)";
    let ends_at = now.saturating_add(sign_in.lasts);
    db.prepare_cached(sql)?.execute(params![sign_in.secret, sign_in.token, now, ends_at])?;
    let sql = "DELETE FROM sign_ins WHERE token = ?1 AND secret NOT IN
        (SELECT secret FROM sign_ins WHERE token = ?1 ORDER BY created_at DESC, rowid DESC LIMIT ?2)";
    db.prepare_cached(sql)?.execute(params![sign_in.token, MAX_OF_TOKEN]).map(drop)
}
