//! Sign-ins: the secrets of cookies, and the tokens that they stand for.

use std::time::Duration;

use super::faults::Fault;
use super::transaction::Tx;
use super::values::digest;
use crate::store::{Digest, MAX_SIGN_INS};

/// Keeps a sign-in, and drops those that are over.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    secret: &Digest,
    token: &Digest,
    lasts: Duration,
) -> Result<(), Fault> {
    // Two of one token come one after the other: each is to see what the other has kept.
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))";
    tx.rows(sql, &[token.into()]).await?;
    tx.write("DELETE FROM turnkit_sign_ins WHERE ends_at <= clock_timestamp()", &[]).await?;
    // The same one again: the answer to the first was lost.
    let sql = "INSERT INTO turnkit_sign_ins (secret, token, created_at, ends_at)
        VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3 * interval '1 millisecond')
        ON CONFLICT (secret) DO UPDATE SET token = excluded.token, ends_at = excluded.ends_at";
    // Longer than anybody keeps a cookie, and within what a timestamp can be.
    let millis = lasts.min(Duration::from_secs(100 * 366 * 86_400)).as_millis();
    let millis = u64::try_from(millis).unwrap_or(u64::MAX);
    tx.write(sql, &[secret.into(), token.into(), millis.into()]).await?;
    let sql = "DELETE FROM turnkit_sign_ins WHERE token = $1 AND secret NOT IN
        (SELECT secret FROM turnkit_sign_ins WHERE token = $1 ORDER BY created_at DESC, number DESC LIMIT $2)";
    tx.write(sql, &[token.into(), MAX_SIGN_INS.into()]).await.map(drop)
}

pub(super) async fn token(tx: &mut Tx<'_>, secret: &Digest) -> Result<Option<Digest>, Fault> {
    let sql =
        "SELECT token FROM turnkit_sign_ins WHERE secret = $1 AND ends_at > clock_timestamp()";
    match tx.row(sql, &[secret.into()]).await? {
        Some(row) => digest(&row, 0),
        None => Ok(None),
    }
}

pub(super) async fn delete(tx: &mut Tx<'_>, secret: &Digest) -> Result<(), Fault> {
    let sql = "DELETE FROM turnkit_sign_ins WHERE secret = $1";
    tx.write(sql, &[secret.into()]).await.map(drop)
}
