//! `turnkit serve` and `turnkit substrate`

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Process, run, signal, text, turnkit};

#[test]
fn it_ends_well_when_it_is_told_to() {
    let data_dir = tempfile::tempdir().unwrap();
    assert_eq!(Process::serve(&data_dir, &[]).terminate(), Some(0));
    assert_eq!(Process::substrate("1ms").terminate(), Some(0));
}

#[test]
fn a_running_turn_may_finish_before_it_ends() {
    let data_dir = tempfile::tempdir().unwrap();
    let server = Process::serve(&data_dir, &["--demo-pace", "20ms"]);
    let mut command = turnkit();
    command.args(["chat", "--json", "--server", &server.url, "hello"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    crate::support::lines(&mut child, 2);
    assert_eq!(server.terminate(), Some(0));
    let output = child.wait_with_output().unwrap();
    let last: Value = serde_json::from_str(text(&output.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "session.run.completed");
}

#[cfg(target_os = "linux")]
#[test]
fn it_may_open_as_many_files_as_the_machine_allows() {
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().to_str().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 100; exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\""]);
    let server = Process::spawn(command.arg(env!("CARGO_BIN_EXE_turnkit")).arg(data));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|column| files.split_whitespace().nth(column).unwrap());
    assert_eq!(soft, hard, "{files}");
}

#[test]
fn others_than_loopback_are_refused() {
    let data_dir = tempfile::tempdir().unwrap();
    let output =
        run(&["serve", "--listen", "0.0.0.0:0", "--data-dir", data_dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("only loopback addresses"), "{}", text(&output.stderr));
    let output = run(&["substrate", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("only loopback addresses"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "", "it is not ready");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let data_dir = tempfile::tempdir().unwrap();
    let taken =
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let holder = std::net::TcpListener::bind(&taken).unwrap();
    let output =
        run(&["serve", "--listen", &taken, "--data-dir", data_dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with(&format!("turnkit: failed to listen on {taken}: ")),
        "{}",
        text(&output.stderr)
    );
    drop(holder);
}

#[test]
fn a_data_directory_belongs_to_one_substrate() {
    let data_dir = tempfile::tempdir().unwrap();
    let refuse = |arguments: &[&str]| {
        let directory = data_dir.path().to_str().unwrap();
        let mut command = turnkit();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", directory]).args(arguments);
        let output = command.output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        let told = text(&output.stderr).to_owned();
        assert!(told.contains("--substrate URL") && told.contains(directory), "{told}");
    };
    let alone = Process::serve(&data_dir, &[]);
    refuse(&[]);
    let other = Process::substrate("1ms");
    refuse(&["--substrate", &other.url]);
    other.kill();
    alone.kill();
    let substrate = Process::substrate("1ms");
    let shared = || Process::serve(&data_dir, &["--substrate", &substrate.url]);
    let workers = [shared(), shared()];
    refuse(&[]);
    workers.into_iter().for_each(Process::kill);
    drop(Process::serve(&data_dir, &[]));
}

#[test]
fn who_is_refused_a_data_directory_leaves_it_as_it_is() {
    let data_dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(data_dir.path().join("substrate.lock")).unwrap();
    lock.try_lock().unwrap();
    let directory = data_dir.path().to_str().unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", directory]);
    assert!(text(&output.stderr).contains("uses it"), "{}", text(&output.stderr));
    let there: Vec<_> =
        fs::read_dir(data_dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["substrate.lock"], "no database is opened, and none migrated");
}

#[test]
fn a_data_directory_that_is_a_file_is_told_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert_eq!(output.status.code(), Some(1));
    let told = format!("turnkit: failed to use the data directory {path}: not a directory\n");
    assert_eq!(text(&output.stderr), told);
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    assert_eq!(run(&["serve", "--nonsense"]).status.code(), Some(2));
    assert_eq!(
        run(&["serve", "--substrate", "http://127.0.0.1:1", "--agent", "demo"]).status.code(),
        Some(2)
    );
    assert_eq!(run(&["demo", "--cut-after", "0"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn a_value_that_cannot_be_is_wrong_usage_and_told_with_what_can() {
    for (arguments, why) in [
        (
            &["serve", "--listen", "localhost:80"][..],
            "an IP address and a port, such as 127.0.0.1:8787",
        ),
        (&["substrate", "--listen", "80"], "an IP address and a port, such as 127.0.0.1:8787"),
        (
            &["serve", "--log-level", "a=b=c"],
            "failed to read the log level `a=b=c`: error parsing level filter",
        ),
        (
            &["serve", "--listen", "127.0.0.1:0", "--substrate", "agents"],
            "failed to use the substrate: ",
        ),
        (
            &["substrate", "--listen", "127.0.0.1:0", "--token", "very secret"],
            "must be visible ASCII, and not empty",
        ),
        (
            &["chat", "--server", "agents", "hello"],
            "one like http://127.0.0.1:8787: it is not a URL",
        ),
        (&["chat", "--token", "very\nsecret", "hello"], "failed to use the token: "),
    ] {
        let output = run(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.matches(why).count() == 1 && !told.contains("secret"), "{told}");
    }
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in ["serve", "substrate", "chat", "demo"] {
        let output = run(&[command, "--help"]);
        let help = text(&output.stdout);
        assert!(
            help.contains("Examples:\n  turnkit ") && help.contains("[env: TURNKIT_"),
            "{help}"
        );
        let (own, common) = help.split_once("For every command:").expect("its options come first");
        assert!(!own.contains("--log-level") && common.contains("--log-level"), "{help}");
    }
}

#[test]
fn no_token_is_shown() {
    let output = turnkit()
        .args(["serve", "--help"])
        .env("TURNKIT_SUBSTRATE_TOKEN", "very-secret")
        .output()
        .unwrap();
    assert!(!text(&output.stdout).contains("very-secret"));
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = turnkit();
    command.args([
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--substrate",
        "http://127.0.0.1:1",
        "--log-level",
        "trace",
        "--data-dir",
    ]);
    let output = command
        .arg(data_dir.path())
        .env("TURNKIT_SUBSTRATE_TOKEN", "very-secret")
        .output()
        .unwrap();
    assert!(!text(&output.stderr).contains("very-secret"));
}

/// Both sides of a whole turn, each telling everything that it can.
#[test]
fn no_token_is_written_at_the_most_verbose_level() {
    const TOKEN: &str = "t0ken-that-nobody-sees";
    const ALL: [&str; 2] = ["--log-level", "trace"];
    let data_dir = tempfile::tempdir().unwrap();
    let [theirs, ours] = ["substrate", "server"].map(|name| data_dir.path().join(name));
    let log = |path| fs::File::create(path).unwrap();
    let substrate = ["substrate", "--listen", "127.0.0.1:0", "--demo-pace", "0ms"];
    let substrate = [&substrate[..], &["--token", TOKEN], &ALL].concat();
    let substrate = Process::logging_to(log(&theirs), &substrate);
    let server = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
    let at = ["--substrate", &substrate.url, "--substrate-token", TOKEN];
    let server = [&server[..], &[data_dir.path().to_str().unwrap()], &at, &ALL].concat();
    let server = Process::logging_to(log(&ours), &server);
    let turn = run(&["chat", "--server", &server.url, "hello", "--log-level", "trace"]);
    assert!(turn.status.success(), "{}", text(&turn.stderr));
    assert_eq!((server.terminate(), substrate.terminate()), (Some(0), Some(0)));
    for path in [theirs, ours] {
        let written = fs::read_to_string(path).unwrap();
        assert!(written.contains("INFO") && !written.contains(TOKEN), "{written}");
    }
}

#[cfg(unix)]
#[test]
fn with_tokens_it_listens_anywhere_and_tells_none_of_them() {
    let data_dir = tempfile::tempdir().unwrap();
    let tokens = data_dir.path().join("tokens");
    fs::write(&tokens, "a-very-secret-token acme ann\n").unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o640)).unwrap();
    let log = data_dir.path().join("log");
    let mut serve = turnkit();
    serve.args(["serve", "--listen", "0.0.0.0:0", "--log-level", "trace", "--demo-pace", "0ms"]);
    serve.arg("--data-dir").arg(data_dir.path()).arg("--tokens").arg(&tokens);
    let server = Process::spawn(serve.stderr(fs::File::create(&log).unwrap()));
    let port = server.url.rsplit_once(':').unwrap().1;
    let url = format!("http://127.0.0.1:{port}");
    let token = ["--token", "a-very-secret-token"];
    let answered =
        run(&[&["chat", "--server", &url, "--log-level", "trace", "hello"], &token[..]].concat());
    assert_eq!(answered.status.code(), Some(0), "{}", text(&answered.stderr));
    assert_eq!(server.terminate(), Some(0));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("chmod 600") && log.contains("in the clear"), "{log}");
    assert!(!log.contains("very-secret") && !text(&answered.stderr).contains("very-secret"));

    fs::write(&tokens, "a-very-secret-token acme\n").unwrap();
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = serve.output().unwrap();
    let why = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        why.contains("failed to read the tokens: line 1: ") && !why.contains("secret"),
        "{why}"
    );
}

#[cfg(unix)]
#[test]
fn the_tokens_are_read_again_when_it_is_told_to() {
    let data_dir = tempfile::tempdir().unwrap();
    let tokens = data_dir.path().join("tokens");
    fs::write(&tokens, "a-token-of-ann acme ann\n").unwrap();
    let mut serve = turnkit();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "info", "--demo-pace", "0ms"]);
    serve.arg("--data-dir").arg(data_dir.path()).arg("--tokens").arg(&tokens);
    let mut server = Process::spawn(serve.stderr(Stdio::piped()));
    let mut log = server.log();
    let mut read_again = |content: &str, told: &str| {
        fs::write(&tokens, content).unwrap();
        signal(server.pid(), "HUP");
        let line = log.find(|line| line.as_ref().unwrap().contains(told)).unwrap().unwrap();
        assert!(!line.contains("a-token"), "{line}");
    };
    let lets_in = |token: &str| {
        run(&["chat", "--server", &server.url, "--token", token, "hello"]).status.success()
    };
    assert!(lets_in("a-token-of-ann"));
    read_again("a-token-of-bob acme bob\n", "read the tokens again");
    assert!(lets_in("a-token-of-bob") && !lets_in("a-token-of-ann"));
    read_again("a-token-of-eve\n", "line 1: it must hold a token");
    assert!(lets_in("a-token-of-bob") && !lets_in("a-token-of-eve"));
}
