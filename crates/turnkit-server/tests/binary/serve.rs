//! `turnkit serve` and `turnkit substrate`

use std::fs;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Process, http, run, run_async, signal, text, turnkit};

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
            "failed to read the log level `a=b=c`: invalid filter directive",
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

#[cfg(unix)]
#[test]
fn without_tokens_a_hangup_is_ignored_with_a_word() {
    let data_dir = tempfile::tempdir().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir"];
    let serve = [&serve[..], &[data_dir.path().to_str().unwrap()]].concat();
    for arguments in [&serve[..], &["substrate", "--listen", "127.0.0.1:0"]] {
        let mut server = Process::logging_to(Stdio::piped(), arguments);
        signal(server.pid(), "HUP");
        let told = server.log().find(|line| line.as_ref().unwrap().contains("SIGHUP is ignored"));
        assert!(told.unwrap().unwrap().contains("INFO"));
        assert_eq!(server.terminate(), Some(0));
    }
}

#[cfg(unix)]
#[test]
fn what_it_makes_in_a_directory_that_was_there_is_its_owners_alone() {
    let data_dir = tempfile::tempdir().unwrap();
    fs::set_permissions(data_dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let serve = |log: Stdio| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "umask 022; exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\""]);
        command.arg(env!("CARGO_BIN_EXE_turnkit")).arg(data_dir.path());
        Process::spawn(command.stderr(log))
    };
    let server = serve(Stdio::null());
    assert!(run(&["chat", "--server", &server.url, "hello"]).status.success());
    let mut modes = Vec::new();
    for directory in [data_dir.path().to_owned(), data_dir.path().join("turnkit.db.workers")] {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            modes.push((entry.file_name().into_string().unwrap(), mode));
        }
    }
    assert!(modes.len() >= 5, "{modes:?}");
    assert!(modes.iter().all(|(_, mode)| [0o600, 0o700].contains(mode)), "{modes:?}");
    assert_eq!(server.terminate(), Some(0));

    let database = data_dir.path().join("turnkit.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let mut server = serve(Stdio::piped());
    let warned = server.log().find(|line| line.as_ref().unwrap().contains("others may read"));
    assert!(warned.unwrap().unwrap().contains("WARN"));
}

/// The log of a substrate that goes away and comes back, up to the line that says so.
#[test]
fn a_substrate_that_is_lost_and_found_again_is_said_once_each() {
    let data_dir = tempfile::tempdir().unwrap();
    let substrate = Process::substrate("1ms");
    let address = substrate.url.strip_prefix("http://").unwrap().to_owned();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--substrate", &substrate.url, "--data-dir"];
    let serve = [&serve[..], &[data_dir.path().to_str().unwrap()]].concat();
    let mut server = Process::logging_to(Stdio::piped(), &serve);
    let mut log = server.log().map(Result::unwrap);
    let is_of_it = |line: &String| line.contains("substrate");
    substrate.kill();
    let lost = log.find(is_of_it).unwrap();
    assert!(lost.contains("WARN") && lost.contains("cannot be reached"), "{lost}");
    let ready = format!("{}/ready", server.url);
    let told = run_async(http().get(&ready).send()).unwrap();
    assert_eq!(told.status(), 503);
    let _back = Process::start(&["substrate", "--listen", &address]);
    let found = log.find(is_of_it).unwrap();
    assert!(found.contains("INFO") && found.contains("answers again"), "{found}");
    assert_eq!(run_async(http().get(&ready).send()).unwrap().status(), 200);
}

#[test]
fn a_substrate_that_answers_nothing_is_said_at_the_start() {
    let data_dir = tempfile::tempdir().unwrap();
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--substrate", "http://127.0.0.1:1", "--data-dir"];
    let serve = [&serve[..], &[data_dir.path().to_str().unwrap()]].concat();
    let mut server = Process::logging_to(Stdio::piped(), &serve);
    let told = server.log().find(|line| line.as_ref().unwrap().contains("cannot be reached"));
    assert!(told.unwrap().unwrap().contains("WARN"));
    let answers = ["/health", "/ready"].map(|path| {
        run_async(http().get(format!("{}{path}", server.url)).send()).unwrap().status().as_u16()
    });
    assert_eq!(answers, [200, 503]);
}

#[test]
fn a_limit_that_cannot_be_is_refused_by_its_option() {
    for arguments in [
        ["--log-memory", "0"],
        ["--log-memory", "1GB"],
        ["--run-timeout", "0s"],
        ["--max-event", "2GiB"],
        ["--grace", "soon"],
    ] {
        let refused = run(&[&["serve"], &arguments[..]].concat());
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(arguments[0]) && told.contains(arguments[1]), "{told}");
    }
    let elsewhere = ["serve", "--substrate", "http://127.0.0.1:1", "--log-memory", "1MiB"];
    assert_eq!(run(&elsewhere).status.code(), Some(2), "its log is that substrate's own");
}

#[tokio::test]
async fn limits_are_options_and_the_substrate_tells_them() {
    let options = ["--log-memory", "32MiB", "--log-retention", "2m", "--run-timeout", "2h"];
    let options =
        [&options[..], &["--max-runs", "7", "--grace", "3s", "--max-event", "2KiB"]].concat();
    let substrate =
        Process::start(&[&["substrate", "--listen", "127.0.0.1:0"], &options[..]].concat());
    let answer = http().get(format!("{}/capabilities", substrate.url)).send().await.unwrap();
    let told: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    for (limit, value) in [
        ("bytesInAll", 32 << 20),
        ("bytesPerScope", 32 << 20),
        ("retentionMs", 120_000),
        ("runTimeoutMs", 7_200_000),
        ("maxRunTimeoutMs", 7_200_000),
        ("runningPerScope", 7),
        ("runningInAll", 7),
        ("shutdownMs", 3_000),
        ("eventBytes", 2_048),
    ] {
        assert_eq!(told["limits"][limit], value, "{limit}");
    }
}
