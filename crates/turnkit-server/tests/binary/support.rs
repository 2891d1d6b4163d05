//! Processes that are gone when the test is.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use tempfile::TempDir;

/// The program, without what the environment may say about it.
pub(crate) fn turnkit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TURNKIT_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// A client that needs no TLS provider installed in the process.
pub(crate) fn http() -> reqwest::Client {
    let tls = turnkit_http::client::tls_config().unwrap();
    reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap()
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    turnkit().args(arguments).output().unwrap()
}

/// What a test that is none of its own runtime waits for.
pub(crate) fn run_async<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A server of ours as a process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Process {
        Process::logging_to(Stdio::null(), arguments)
    }

    /// What it logs goes to `log`.
    pub(crate) fn logging_to(log: impl Into<Stdio>, arguments: &[&str]) -> Process {
        Process::spawn(turnkit().args(arguments).stderr(log))
    }

    pub(crate) fn spawn(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line
            .strip_prefix("turnkit listening on ")
            .expect("the ready line")
            .trim_end()
            .to_owned();
        Process { child, url }
    }

    pub(crate) fn serve(data_dir: &TempDir, more: &[&str]) -> Process {
        let data_dir = data_dir.path().to_str().unwrap();
        Process::start(
            &[&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir], more].concat(),
        )
    }

    pub(crate) fn substrate(pace: &str) -> Process {
        Process::start(&["substrate", "--listen", "127.0.0.1:0", "--demo-pace", pace])
    }

    /// A substrate at `listen` whose agent's runs can be counted in its `log`.
    pub(crate) fn counted_substrate(listen: &str, pace: &str, log: &Path) -> Process {
        let log = File::create(log).unwrap();
        let arguments = ["substrate", "--listen", listen, "--demo-pace", pace];
        Process::logging_to(log, &[&arguments[..], &["--log-level", "info"]].concat())
    }

    /// The lines of its log, if that is piped.
    pub(crate) fn log(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.child.stderr.take().unwrap()).lines()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no handler of the process runs.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        signal(self.pid(), "TERM");
        self.wait()
    }

    /// The exit code, once it has ended.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// How often the agent was run, as the substrate that wrote this log says.
pub(crate) fn runs(log: &Path) -> usize {
    fs::read_to_string(log).unwrap().matches("run started").count()
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Reads `count` lines of a child's output.
pub(crate) fn lines(child: &mut Child, count: usize) -> Vec<String> {
    let mut out = child.stdout.take().unwrap();
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    let mut byte = [0];
    while lines.len() < count {
        out.read_exact(&mut byte).unwrap();
        match byte[0] {
            b'\n' => lines.push(String::from_utf8(std::mem::take(&mut line)).unwrap()),
            other => line.push(other),
        }
    }
    child.stdout = Some(out);
    lines
}
