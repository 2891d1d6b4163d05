//! One run of a program, from its start to the end of its process group.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::io::Errno;
use tokio::time::{self, Instant};
use tracing::{Instrument as _, Span};
use turnkit_agent::Agent as _;
use turnkit_wire::{Event, write};

use super::{
    AgentError, Cancel, Command, Inbox, Received, RunRequest, code,
    diagnostics::Diagnostics,
    format::{Format, Task},
    group::Group,
    input::Input,
    output::Output,
    prompt::{self, Prompt},
    told::{self, Told},
};

/// A run: one program, or a second one where the first did not know the session that it should go on with.
pub(super) struct Work {
    command: Command,
    request: RunRequest,
    cancel: Cancel,
    inbox: Inbox,
    program: Program,
    /// To be told before anything else.
    warning: Option<Event>,
}

impl Work {
    pub(super) fn start(
        command: Command,
        request: RunRequest,
        cancel: Cancel,
        inbox: Inbox,
    ) -> Result<Self, AgentError> {
        let session = prompt::session_of(&request).filter(|_| command.format.has_sessions());
        let is_known = session.is_some();
        let tells_history =
            command.format.has_sessions() && !is_known && prompt::has_history(&request);
        let session = session.as_deref();
        let program = Program::start(&command, &request, &cancel, &inbox, session, tells_history)?;
        Ok(Self { command, request, cancel, inbox, program, warning: None })
    }

    /// The next event. `None` after the last one, when nothing of the group is left.
    pub(super) async fn next(&mut self) -> Option<Result<Event, AgentError>> {
        if let Some(warning) = self.warning.take() {
            return Some(Ok(warning));
        }
        let next = self.program.next().await;
        if !self.program.is_lost || self.cancel.is_cancelled() {
            return next;
        }
        tracing::warn!(
            "a tool does not know the session that it should go on with; it is asked anew"
        );
        let (request, cancel) = (&self.request, &self.cancel);
        match Program::start(&self.command, request, cancel, &self.inbox, None, true) {
            Ok(program) => self.program = program,
            Err(error) => {
                self.program.is_lost = false;
                return Some(Err(error));
            }
        }
        let message = prompt::told_instead(request);
        Some(Ok(write::warning(&message, Some("agent_session_lost"))))
    }
}

/// A program at work.
struct Program {
    span: Span,
    group: Group,
    input: Input,
    output: Output,
    diagnostics: Diagnostics,
    /// Where what it is told while it runs comes from.
    inbox: Option<Inbox>,
    /// The id of the input that is on its way into the pipe.
    giving: Option<String>,
    cancel: Cancel,
    format: Format,
    is_resumed: bool,
    grace: Duration,
    /// The program has ended, though perhaps not all that it started.
    has_ended: bool,
    /// When to wait no longer for what must come next.
    deadline: Option<Instant>,
    /// How it ended, behind the events that are still to be handed out.
    outcome: Option<Result<(), AgentError>>,
    /// It failed for a session that it does not know, before it said anything.
    is_lost: bool,
}

/// Why there is nothing more to read.
enum End {
    Stopped,
    Lingering,
    Ended,
}

impl Program {
    fn start(
        command: &Command,
        request: &RunRequest,
        cancel: &Cancel,
        inbox: &Inbox,
        session: Option<&str>,
        tells_history: bool,
    ) -> Result<Self, AgentError> {
        let execution = request.execution_id();
        let prompt = Prompt::new(command, request, session, tells_history)?;
        let started = Group::start(&mut command.process(&prompt.args, execution));
        let (group, pipes) = started.map_err(|error| {
            tracing::error!(execution_id = %execution, program = ?command.program, %error, "a program could not be started");
            not_started(&error)
        })?;
        // In a dialogue the agent is asked whether it knows the session.
        let is_resumed = session.is_some() && !command.format.has_a_dialogue();
        let session_of_run = request.session_id().map(str::to_owned);
        let mut told = Told::new(session_of_run, command.environment.secrets(), is_resumed);
        let with_history = prompt::with_history(request);
        let task = Task {
            message: if tells_history {
                with_history.clone()
            } else {
                request.message().to_owned()
            },
            with_history,
            told_instead: prompt::told_instead(request),
            session: session.map(str::to_owned),
            directory: command.work_directory(),
            permission: command.permission,
            can_ask: command.takes().answers && !inbox.is_closed(),
        };
        let takes_input = command.takes().any();
        let stays_open = takes_input || command.format.has_a_dialogue();
        let reading = command.format.reading(task, command.max_event, &mut told);
        Ok(Self {
            span: tracing::error_span!("command", execution_id = %execution),
            group,
            input: Input::new(pipes.input, prompt.input, stays_open),
            inbox: takes_input.then(|| inbox.clone()),
            giving: None,
            output: Output::new(pipes.output, command.format, reading, command.max_event, told),
            diagnostics: Diagnostics::new(pipes.errors),
            cancel: cancel.clone(),
            format: command.format,
            is_resumed,
            grace: command.grace,
            has_ended: false,
            deadline: None,
            outcome: None,
            is_lost: false,
        })
    }

    /// The next event. `None` after the last one, when nothing of the group is left.
    async fn next(&mut self) -> Option<Result<Event, AgentError>> {
        let span = self.span.clone();
        self.step().instrument(span).await
    }

    async fn step(&mut self) -> Option<Result<Event, AgentError>> {
        loop {
            if let Some(event) = self.output.told.next_event() {
                return Some(Ok(event));
            }
            if let Some(outcome) = &mut self.outcome {
                return std::mem::replace(outcome, Ok(())).err().map(Err);
            }
            if let Some(failure) = self.output.told.take_failure() {
                self.stop().await;
                self.outcome = Some(Err(failure));
                continue;
            }
            let said = self.output.told.take_input();
            self.input.add(&said);
            if self.output.told.is_answered() {
                self.input.end();
                if self.deadline.is_none() && !self.has_ended {
                    self.deadline = Some(Instant::now() + BEHIND_RESULT.max(self.grace));
                }
            }
            if let Some(end) = self.pump().await {
                let outcome = self.conclude(end).await;
                self.outcome = Some(outcome);
            }
        }
    }

    /// Waits until something happens, and takes it in.
    async fn pump(&mut self) -> Option<End> {
        if self.has_run_dry() {
            return Some(End::Ended);
        }
        // Anew with each thing that happens: what is waited for is silence.
        let patience = self.output.patience();
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Some(End::Stopped),
            () = self.group.ended(), if !self.has_ended => self.program_ended(),
            () = self.output.pump(), if self.output.is_open() => self.output_pumped(),
            () = self.diagnostics.pump(), if self.diagnostics.is_open() => {}
            () = self.input.pump(), if self.input.is_due() => self.input_pumped(),
            // One after the other: what is given is in the pipe before the next is asked for.
            received = received(self.inbox.as_ref()), if self.input.is_idle() => self.give(received),
            () = quiet(patience) => self.output.quiet(),
            // Last: whoever takes events slowly loses nothing that is there already.
            () = at(self.deadline) => return self.late(),
        }
        None
    }

    /// Something that the program is told while it runs; nothing more comes, where it is none.
    fn give(&mut self, received: Option<Received>) {
        match received {
            Some(received) => {
                if let Received::Input(input) = &received {
                    self.giving = Some(input.id().into_owned());
                }
                self.output.receive(&received);
            }
            None => self.inbox = None,
        }
    }

    /// An input that is whole in the pipe counts as taken. One that the program did not want comes to somebody else.
    fn input_pumped(&mut self) {
        if self.input.is_idle()
            && let (Some(inbox), Some(id)) = (&self.inbox, self.giving.take())
        {
            inbox.taken(&id);
        }
    }

    /// Whether the program and everything that it wrote is dealt with.
    fn has_run_dry(&self) -> bool {
        self.has_ended && !self.output.is_open() && !self.diagnostics.is_open()
    }

    /// What the program left behind goes now; what it wrote is still in the pipes.
    fn program_ended(&mut self) {
        self.has_ended = true;
        self.group.kill();
        self.output.expect_rest();
        self.diagnostics.expect_rest();
        self.deadline = Some(Instant::now() + DRAIN);
    }

    fn output_pumped(&mut self) {
        if self.has_ended {
            self.deadline = Some(Instant::now() + DRAIN);
        } else if !self.output.is_open() {
            self.deadline = Some(Instant::now() + self.grace);
        } else if self.output.told.is_answered() {
            self.deadline = Some(Instant::now() + BEHIND_RESULT.max(self.grace));
        }
    }

    fn late(&mut self) -> Option<End> {
        if !self.has_ended {
            return Some(End::Lingering);
        }
        tracing::warn!("a process outside of its program's group holds the program's pipes open");
        self.output.close();
        self.diagnostics.close();
        self.deadline = None;
        None
    }

    async fn conclude(&mut self, end: End) -> Result<(), AgentError> {
        match end {
            End::Stopped => {
                self.say_goodbye().await;
                self.stop().await;
                Ok(())
            }
            End::Lingering => {
                self.stop().await;
                self.output.end(false);
                if self.output.told.is_answered() {
                    tracing::warn!("a program stayed behind its result, and was stopped");
                    return Ok(());
                }
                let message = format!(
                    "the program closed its output without a result and did not end within {:?}",
                    self.grace
                );
                self.judge(Err(AgentError::new(code::LINGERED, message)))
            }
            End::Ended => {
                let status = self.group.reap().await;
                self.output.end(status.as_ref().is_ok_and(ExitStatus::success));
                let ended = match status {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => {
                        let last = self.diagnostics.last();
                        tracing::warn!(%status, standard_error = last, "a program failed");
                        Err(AgentError::new(code::FAILED, failed(status)))
                    }
                    Err(error) => {
                        let message =
                            format!("the program could not be waited for: {}", error.kind());
                        Err(AgentError::new(code::FAILED, message))
                    }
                };
                self.judge(ended)
            }
        }
    }

    /// What the run comes to, by what was told and how the program ended.
    fn judge(&mut self, ended: Result<(), AgentError>) -> Result<(), AgentError> {
        let told = &self.output.told;
        if told.stray_lines() > 0 {
            tracing::warn!(
                lines = told.stray_lines(),
                "a program printed lines that are no events"
            );
        }
        if told.is_answered() {
            if let Err(error) = ended {
                tracing::warn!(%error, "a program went wrong behind its result");
            }
            return Ok(());
        }
        if self.is_resumed && !told.has_parts() && (told.is_lost() || ended.is_err()) {
            self.is_lost = true;
            return Ok(());
        }
        if told.has_failed() {
            return Ok(());
        }
        let first = told.first_words();
        match ended {
            Err(error) if told.has_events() || first.is_empty() => Err(error),
            Err(error) => Err(AgentError::new(
                error.code(),
                format!("{}. It printed: {first}", error.message()),
            )),
            Ok(()) if !told.has_events() => Err(match self.format {
                Format::Events => {
                    told::nothing(told, " (what prints plain text takes --command-format text)")
                }
                _ => told::nothing(told, ""),
            }),
            Ok(()) if self.format.says_its_end() => Err(AgentError::new(
                code::CUT,
                "the program ended without saying that its answer is whole",
            )),
            Ok(()) => Ok(()),
        }
    }

    /// Tells a program that listens that nobody wants the rest, and gives it the grace to say so.
    async fn say_goodbye(&mut self) {
        if self.has_ended || !self.output.cancel() {
            return;
        }
        let said = self.output.told.take_input();
        self.input.add(&said);
        self.input.end();
        let goodbye = async {
            while self.input.is_due() || self.output.is_open() {
                tokio::select! {
                    () = self.group.ended() => return,
                    () = self.input.pump(), if self.input.is_due() => {}
                    () = self.output.pump(), if self.output.is_open() => {}
                    () = self.diagnostics.pump(), if self.diagnostics.is_open() => {}
                }
                if self.output.told.is_answered() || self.output.told.has_failed() {
                    return;
                }
            }
        };
        if time::timeout(self.grace, goodbye).await.is_err() {
            tracing::debug!("a program did not end by itself when it was told to");
        }
        // Nobody reads it.
        while self.output.told.next_event().is_some() {}
    }

    async fn stop(&mut self) {
        let diagnostics = &mut self.diagnostics;
        let stopped = tokio::select! {
            stopped = self.group.terminate(self.grace) => stopped,
            never = diagnostics.pump_for_ever() => match never {},
        };
        if let Err(error) = stopped {
            tracing::error!(%error, "a program could not be waited for");
        }
        self.diagnostics.close();
    }
}

/// How long to wait for more from the pipes of a program that has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// How long a program may stay, and say nothing, behind its result.
const BEHIND_RESULT: Duration = Duration::from_secs(5);

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn received(inbox: Option<&Inbox>) -> Option<Received> {
    match inbox {
        Some(inbox) => inbox.next_untaken().await,
        None => std::future::pending().await,
    }
}

async fn quiet(patience: Option<Duration>) {
    match patience {
        Some(patience) => time::sleep(patience).await,
        None => std::future::pending().await,
    }
}

/// Without the program's name and path: they are the operator's business.
fn not_started(error: &io::Error) -> AgentError {
    let told = |why: &str| {
        AgentError::new(code::NOT_STARTED, format!("the program could not be started: {why}"))
    };
    // What ran out comes back, and is not the program's fault.
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            told("there are too many open files, raise their limit (ulimit -n, LimitNOFILE)")
                .temporary()
        }
        Some(Errno::AGAIN) => told("there are too many processes").temporary(),
        Some(Errno::NOMEM) => told("there is not enough memory").temporary(),
        _ => told(&error.kind().to_string()),
    }
}

fn failed(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit status {code}"),
        (None, Some(signal)) => format!("the program was ended by signal {signal}"),
        (None, None) => "the program ended without an exit status".to_owned(),
    }
}
