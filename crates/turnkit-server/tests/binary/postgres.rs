//! Servers that share no file, over one PostgreSQL.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use futures::future::join_all;
use turnkit_testkit::postgres::PostgresServer;

use crate::feed::is_told_once_and_in_order;
use crate::kill::{Reader, answer, client, comes_back, drawn, logged};
use crate::support::{Process, run, runs, text, turnkit};

/// One for all tests: it ends with the process.
pub(crate) static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);

fn serve(database: &str, substrate: &Process) -> Process {
    serve_at("127.0.0.1:0", database, &substrate.url)
}

fn serve_at(listen: &str, database: &str, substrate: &str) -> Process {
    let mut command = turnkit();
    command.args(["serve", "--listen", listen, "--substrate", substrate]);
    Process::spawn(command.env("TURNKIT_DATABASE", database).stderr(std::process::Stdio::null()))
}

#[tokio::test]
async fn servers_that_are_killed_in_turn_lose_no_answer_and_no_line() {
    const TURNS: usize = 10;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("substrate.log");
    let substrate = Process::counted_substrate("127.0.0.1:0", "25ms", &log);
    let database = SERVER.database();
    let [mut one, mut other] = [serve(&database, &substrate), serve(&database, &substrate)];
    let mut staying_away = Vec::new();
    for _ in 0..2 {
        let begun = client(&one);
        let mut readers = join_all((0..TURNS).map(|_| Reader::begin(&begun))).await;
        one.kill();
        let client = client(&other);
        let gone = readers.drain(TURNS / 2..).map(|reader| reader.session);
        staying_away.extend(gone);
        join_all(readers.into_iter().map(|reader| comes_back(&client, reader, &substrate))).await;
        (one, other) = (other, serve(&database, &substrate));
    }
    // Nobody tells that a worker on another machine is dead: its leases run out.
    for session in &staying_away {
        let answer = answer(&client(&other), session).await;
        assert_eq!(answer.text, drawn(&logged(&substrate.url, session).await));
    }
    assert_eq!(runs(&log), 2 * TURNS, "one run for each turn");
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_miss_and_repeat_nothing_of_the_feed() {
    let (database, substrate) = (SERVER.database(), Process::substrate("1ms"));
    let url = substrate.url.clone();
    is_told_once_and_in_order(Arc::new(move |listen| serve_at(listen, &database, &url))).await;
}

#[test]
fn a_database_that_cannot_be_used_is_told_without_its_password() {
    let nowhere = "postgres://turnkit:very-secret@127.0.0.1:1/chat?sslmode=disable";
    for (database, code, why) in [
        (nowhere, 1, "failed to open the database in PostgreSQL (--database): "),
        ("postgres://turnkit:very-secret@/chat", 2, "names no host"),
        ("postgres://h/chat?x=very-secret", 2, "is none of PostgreSQL"),
        ("postgres://:very-secret@h:very-secret/chat", 2, "is none of PostgreSQL"),
        ("mysql://turnkit:very-secret@h/chat", 2, "--database must be sqlite:DIR or postgres://"),
    ] {
        let serve = ["serve", "--listen", "127.0.0.1:0", "--database", database];
        let output = run(&serve);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(why) && !told.contains("secret"), "{told}");
        let checked = run(&[&serve[..], &["--check"]].concat());
        assert_eq!(checked.status.code(), Some(if code == 1 { 0 } else { 2 }), "nothing is sent");
        let printed = run(&[&serve[..], &["--print-config"]].concat());
        let printed = text(&printed.stdout);
        assert!(printed.contains("# database is set, and not shown  # command line"), "{printed}");
    }
}

#[test]
fn of_two_databases_the_one_counts_that_was_said_nearer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let both = run(&["serve", "--database", "sqlite:x", "--data-dir", path]);
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("short for --database sqlite:DIR"));
    let nowhere = "postgres://turnkit@127.0.0.1:1/chat?sslmode=disable";
    let mut serve = turnkit();
    serve.env("TURNKIT_DATABASE", nowhere).args(["serve", "--listen", "127.0.0.1:0"]);
    let refused = serve.env("TURNKIT_DATA_DIR", path).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
    let serves = Process::spawn(serve.args(["--data-dir", path]));
    assert_eq!(serves.terminate(), Some(0));
    let file = format!("{path}/turnkit.db");
    assert!(std::fs::exists(file).unwrap());
}

#[test]
fn a_database_behind_tls_is_used_where_its_certificate_is_vouched_for_by_its_name() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let another = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let server = PostgresServer::start_with_tls(&pem, &made.signing_key.serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (trusted, untrusted) = (file("trusted", &pem), file("untrusted", &another.cert.pem()));
    let database = server.database();
    let serve = |database: &str, authority: &Path| {
        let mut serve = turnkit();
        serve.args(["serve", "--listen", "127.0.0.1:0"]).env("TURNKIT_DATABASE", database);
        serve.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", authority);
        serve
    };
    for mode in ["require", "verify-full"] {
        let database = database.replace("sslmode=disable", &format!("sslmode={mode}"));
        let process = Process::spawn(&mut serve(&database, &trusted));
        let spoken = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'turnkit'";
        assert_eq!(server.sql("postgres", spoken).trim(), "t", "{mode}");
        assert_eq!(process.terminate(), Some(0));
        let nobody = serve(&database, &untrusted).output().unwrap();
        let told = text(&nobody.stderr);
        assert!(nobody.status.code() == Some(1) && told.contains("certificate"), "{mode}: {told}");
        let renamed = database.replace("127.0.0.1", "localhost") + "&hostaddr=127.0.0.1";
        let renamed = serve(&renamed, &trusted).output().unwrap();
        let told = text(&renamed.stderr);
        assert!(renamed.status.code() == Some(1) && told.contains("certificate"), "{mode}: {told}");
    }
}
