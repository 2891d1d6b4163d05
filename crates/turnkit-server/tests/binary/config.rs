//! `--config`

use std::fs;
use std::process::Output;

use tempfile::TempDir;

use crate::support::{Process, run, text, turnkit};

struct File {
    path: String,
    directory: TempDir,
}

fn file(content: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnkit.toml");
    fs::write(&path, content).unwrap();
    File { path: path.to_str().unwrap().to_owned(), directory }
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

#[test]
fn a_server_is_what_its_file_says() {
    let file = file(
        // As some editors save it.
        "\u{feff}listen = '127.0.0.1:0'\nagent = 'command'\ncommand = ['sh', '-c', '''echo '{\"type\":\"result\",\"data\":{\"finalText\":\"yes\"}}' ''']",
    );
    let data_dir = file.directory.path().join("data");
    let server = Process::start(&[
        "serve",
        "--config",
        &file.path,
        "--data-dir",
        data_dir.to_str().unwrap(),
    ]);
    assert_eq!(text(&run(&["chat", "--server", &server.url, "hello"]).stdout), "yes\n");
}

/// A file with five agents of four kinds, and a key that only the environment has.
const FIVE: &str = r#"
listen = "127.0.0.1:0"

[[agent]]
name = "fast"
kind = "openai"
base-url = "http://127.0.0.1:9/v1"
model = "qwen3"
models = ["qwen3-large"]
key-env = "KEY_OF_FAST"
system = "Be brief."
parameters = { temperature = 0.5, stop = ["x"], stream_options = { include_usage = true } }
headers = { x-team = "a" }
headers-env = { x-api-key = "KEY_OF_FAST" }
proxy = "http://127.0.0.1:9"
history-messages = 10
retries = 0
idle-timeout = "30s"

[[agent]]
name = "claude"
kind = "anthropic"
model = "claude"

[[agent]]
name = "writer"
description = "prints what it is told"
kind = "command"
format = "text"
command = ["cat"]

[[agent]]
name = "coder"
kind = "command"
format = "acp"
permission = "allow-once"
command = "sh -c 'exit 1'"
env = ["KEY_OF_FAST"]
dir = "/"

[[agent]]
name = "demo2"
kind = "demo"
pace = "0ms"
"#;

#[test]
fn five_agents_of_four_kinds_are_offered_and_answer() {
    let file = file(FIVE);
    let checked = |key: &str| {
        let mut check = turnkit();
        check.args(["serve", "--config", &file.path, "--check"]).env("KEY_OF_FAST", key);
        check.output().unwrap()
    };
    let good = checked("sk-s3cret");
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(
        text(&good.stdout).ends_with("agents: fast, claude, writer, coder, demo2\n"),
        "{}",
        text(&good.stdout)
    );
    let missing = checked("");
    let told = text(&missing.stderr);
    assert!(
        told.contains("line 4, column 1: the agent `fast`")
            && told.contains("the variable KEY_OF_FAST: it is not set"),
        "{told}"
    );
    assert_eq!(missing.status.code(), Some(2));

    let data_dir = file.directory.path().join("data");
    let mut serve = turnkit();
    serve.args([
        "serve",
        "--config",
        &file.path,
        "--agent",
        "writer,demo2,fast,claude,coder",
        "--data-dir",
    ]);
    let server = Process::spawn(
        serve.arg(data_dir).env("KEY_OF_FAST", "sk-s3cret").stderr(std::process::Stdio::null()),
    );
    let ask = |more: &[&str]| run(&[&["chat", "--server", &server.url], more, &["hello"]].concat());
    assert_eq!(text(&ask(&[]).stdout), "hello\n");
    assert!(text(&ask(&["--agent", "demo2"]).stdout).len() > 20);
    let failed = ask(&["--agent", "coder"]);
    assert!(text(&failed.stderr).contains("command_failed"), "{}", text(&failed.stderr));
    let nobody = ask(&["--agent", "nobody"]);
    assert!(text(&nobody.stderr).contains("there is no agent of this name"));
}

#[test]
fn a_check_finds_what_is_wrong_in_a_file_its_place_and_a_remedy() {
    let model = "[[agent]]\nname = 'a'\nkind = 'openai'\n";
    let program = "[[agent]]\nname = 'a'\nkind = 'command'\n";
    let wrong: [(String, &str, &str); 18] = [
        (
            "[[agent]]\nkind = 'demo'".to_owned(),
            "line 1, column 1",
            "an agent needs a name: name =",
        ),
        ("[[agent]]\nname = 'a'".to_owned(), "line 1, column 1", "an agent needs a kind"),
        (
            "[[agent]]\nname = 'a b'\nkind = 'demo'".to_owned(),
            "line 2, column 8",
            "a name is 1 to 64",
        ),
        (
            "[[agent]]\nname = 'a'\nkind = 'ollama'".to_owned(),
            "line 3, column 8",
            "demo, openai, anthropic and command",
        ),
        (
            format!("{program}command = ['cat']\n\n{program}command = ['cat']"),
            "line 7, column 8",
            "give each its own",
        ),
        (
            format!("{model}base-url = 'http://h/v1'\nmodle = 'm'"),
            "line 5, column 1",
            "did you mean `model`?",
        ),
        (format!("{model}base-url = 'http://h/v1'"), "line 1, column 1", "model = \"qwen3\""),
        (format!("{model}model = 'm'"), "line 1, column 1", "base-url = "),
        (format!("{model}model = 'm'\nbase-url = 'h/v1'"), "line 1, column 1", "use the base URL"),
        (
            format!("{model}model = 'm'\nbase-url = 'http://h/v1'\nkey = 'sk-s3cret'"),
            "line 6, column 1",
            "name that by key-env",
        ),
        (
            format!(
                "{model}model = 'm'\nbase-url = 'http://h/v1'\nheaders = {{ Authorization = 'sk-s3cret' }}"
            ),
            "line 6, column 11",
            "headers-env",
        ),
        (
            format!("{model}model = 'm'\nbase-url = 'http://h/v1'\nca-file = '/nowhere'"),
            "line 1, column 1",
            "read /nowhere",
        ),
        (
            format!("{model}model = 'm'\nbase-url = 'http://h/v1'\nidle-timeout = 30"),
            "line 6, column 16",
            "it is a text, in quotes",
        ),
        (
            format!("{program}command = ['cat']\nformat = 'xml'"),
            "line 5, column 10",
            "claude, codex, gemini, opencode or acp",
        ),
        (
            format!("{program}command = ['no-such-program-anywhere']"),
            "line 1, column 1",
            "find the program no-such-program-anywhere",
        ),
        (
            format!("{program}command = ['cat']\nmodel = 'm'"),
            "line 5, column 1",
            "is for agents of the kind openai",
        ),
        (
            format!("{program}command = ['cat']\nenv = ['A=s3cret']"),
            "line 5, column 7",
            "a list of names of variables",
        ),
        ("agent = ['nobody']".to_owned(), "line 1, column 1", "there are demo, openai, command"),
    ];
    for (content, place, remedy) in wrong {
        let file = file(&content);
        for command in ["serve", "substrate"] {
            let out = run(&[command, "--check", "--config", &file.path]);
            let told = text(&out.stderr);
            assert_eq!(out.status.code(), Some(2), "{content}: {told}");
            assert!(
                told.contains(&format!("{place}: ")) && told.contains(remedy),
                "{content}\n{told}"
            );
            assert!(!told.contains("s3cret"), "{told}");
        }
    }
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    let file = file(
        "listen = '127.0.0.1:1'\ndata-dir = 'one'\nsubstrate-token = 'very-secret'\n[chat]\njson = true",
    );
    let mut serve = turnkit();
    serve.args(["serve", "--print-config"]).env("TURNKIT_CONFIG", &file.path);
    let out = printed(&serve.output().unwrap());
    assert!(out.contains("listen = \"127.0.0.1:1\"  # file\n"), "{out}");
    assert!(
        out.contains("data-dir = \"one\"  # file\n")
            && out.contains("demo-pace = \"50ms\"  # default\n"),
        "{out}"
    );
    assert!(
        out.contains("# substrate-token is set, and not shown  # file\n")
            && !out.contains("secret"),
        "{out}"
    );
    serve.env("TURNKIT_LISTEN", "127.0.0.1:2").env("TURNKIT_DATA_DIR", "two");
    let out = printed(&serve.args(["--data-dir", "three"]).output().unwrap());
    assert!(out.contains("listen = \"127.0.0.1:2\"  # environment\n"), "{out}");
    assert!(out.contains("data-dir = \"three\"  # command line\n"), "{out}");
    let out = printed(&run(&["chat", "--config", &file.path, "--print-config"]));
    assert!(out.contains("json = true  # file\n"), "{out}");
}

#[test]
fn what_is_printed_is_a_file() {
    let first = run(&[
        "serve",
        "--command",
        "sh",
        "-c",
        "a \"b\" 'c'\n",
        "--listen",
        "127.0.0.1:3",
        "--print-config",
    ]);
    let file = file(&printed(&first));
    let again = printed(&run(&["serve", "--config", &file.path, "--print-config"]));
    assert_eq!(
        again,
        printed(&first).replace("# command line", "# file").replace("# default", "# file")
    );
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_place() {
    for (content, why) in [
        ("\nlistne = 'x'", "line 2, column 1: there is no option `listne`; did you mean `listen`?"),
        ("listen = 'nowhere'", "line 1, column 1: `listen` is not what the option --listen takes"),
        ("agent = ['nobody']", "line 1, column 1: there is no agent `nobody`: there are demo"),
        ("listen", "line 1, column "),
    ] {
        let file = file(content);
        let output = run(&["serve", "--config", &file.path]);
        assert_eq!(output.status.code(), Some(2), "{content}");
        let told = text(&output.stderr);
        assert!(
            told.starts_with(&format!("turnkit: failed to read {}: {why}", file.path)),
            "{told}"
        );
    }
    let helped = run(&["serve", "--config", "/not/there", "--help"]);
    assert!(helped.status.success() && text(&helped.stdout).contains("Examples:"));
    let missing = run(&["serve", "--config", "/not/there"]);
    assert!(text(&missing.stderr).starts_with("turnkit: failed to read /not/there: "));
    assert_eq!(run(&["serve", "--listen", "nowhere"]).status.code(), Some(2));
}
