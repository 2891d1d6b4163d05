//! The store in a file: as products have it, and used in place as a simulation has it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::spawn_blocking;
use turnkit_chat::sqlite::rusqlite::{self, Connection, Transaction};
use turnkit_chat::sqlite::{InTransaction, NotAccepted, SqliteStore};
use turnkit_chat::store::Veto;
use turnkit_chat::{Answer, ChatStore, Ending, StoreError, Turn};
use turnkit_id::ExecutionId;
use turnkit_testkit::chat_store_contract;
use turnkit_testkit::store_contract::{
    FAILING, REFUSED, Schema, Statements, StoreFixture, Written,
};

/// A directory with a database that lives as long as it does.
struct File(TempDir);

impl File {
    fn new() -> File {
        File(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("chat.db")
    }

    /// A connection of somebody else's.
    fn connection(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
    }

    fn written(&self, execution_id: &ExecutionId) -> Written {
        let count = |connection: &Connection, what: &str| {
            let sql = "SELECT count(*) FROM written WHERE what = ?1 AND execution_id = ?2";
            let values = (what, execution_id.as_str());
            connection.query_row(sql, values, |row| row.get::<_, u32>(0)).unwrap().into()
        };
        let connection = self.connection();
        let [accepted, saved, ended] =
            ["accepted", "saved", "ended"].map(|what| count(&connection, what));
        Written { accepted, saved, ended }
    }
}

/// Writes down what was done, and stops where the contract says.
struct Writing;

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS written (what TEXT NOT NULL, execution_id TEXT NOT NULL)";

fn write(tx: &Transaction<'_>, what: &str, turn: &Turn, text: &str) -> rusqlite::Result<()> {
    let values = (what, turn.execution_id.as_str());
    tx.execute("INSERT INTO written VALUES (?1, ?2)", values)?;
    if text == FAILING { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
}

impl InTransaction for Writing {
    fn accepted(&self, tx: &Transaction<'_>, turn: &Turn) -> Result<(), NotAccepted> {
        write(tx, "accepted", turn, &turn.message)?;
        if turn.message == REFUSED {
            let (code, message) = ("refused".to_owned(), "as the contract asks for".to_owned());
            return Err(Veto { status: 402, code, message }.into());
        }
        Ok(())
    }

    fn saved(&self, tx: &Transaction<'_>, turn: &Turn, answer: &Answer) -> rusqlite::Result<()> {
        write(tx, "saved", turn, &answer.text)
    }

    fn ended(&self, tx: &Transaction<'_>, turn: &Turn, ending: &Ending) -> rusqlite::Result<()> {
        write(tx, "ended", turn, &ending.partial.text)
    }
}

/// The file as it is, whoever opens it.
struct Tables;

impl<F: AsRef<File> + Sync> Statements<F> for Tables {
    async fn written(fixture: &F, execution_id: &ExecutionId) -> Written {
        fixture.as_ref().written(execution_id)
    }
}

impl<F: AsRef<File> + Sync> Schema<F> for Tables {
    /// That of the binary before this crate.
    async fn make_older(fixture: &F) {
        let tables = include_str!("../../src/sqlite/unprefixed.sql");
        fixture.as_ref().connection().execute_batch(tables).unwrap();
    }

    async fn make_newer(fixture: &F) {
        let tables =
            "CREATE TABLE turnkit_schema (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
            INSERT INTO turnkit_schema VALUES (1, 1000);";
        fixture.as_ref().connection().execute_batch(tables).unwrap();
    }

    async fn dump(fixture: &F) -> Vec<u8> {
        fs::read(fixture.as_ref().path()).unwrap()
    }
}

mod with_threads {
    use super::super::older;
    use super::*;

    struct InFile(File);

    impl AsRef<File> for InFile {
        fn as_ref(&self) -> &File {
            &self.0
        }
    }

    impl StoreFixture for InFile {
        type Store = SqliteStore;
        type Statements = Tables;
        type Schema = Tables;
        const KEEPS_SIGN_INS: bool = true;

        async fn open(&self) -> Result<SqliteStore, StoreError> {
            let path = self.0.path();
            let store = spawn_blocking(|| SqliteStore::open(path)).await.unwrap()?;
            store.write(|tx| tx.execute_batch(TABLE)).await?;
            Ok(store.within(Writing))
        }

        /// Its clock is the system's. To move all that it has noted back is the same.
        async fn advance(&self, by: Duration) {
            let mut connection = self.0.connection();
            let tx = connection.transaction().unwrap();
            let by = i64::try_from(by.as_millis()).unwrap();
            for (table, column) in [
                ("turnkit_workers", "renewed_at"),
                ("turnkit_turns", "claimed_at"),
                ("turnkit_sessions", "created_at"),
                ("turnkit_sessions", "active_at"),
                ("turnkit_deleted_sessions", "deleted_at"),
                ("turnkit_sign_ins", "created_at"),
                ("turnkit_sign_ins", "ends_at"),
            ] {
                let sql = format!("UPDATE {table} SET {column} = {column} - ?1");
                tx.execute(&sql, [by]).unwrap();
            }
            tx.commit().unwrap();
        }
    }

    chat_store_contract!(InFile(File::new()));

    /// Turns that were accepted before they knew their places have them once the database is migrated.
    #[tokio::test]
    async fn old_turns_know_their_places() {
        let file = InFile(File::new());
        let store = file.open().await.unwrap();
        let turns = older::converse(&store).await;
        let told = older::told(&store, &turns).await;
        store.close().await;
        let back = "DROP TABLE turnkit_turn_names;
            DROP INDEX turnkit_lanes;
            DROP INDEX turnkit_forks;
            ALTER TABLE turnkit_turns DROP COLUMN lane;
            ALTER TABLE turnkit_turns DROP COLUMN said_before;
            ALTER TABLE turnkit_turns DROP COLUMN said_bytes_before;
            CREATE INDEX turnkit_branches ON turnkit_turns (session_id, turn_index, parent_index, said_bytes);
            UPDATE turnkit_schema SET version = 7;";
        file.0.connection().execute_batch(back).unwrap();
        let store = file.open().await.unwrap();
        assert_eq!(older::told(&store, &turns).await, told);
        assert_eq!(older::left_out_of_one_more(&store).await, 2);
        store.close().await;
    }
}

#[cfg(feature = "simulation")]
mod in_place {
    use super::super::in_memory::Clock;
    use super::*;

    struct InPlace {
        file: File,
        clock: Clock,
    }

    impl AsRef<File> for InPlace {
        fn as_ref(&self) -> &File {
            &self.file
        }
    }

    impl StoreFixture for InPlace {
        type Store = SqliteStore;
        type Statements = Tables;
        type Schema = Tables;
        const KEEPS_SIGN_INS: bool = true;

        async fn open(&self) -> Result<SqliteStore, StoreError> {
            let now = self.clock.clone();
            let store = SqliteStore::in_place(self.file.path(), move || now.now())?;
            store.write(|tx| tx.execute_batch(TABLE)).await?;
            Ok(store.within(Writing))
        }

        async fn advance(&self, by: Duration) {
            self.clock.advance(by);
        }
    }

    chat_store_contract!(InPlace { file: File::new(), clock: Clock::default() });
}
