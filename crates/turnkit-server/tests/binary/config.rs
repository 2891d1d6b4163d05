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
        "listen = '127.0.0.1:0'\nagent = 'command'\ncommand = ['sh', '-c', '''echo '{\"type\":\"result\",\"data\":{\"finalText\":\"yes\"}}' ''']",
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
        ("agent = ['nobody']", "line 1, column 1: `agent` is not what"),
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
