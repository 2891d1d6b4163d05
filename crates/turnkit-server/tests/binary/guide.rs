//! The table of `docs/guide/agents.md`, each line as printed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Process, run, text};

const GUIDE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/agents.md"));
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/agents");

/// The lines `turnkit serve …` of the table, with the variables before them.
fn lines() -> Vec<String> {
    let rows =
        GUIDE.lines().filter(|line| line.starts_with("| ") && line.contains("turnkit serve"));
    let printed = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    printed.filter(|code| code.contains("turnkit serve")).map(str::to_owned).collect()
}

/// A folder of programs with the names that the lines use: each checks that it is called as its own is, and prints what its own has printed.
fn programs(folder: &Path) {
    let program = |name: &str, body: String| {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let prints = |arguments: &str, sample: &str| {
        format!(
            "[ \"$*\" = '{arguments}' ] || exit 9\ncat > /dev/null\ncat '{SAMPLES}/{sample}.jsonl'"
        )
    };
    program(
        "claude",
        prints(
            "-p --output-format stream-json --verbose --include-partial-messages",
            "claude-code",
        ),
    );
    program("codex", prints("exec --json --skip-git-repo-check", "codex-exec"));
    program("opencode", prints("run --format json", "opencode"));
    let acp = |arguments: &str| {
        let replay = format!("exec python3 '{SAMPLES}/replay.py' '{SAMPLES}/acp-gemini.jsonl'");
        format!("[ \"$*\" = '{arguments}' ] || exit 9\n{replay}")
    };
    program("gemini", acp("--acp"));
    program("goose", acp("acp"));
    program("llm", "printf 'It was told: '; cat".to_owned());
}

/// The file of the chapter on several agents.
fn configuration() -> &'static str {
    let chapter = GUIDE.split_once("\n## Several agents").unwrap().1;
    chapter.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap()
}

#[test]
fn each_line_of_the_table_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    fs::create_dir(place("bin")).unwrap();
    programs(&place("bin"));
    fs::write(place("turnkit.toml"), configuration()).unwrap();
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/.."), place("crates")).unwrap();
    let paths = [
        place("bin"),
        Path::new(env!("CARGO_BIN_EXE_turnkit")).parent().unwrap().to_owned(),
        std::env::var("PATH").unwrap().into(),
    ];
    let path = paths.map(|path| path.to_str().unwrap().to_owned()).join(":");
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(folder.path()).env("PATH", &path);
        for name in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"] {
            shell.env(name, "sk-of-nobody");
        }
        shell.env("TURNKIT_LISTEN", "127.0.0.1:0").stdin(Stdio::null());
        shell
    };
    let lines = lines();
    assert_eq!(lines.len(), 13, "{lines:?}");
    for (at, line) in lines.iter().enumerate() {
        let line = line.replace('…', "sk-of-nobody");
        let checked = shell(&format!("{line} --check")).output().unwrap();
        assert_eq!(checked.status.code(), Some(0), "{line}: {}", text(&checked.stderr));
        if line.contains("--openai-model") {
            // Its endpoint is not here.
            assert!(text(&checked.stdout).ends_with("agents: openai\n"), "{line}");
            continue;
        }
        // The shell gives way, so that the server ends with this test.
        let mut serve = shell(&format!("exec {line}"));
        serve.env("TURNKIT_DATA_DIR", place(&format!("data-{at}"))).stderr(Stdio::null());
        let server = Process::spawn(&mut serve);
        let who: &[&str] = if line.contains("--config") { &["--agent", "coder"] } else { &[] };
        let told = run(&[&["chat", "--server", &server.url, "What is 6 * 7?"], who].concat());
        let wanted = match &line {
            line if line.ends_with("turnkit serve") => "You wrote: “What is 6 * 7?”",
            line if line.ends_with(" llm") => "It was told: What is 6 * 7?",
            line if line.contains("{message}") => "You said: What is 6 * 7?",
            line if line.ends_with("agent.py") => "42",
            _ => "The directory has **one** file: `hello.txt`.",
        };
        assert!(text(&told.stdout).contains(wanted), "{line}: {told:?}");
    }
}

/// Each command of `docs/guide/scale-out.md` and of `deploy/compose.yaml` is one that the program takes.
#[test]
fn each_command_of_several_machines_is_taken() {
    const GUIDE: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/scale-out.md"));
    const COMPOSE: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/compose.yaml"));
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, format!("{} acme ann\n", "a".repeat(32))).unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();

    let block = GUIDE.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let printed = block.replace("\\\n", " ");
    let printed = printed.lines().filter(|line| line.contains(" turnkit ")).map(str::to_owned);
    let commands = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("command: ["));
    let composed = commands.map(|line| line.trim_end_matches(']').replace(',', " "));
    let composed = composed.filter(|line| !line.starts_with("redis-server"));
    let composed = composed.map(|line| {
        let database =
            COMPOSE.lines().find_map(|line| line.trim().strip_prefix("TURNKIT_DATABASE: "));
        format!("TURNKIT_DATABASE={} turnkit {line}", database.unwrap())
    });
    let lines: Vec<_> = printed.chain(composed).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in lines {
        let mut line = line.replace(" turnkit ", concat!(" ", env!("CARGO_BIN_EXE_turnkit"), " "));
        for file in ["/etc/turnkit/tokens", "/run/secrets/tokens"] {
            line = line.replace(file, tokens.to_str().unwrap());
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{line} --check")]).env("PASSWORD", "secret");
        shell.env("SUBSTRATE_TOKEN", "b".repeat(32));
        shell.env("TURNKIT_SUBSTRATE_TOKEN", "b".repeat(32));
        let checked = shell.output().unwrap();
        assert_eq!(checked.status.code(), Some(0), "{line}: {}", text(&checked.stderr));
    }
}
