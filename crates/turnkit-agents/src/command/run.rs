//! One run of a program, from its start to the end of its process group.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use tokio::time::{self, Instant};
use tracing::{Instrument as _, Span};
use turnkit_wire::{Event, kind};

use super::{
    AgentError, Cancel, Command, RunRequest, code,
    diagnostics::Diagnostics,
    group::Group,
    input::{self, Input},
    output::Output,
};

/// A program at work.
pub(super) struct Program {
    span: Span,
    group: Group,
    input: Input,
    output: Output,
    diagnostics: Diagnostics,
    cancel: Cancel,
    grace: Duration,
    /// The program has ended, though perhaps not all that it started.
    has_ended: bool,
    /// When to wait no longer for what must come next.
    deadline: Option<Instant>,
    last: Last,
    is_over: bool,
}

/// The last event that was seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    None,
    Result,
    Other,
}

/// Why there is nothing more to read.
enum End {
    Stopped,
    Lingering,
    Ended,
}

impl Program {
    pub(super) fn start(
        command: &Command,
        request: &RunRequest,
        cancel: Cancel,
    ) -> Result<Self, AgentError> {
        let execution = request.execution_id();
        let line = input::line(request)
            .map_err(|error| AgentError::new(code::NOT_STARTED, error.to_string()))?;
        let started = Group::start(&mut command.process(execution));
        let (group, pipes) = started.map_err(|error| {
            tracing::error!(execution_id = %execution, program = ?command.program, %error, "a program could not be started");
            not_started(&error)
        })?;
        Ok(Self {
            span: tracing::error_span!("command", execution_id = %execution),
            group,
            input: Input::new(pipes.input, line),
            output: Output::new(pipes.output, command.max_event),
            diagnostics: Diagnostics::new(pipes.errors),
            cancel,
            grace: command.grace,
            has_ended: false,
            deadline: None,
            last: Last::None,
            is_over: false,
        })
    }

    /// The next event. `None` after the last one, when nothing of the group is left.
    pub(super) async fn next(&mut self) -> Option<Result<Event, AgentError>> {
        let span = self.span.clone();
        self.step().instrument(span).await
    }

    async fn step(&mut self) -> Option<Result<Event, AgentError>> {
        while !self.is_over {
            match self.output.next_event() {
                Some(Ok(event)) => return Some(Ok(self.seen(event))),
                Some(Err(error)) => return self.fail(error).await,
                None => {}
            }
            if let Some(end) = self.pump().await {
                return self.conclude(end).await.err().map(Err);
            }
        }
        None
    }

    fn seen(&mut self, event: Event) -> Event {
        self.last = match event.kind() {
            kind::RESULT => Last::Result,
            _ => Last::Other,
        };
        event
    }

    /// Waits until something happens, and takes it in.
    async fn pump(&mut self) -> Option<End> {
        if self.has_run_dry() {
            return Some(End::Ended);
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Some(End::Stopped),
            () = self.group.ended(), if !self.has_ended => self.program_ended(),
            () = self.output.pump(), if self.output.is_open() => self.output_pumped(),
            () = self.diagnostics.pump(), if self.diagnostics.is_open() => {}
            () = self.input.pump(), if self.input.is_open() => {}
            // Last: whoever takes events slowly loses nothing that is there already.
            () = at(self.deadline) => return self.late(),
        }
        None
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

    async fn fail(&mut self, error: AgentError) -> Option<Result<Event, AgentError>> {
        self.stop().await;
        Some(Err(error))
    }

    async fn conclude(&mut self, end: End) -> Result<(), AgentError> {
        match end {
            End::Stopped => self.stop().await,
            End::Lingering => {
                self.stop().await;
                if self.last != Last::Result {
                    return Err(self.lingered());
                }
            }
            End::Ended => {
                self.is_over = true;
                let status = self.group.reap().await;
                self.judge(status)?;
            }
        }
        Ok(())
    }

    async fn stop(&mut self) {
        self.is_over = true;
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

    fn judge(&self, status: io::Result<ExitStatus>) -> Result<(), AgentError> {
        match status {
            Ok(status) if status.success() && self.last == Last::None => {
                Err(AgentError::new(code::NO_EVENTS, "the program ended without an event"))
            }
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let last = self.diagnostics.last();
                tracing::warn!(%status, standard_error = last, "a program failed");
                Err(failed(status))
            }
            Err(error) => Err(AgentError::new(
                code::FAILED,
                format!("the program could not be waited for: {}", error.kind()),
            )),
        }
    }

    fn lingered(&self) -> AgentError {
        let message = format!(
            "the program closed its output without a result and did not end within {:?}",
            self.grace
        );
        AgentError::new(code::LINGERED, message)
    }
}

/// How long to wait for more from the pipes of a program that has ended.
const DRAIN: Duration = Duration::from_secs(1);

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Without the program's name and path: they are the operator's business.
fn not_started(error: &io::Error) -> AgentError {
    let message = format!("the program could not be started: {}", error.kind());
    AgentError::new(code::NOT_STARTED, message)
}

fn failed(status: ExitStatus) -> AgentError {
    let message = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit status {code}"),
        (None, Some(signal)) => format!("the program was ended by signal {signal}"),
        (None, None) => "the program ended without an exit status".to_owned(),
    };
    AgentError::new(code::FAILED, message)
}
