//! The store in PostgreSQL, on a server that these tests start.

mod cutting;
mod faults;
mod plans;

use std::sync::LazyLock;
use std::time::Duration;

use futures_core::future::BoxFuture;
use turnkit_chat::postgres::tokio_postgres::types::Type;
use turnkit_chat::postgres::tokio_postgres::{Error, Transaction};
use turnkit_chat::postgres::{InTransaction, NotAccepted, PostgresStore};
use turnkit_chat::store::Veto;
use turnkit_chat::{Answer, ChatStore, Ending, StoreError, Turn};
use turnkit_id::ExecutionId;
use turnkit_testkit::chat_store_contract;
use turnkit_testkit::postgres::PostgresServer;
use turnkit_testkit::store_contract::{
    FAILING, REFUSED, Schema, Statements, StoreFixture, Written,
};

use super::older;

/// One for all tests: it ends with the process.
static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);

struct Database(String);

impl Database {
    fn new() -> Database {
        Database(SERVER.database())
    }

    fn sql(&self, statements: &str) -> String {
        SERVER.sql(self.name(), statements)
    }

    fn name(&self) -> &str {
        let path = self.0.rsplit_once('/').unwrap().1;
        path.split_once('?').unwrap().0
    }
}

/// Writes down what was done, and stops where the contract says.
struct Writing;

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS written (what TEXT NOT NULL, execution_id TEXT NOT NULL)";

async fn write(tx: &Transaction<'_>, what: &str, turn: &Turn, text: &str) -> Result<(), Error> {
    let sql = "INSERT INTO written VALUES ($1, $2)";
    let id = turn.execution_id.as_str();
    tx.execute_typed(sql, &[(&what, Type::TEXT), (&id, Type::TEXT)]).await?;
    if text == FAILING { tx.batch_execute("SELECT 1 / 0").await } else { Ok(()) }
}

impl InTransaction for Writing {
    fn accepted<'t>(
        &'t self,
        tx: &'t Transaction<'t>,
        turn: &'t Turn,
    ) -> BoxFuture<'t, Result<(), NotAccepted>> {
        Box::pin(async move {
            write(tx, "accepted", turn, &turn.message).await?;
            if turn.message == REFUSED {
                let (code, message) = ("refused".to_owned(), "as the contract asks for".to_owned());
                return Err(Veto { status: 402, code, message }.into());
            }
            Ok(())
        })
    }

    fn saved<'t>(
        &'t self,
        tx: &'t Transaction<'t>,
        turn: &'t Turn,
        answer: &'t Answer,
    ) -> BoxFuture<'t, Result<(), Error>> {
        Box::pin(write(tx, "saved", turn, &answer.text))
    }

    fn ended<'t>(
        &'t self,
        tx: &'t Transaction<'t>,
        turn: &'t Turn,
        ending: &'t Ending,
    ) -> BoxFuture<'t, Result<(), Error>> {
        Box::pin(write(tx, "ended", turn, &ending.partial.text))
    }
}

impl Statements<Database> for Database {
    async fn written(fixture: &Database, execution_id: &ExecutionId) -> Written {
        let sql = format!("SELECT what FROM written WHERE execution_id = '{execution_id}'");
        let written = fixture.sql(&sql);
        let [accepted, saved, ended] = ["accepted", "saved", "ended"]
            .map(|what| written.lines().filter(|line| *line == what).count() as u64);
        Written { accepted, saved, ended }
    }
}

impl Schema<Database> for Database {
    /// There was none before this one.
    async fn make_older(_: &Database) {}

    async fn make_newer(fixture: &Database) {
        fixture.sql(
            "CREATE TABLE turnkit_schema (id SMALLINT PRIMARY KEY, version BIGINT NOT NULL);
            INSERT INTO turnkit_schema VALUES (1, 1000);",
        );
    }

    async fn dump(fixture: &Database) -> Vec<u8> {
        SERVER.dump(fixture.name())
    }
}

impl StoreFixture for Database {
    type Store = PostgresStore;
    type Statements = Database;
    type Schema = Database;
    const KEEPS_SIGN_INS: bool = true;

    async fn open(&self) -> Result<PostgresStore, StoreError> {
        let store = PostgresStore::builder(&self.0).connections(8).open().await?;
        // Two that make it at once are in each other's way.
        let table = format!("SELECT pg_advisory_xact_lock(1); {TABLE}");
        store
            .write(move |tx| {
                let table = table.clone();
                Box::pin(async move { tx.batch_execute(&table).await })
            })
            .await?;
        Ok(store.within(Writing))
    }

    /// Its clock is the server's. To move all that it has noted back is the same.
    async fn advance(&self, by: Duration) {
        let by = by.as_millis();
        let moves: String = [
            ("turnkit_workers", "renewed_at"),
            ("turnkit_turns", "claimed_at"),
            ("turnkit_sessions", "created_at"),
            ("turnkit_sessions", "active_at"),
            ("turnkit_deleted_sessions", "deleted_at"),
            ("turnkit_sign_ins", "created_at"),
            ("turnkit_sign_ins", "ends_at"),
        ]
        .map(|(table, column)| {
            format!("UPDATE {table} SET {column} = {column} - interval '{by} milliseconds';")
        })
        .concat();
        self.sql(&moves);
    }
}

chat_store_contract!(Database::new());

/// Turns that were accepted before they knew their places have them once the database is migrated.
#[tokio::test]
async fn old_turns_know_their_places() {
    let database = Database::new();
    let store = database.open().await.unwrap();
    let turns = older::converse(&store).await;
    let told = older::told(&store, &turns).await;
    store.close().await;
    database.sql(
        "DROP TABLE turnkit_turn_names;
        ALTER TABLE turnkit_turns DROP COLUMN lane, DROP COLUMN said_before, DROP COLUMN said_bytes_before, DROP COLUMN said_bytes;
        UPDATE turnkit_schema SET version = 2;",
    );
    let store = database.open().await.unwrap();
    assert_eq!(older::told(&store, &turns).await, told);
    assert_eq!(older::left_out_of_one_more(&store).await, 2);
    store.close().await;
}
