//! One request, and its answer as it comes.

use std::{sync::Arc, time::Duration};

use reqwest::Response;
use tokio::time::{self, Instant};
use turnkit_wire::{Event, sse::Parser};

use super::{
    AgentError, RunRequest,
    answer::Answer,
    builder::Settings,
    code, failure, request,
    upstream::{self, Reply},
};

/// A run: nothing is sent before the first event is asked for, and dropping it closes the connection.
pub(super) struct Talk {
    settings: Arc<Settings>,
    request: RunRequest,
    started: Instant,
    reply: Option<Response>,
    parser: Parser,
    answer: Answer,
    /// What went wrong behind the events that are still to be handed out.
    failure: Option<AgentError>,
}

impl Talk {
    pub(super) fn new(settings: Arc<Settings>, request: RunRequest) -> Self {
        let session = request.session_id().map(str::to_owned);
        let answer = Answer::new(session, settings.key.clone());
        Self {
            settings,
            request,
            started: Instant::now(),
            reply: None,
            parser: Parser::with_max_event(Event::MAX_BYTES),
            answer,
            failure: None,
        }
    }

    /// The next event; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, AgentError> {
        loop {
            if let Some(event) = self.answer.next_event() {
                return Ok(Some(event));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.answer.is_over() {
                self.hang_up().await;
                return Ok(None);
            }
            let step = match self.reply.take() {
                None => self.ask().await,
                Some(reply) => self.read(reply).await,
            };
            self.failure = step.err();
        }
    }

    async fn ask(&mut self) -> Result<(), AgentError> {
        let model = request::model(&self.settings, &self.request)?;
        let body = request::body(&self.settings, model, &self.request)?;
        self.answer.set_model(model);
        match upstream::ask(&self.settings, body).await? {
            Reply::Stream(reply) => self.reply = Some(reply),
            Reply::Whole(json) => self.answer.whole(&json, self.started.elapsed())?,
        }
        Ok(())
    }

    async fn read(&mut self, mut reply: Response) -> Result<(), AgentError> {
        let chunk = time::timeout(self.patience(), reply.chunk()).await;
        let at = self.started.elapsed();
        match chunk {
            Ok(Ok(Some(chunk))) => {
                self.reply = Some(reply);
                self.take(&chunk, at)
            }
            Ok(Ok(None)) => self.answer.close(at),
            // Only the usage is missing.
            Ok(Err(_)) | Err(_) if self.answer.is_finished() => self.answer.close(at),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn take(&mut self, chunk: &[u8], at: Duration) -> Result<(), AgentError> {
        let (mut taken, answer) = (Ok(()), &mut self.answer);
        let fed = self.parser.feed(chunk, |frame| {
            if taken.is_ok() {
                taken = answer.frame(&frame, at);
            }
        });
        taken?;
        fed.map_err(|error| {
            failure::protocol(format!("has a chunk of more than {} bytes", error.limit()))
        })
    }

    /// How long to wait for more. What follows the last text is short, or nothing.
    fn patience(&self) -> Duration {
        if self.answer.is_finished() {
            return self.settings.idle_timeout.min(EPILOGUE);
        }
        self.settings.idle_timeout
    }

    /// Reads to the end of an answer that is whole, so that its connection can serve the next one.
    async fn hang_up(&mut self) {
        let Some(mut reply) = self.reply.take() else {
            return;
        };
        let rest = async { while let Ok(Some(_)) = reply.chunk().await {} };
        // A connection that has no end yet is closed instead.
        let _ = time::timeout(REST, rest).await;
    }

    fn silent(&self) -> AgentError {
        let after = self.settings.idle_timeout;
        let message = format!("the upstream sent nothing for {after:?}");
        AgentError::new(code::UPSTREAM_TIMEOUT, message).temporary()
    }
}

const EPILOGUE: Duration = Duration::from_secs(5);

const REST: Duration = Duration::from_millis(250);

fn broken(error: &reqwest::Error) -> AgentError {
    tracing::warn!(error = error as &dyn std::error::Error, "the connection to an upstream broke");
    AgentError::new(
        code::UPSTREAM_INTERRUPTED,
        "the connection to the upstream broke in the middle of the answer",
    )
    .temporary()
}
