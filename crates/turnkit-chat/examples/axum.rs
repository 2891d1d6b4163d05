//! A product of its own over turnkit: a login, and in the same SQLite file its tables, of credits and of bills.
//!
//! `turnkit substrate --listen 127.0.0.1:8788`, then
//! `cargo run -p turnkit-chat --features axum,bundled --example axum -- shop.db http://127.0.0.1:8788 127.0.0.1:3000`, then
//! `turnkit chat --server http://127.0.0.1:3000 --token ann 'Tell me a story'`.

use std::{env, io, io::Write as _, time::Duration};

use axum::{extract::FromRequestParts, http::StatusCode, http::request::Parts};
use tokio::{net::TcpListener, signal::unix, time::timeout};
use turnkit_chat::sqlite::rusqlite::{self, Transaction, params};
use turnkit_chat::sqlite::{InTransaction, NotAccepted, SqliteStore};
use turnkit_chat::{Answer, Chat, Principal, Turn, store::Veto};
use turnkit_sandbox::{SandboxClient, SandboxClientBuilder};

/// The product's own users: whoever shows a name is that one. A real product looks into its own sessions here.
struct User(String);

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let shown = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
        let name = shown.and_then(|value| value.strip_prefix("Bearer "));
        name.map(|name| Self(name.to_owned())).ok_or(StatusCode::UNAUTHORIZED)
    }
}

impl From<User> for Principal {
    fn from(user: User) -> Self {
        Self::new("shop", user.0)
    }
}

/// What the product writes about a turn, in turnkit's own transactions: with them, or not at all.
struct Shop;

impl InTransaction for Shop {
    fn accepted(&self, tx: &Transaction<'_>, turn: &Turn) -> Result<(), NotAccepted> {
        let user = &turn.owner.user_id;
        tx.execute("INSERT INTO credits VALUES (?1, 100) ON CONFLICT DO NOTHING", [user])?;
        let sql = "UPDATE credits SET left = left - 1 WHERE user = ?1 AND left > 0";
        if tx.execute(sql, [user])? == 0 {
            let (code, message) = ("no_credit".to_owned(), "you have no credit left".to_owned());
            return Err(Veto { status: 402, code, message }.into());
        }
        Ok(())
    }

    fn saved(&self, tx: &Transaction<'_>, turn: &Turn, answer: &Answer) -> rusqlite::Result<()> {
        let sql = "INSERT INTO bills (execution, user, characters) VALUES (?1, ?2, ?3)";
        let characters = u32::try_from(answer.text.chars().count()).unwrap_or(u32::MAX);
        tx.execute(sql, params![turn.execution_id.as_str(), turn.owner.user_id, characters])
            .map(drop)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let (file, substrate, listen) = (arguments.next(), arguments.next(), arguments.next());
    let store = SqliteStore::open(file.as_deref().unwrap_or("shop.db"))?.within(Shop);
    let tables = "CREATE TABLE IF NOT EXISTS credits (user TEXT PRIMARY KEY, left INTEGER NOT NULL);
        CREATE TABLE IF NOT EXISTS bills (execution TEXT PRIMARY KEY, user TEXT, characters INTEGER);";
    store.write(|tx| tx.execute_batch(tables)).await?;

    let agents = SandboxClient::builder(substrate.as_deref().unwrap_or("http://127.0.0.1:8788"));
    let agents =
        env::var("SUBSTRATE_TOKEN").into_iter().fold(agents, SandboxClientBuilder::bearer_token);
    let (chat, attendant) = Chat::builder(store, agents.build()?).build().await?;
    let attending = tokio::spawn(attendant);
    let listener = TcpListener::bind(listen.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let address = listener.local_addr()?;
    writeln!(io::stdout(), "listening on http://{address}")?;
    let mut told = unix::signal(unix::SignalKind::terminate())?;
    let stopping = chat.clone();
    let stop = async move {
        told.recv().await;
        stopping.begin_shutdown(Duration::from_secs(30)); // turns that run may finish
    };
    let serve = axum::serve(listener, chat.router::<(), User>()).with_graceful_shutdown(stop);
    let server = tokio::spawn(serve.into_future());
    chat.ended().await;
    attending.await?;
    if let Ok(served) = timeout(Duration::from_secs(2), server).await {
        served??; // and a client that does not read holds nobody up
    }
    Ok(())
}
