//! An agent that is a program: one process group per run, a request on its standard input, events on its standard output.

mod diagnostics;
mod environment;
mod format;
mod group;
mod input;
mod lines;
mod output;
mod prompt;
mod run;
mod throttle;
mod told;

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use turnkit_agent::{Agent, AgentError, Cancel, Inbox, Received, Run, RunRequest, Takes};
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

pub use self::format::{Format, Permission};
use self::{environment::Environment, run::Work};

/// Runs a program for every run (PROTOCOL 3.4).
///
/// ```
/// use turnkit_agents::command::Command;
/// use turnkit_substrate::Substrate;
///
/// let agent = Command::new("python3").arg("agent.py").pass_env("AGENT_CONFIG");
/// let substrate = Substrate::builder().agent("default", agent).build()?;
/// # Ok::<(), turnkit_substrate::BuildError>(())
/// ```
///
/// **Format.** [`Format`] says what the program prints and how it is asked: turnkit's own events by default, plain text, or
/// the JSON lines of a known tool.
///
/// **Input.** For events one line on standard input, then its end: the request's body as one JSON object with `executionId` in
/// front, then `message`, then every other member as it was sent (`sessionId`, `history`, `metadata`, …). It need not be read.
/// For every other format the message alone, as it is. Where an argument holds `{message}`, the message stands there instead.
/// It never passes a shell: where `{message}` begins an argument and no `--` stands before it, a message that begins with a
/// hyphen is refused, and so is one over 128 KiB, which no argument may have.
///
/// **Asking.** With [`input`](Self::input) its standard input stays open, and it can ask: an `interaction` that it prints is a question
/// that waits for an answer (PROTOCOL 3.6). Each `interaction.answered`, and each `input` (a message into the running turn), comes to
/// it as one line, as it is in the log. An input counts as taken once the whole line is in its pipe. Its input ends behind its
/// `result`, and where the run is stopped.
///
/// **Output.** An event a line on standard output (PROTOCOL 1.2) is passed on as it is: text goes out as
/// `message.part.updated`, and a `result` may close it. The lines of a known tool become such events. A line that is neither is
/// a diagnostic: it is logged, and only where no event came at all does it fail the run, with its first words. **Behind a
/// `result` nothing takes the answer back**: stray lines, an exit status, a program that lingers are noted. An `error` that is
/// not worded as PROTOCOL 1.1 has it keeps its words, and is a `warning` where something good follows.
///
/// **Sessions.** A tool's own session is told as `metadata.agentSessionId` of the `result`. A request with that member in its
/// `metadata` goes on with it. Where the tool does not know it, it is asked once more with the `history` in front of the
/// message, and a `warning` says so.
///
/// **Standard error** goes to `tracing` line by line, at INFO under this module's name: bounded, and thinned where it floods.
/// Nobody who reads the execution sees any of it.
///
/// **Environment**: [`Command::PASSED`], `TURNKIT_EXECUTION_ID`, and what [`pass_env`](Self::pass_env) and
/// [`env`](Self::env) name. Nothing else is handed on, so no key of the server's is.
///
/// **End.** The run ends when the program does. What it has written counts; what is left of its process group is killed.
/// Without a `result`, an exit status other than 0 fails the run ([`code::FAILED`]), and so do an end without any event
/// ([`code::NO_EVENTS`], [`code::INVALID_OUTPUT`]) and one of a known tool that did not say that its answer is whole
/// ([`code::CUT`]). A program that closes its output has [`grace`](Self::grace) to end: it is stopped then, and the run fails
/// ([`code::LINGERED`]) unless a `result` came. One that stays behind its `result` is stopped after 5 s.
///
/// **Cancelled, timed out, shutting down**: SIGTERM to the process group, and SIGKILL after the grace. Where the stream of
/// events is dropped, SIGKILL at once. Whenever a failure or the end of the stream is seen, nothing of the group runs any
/// more. Two things are out of its reach: a child that makes a process group of its own, and a server that is itself killed
/// by SIGKILL.
#[derive(Clone, Debug)]
pub struct Command {
    format: Format,
    permission: Option<Permission>,
    program: OsString,
    args: Vec<OsString>,
    environment: Environment,
    directory: Option<PathBuf>,
    grace: Duration,
    max_event: usize,
    takes_input: bool,
    description: Cow<'static, str>,
}

/// The codes of the failures that this agent tells.
pub mod code {
    /// The program could not be started.
    pub const NOT_STARTED: &str = "command_not_started";
    /// The program ended with another exit status than 0, or by a signal.
    pub const FAILED: &str = "command_failed";
    /// The program closed its output before a `result`, and did not end.
    pub const LINGERED: &str = "command_lingered";
    /// The program ended well, and printed nothing.
    pub const NO_EVENTS: &str = "no_events";
    /// A known tool ended without saying that its answer is whole.
    pub const CUT: &str = "command_cut";
    /// The message cannot be an argument of the program.
    pub const MESSAGE_REFUSED: &str = "message_refused";
    /// The program printed something, and none of it is an event of its format.
    pub const INVALID_OUTPUT: &str = "invalid_output";
    /// A line of the program's output is longer than an event may be: the code that any agent's event has then.
    pub const EVENT_TOO_LARGE: &str = turnkit_agent::code::EVENT_TOO_LARGE;
}

impl Command {
    /// The variables that a program gets from the server's own environment, where they are set.
    pub const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

    /// Runs `program`, which is looked for in `PATH` unless it has a slash. No shell is involved.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            format: Format::Events,
            permission: None,
            program: program.into(),
            args: Vec::new(),
            environment: Environment::default(),
            directory: None,
            grace: Duration::from_secs(2),
            max_event: Event::MAX_BYTES,
            takes_input: false,
            description: Cow::Borrowed("a program for every run"),
        }
    }

    /// What the program prints, and how it is asked: [`Format::Events`] by default.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// What is answered where the agent asks for a permission, with [`Format::Acp`]. Default: whoever follows the turn is asked, with
    /// the agent's own options (PROTOCOL 3.6); where nobody can be asked it is refused, and a `warning` says so.
    #[must_use]
    pub fn permission(mut self, permission: Permission) -> Self {
        self.permission = Some(permission);
        self
    }

    /// Appends an argument. `{message}` in it stands for the user's message.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.args.push(argument.into());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Hands on one more variable of the server's own environment, with its value at the start of each run.
    #[must_use]
    pub fn pass_env(mut self, name: impl Into<OsString>) -> Self {
        self.environment.pass(name.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.set(name.into(), value.into());
        self
    }

    /// Where the program runs. Default: where the server does.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// How long a program may take from SIGTERM to its end: 2 s by default. A substrate gives a stopped run
    /// [`CANCEL_GRACE`](turnkit_agent::CANCEL_GRACE) in all, so more than that is no longer.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The longest line of output, in bytes: 1 MiB by default, as a substrate takes by default.
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.max_event = bytes;
        self
    }

    /// Whether the program reads answers and messages from its standard input while it runs, with [`Format::Events`]. Default: its
    /// input ends behind the request.
    #[must_use]
    pub fn input(mut self, takes_input: bool) -> Self {
        self.takes_input = takes_input;
        self
    }

    /// What `GET /agents` says about it.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Cow::Owned(description.into());
        self
    }

    /// Looks for the program as a run would, so that a server can refuse to start with a typing error.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no such file, [`io::ErrorKind::PermissionDenied`] where it cannot be
    /// executed. The program may still be gone, or refuse, when it is run.
    pub fn locate(&self) -> io::Result<PathBuf> {
        environment::locate(&self.program, self.directory.as_deref(), &self.environment)
    }

    /// Where the program works, as an absolute path where that can be told.
    fn work_directory(&self) -> PathBuf {
        let directory = self.directory.clone().unwrap_or_default();
        std::path::absolute(if directory.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            directory.clone()
        })
        .unwrap_or(directory)
    }

    /// The process of one run, not started yet.
    fn process(&self, args: &[OsString], execution: &ExecutionId) -> tokio::process::Command {
        let mut process = tokio::process::Command::new(&self.program);
        process
            .args(args)
            .env_clear()
            .envs(self.environment.variables())
            .env(OsStr::new("TURNKIT_EXECUTION_ID"), execution.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(directory) = &self.directory {
            process.current_dir(directory);
        }
        process
    }
}

impl Agent for Command {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (cancel, inbox) = (run.cancel().clone(), run.inbox().clone());
        let (work, refused) = match Work::start(self.clone(), run.into_request(), cancel, inbox) {
            Ok(work) => (Some(work), None),
            Err(error) => (None, Some(Err(error))),
        };
        let events = stream::unfold(work, async |work| {
            let mut work = work?;
            Some((work.next().await?, Some(work)))
        });
        stream::iter(refused).chain(events)
    }

    fn takes(&self) -> Takes {
        match self.format {
            Format::Events => Takes { answers: self.takes_input, input: self.takes_input },
            // What is configured is nobody's to decide.
            Format::Acp => Takes { answers: self.permission.is_none(), input: false },
            _ => Takes::default(),
        }
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.description)
    }
}
