//! Sign-ins: the secrets of cookies, and the tokens that they stand for.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::{Digest, MAX_SIGN_INS};

/// Keeps a sign-in, and drops those that are over.
pub(super) fn insert(
    db: &Connection,
    secret: Digest,
    token: Digest,
    lasts: i64,
    now: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM turnkit_sign_ins WHERE ends_at <= ?1")?.execute([now])?;
    // The same one again: the answer to the first was lost.
    let sql =
        "INSERT INTO turnkit_sign_ins (secret, token, created_at, ends_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (secret) DO UPDATE SET token = excluded.token, ends_at = excluded.ends_at";
    db.prepare_cached(sql)?.execute(params![secret, token, now, now.saturating_add(lasts)])?;
    let sql = "DELETE FROM turnkit_sign_ins WHERE token = ?1 AND secret NOT IN
        (SELECT secret FROM turnkit_sign_ins WHERE token = ?1 ORDER BY created_at DESC, rowid DESC LIMIT ?2)";
    let most = i64::try_from(MAX_SIGN_INS).unwrap_or(i64::MAX);
    db.prepare_cached(sql)?.execute(params![token, most]).map(drop)
}

pub(super) fn token(db: &Connection, secret: Digest, now: i64) -> rusqlite::Result<Option<Digest>> {
    let sql = "SELECT token FROM turnkit_sign_ins WHERE secret = ?1 AND ends_at > ?2";
    db.prepare_cached(sql)?.query_row(params![secret, now], |row| row.get(0)).optional()
}

pub(super) fn delete(db: &Connection, secret: Digest) -> rusqlite::Result<()> {
    let sql = "DELETE FROM turnkit_sign_ins WHERE secret = ?1";
    db.prepare_cached(sql)?.execute([secret]).map(drop)
}
