//! One request, and its answer as it comes.

use std::{sync::Arc, time::Duration};

use reqwest::Response;
use tokio::time::{self, Instant};
use turnkit_wire::Event;

use super::{
    AgentError, RunRequest,
    answer::{Answer, Close},
    builder::Settings,
    code,
    reader::Reader,
    request::Question,
    upstream,
};

/// A run: nothing is sent before the first event is asked for, and dropping it closes the connection.
pub(super) struct Talk {
    settings: Arc<Settings>,
    request: RunRequest,
    started: Instant,
    reply: Option<Response>,
    reader: Reader,
    /// What went wrong behind the events that are still to be handed out.
    failure: Option<AgentError>,
}

impl Talk {
    pub(super) fn new(settings: Arc<Settings>, request: RunRequest) -> Self {
        let session = request.session_id().map(str::to_owned);
        let answer = Answer::new(session, settings.key.clone());
        Self {
            reader: Reader::new(settings.api, answer),
            settings,
            request,
            started: Instant::now(),
            reply: None,
            failure: None,
        }
    }

    /// The next event; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, AgentError> {
        loop {
            if let Some(event) = self.reader.answer().next_event() {
                return Ok(Some(event));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.reader.answer().is_over() {
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
        let mut question = Question::new(&self.settings, &self.request)?;
        let answer = self.reader.answer();
        answer.set_model(question.model());
        let omitted = question.omitted;
        let asked = upstream::ask(&self.settings, &mut question).await?;
        for (omitted, why) in [(omitted, "the limits set here"), (asked.omitted, "this model")] {
            if omitted > 0 {
                let message = format!(
                    "the conversation is too long for {why}: {omitted} earlier messages were left out or cut"
                );
                answer.warn("history_omitted", &message);
            }
        }
        self.reply = Some(asked.reply);
        Ok(())
    }

    async fn read(&mut self, mut reply: Response) -> Result<(), AgentError> {
        let deadline = self.reader.answer().deadline(EPILOGUE, self.settings.idle_timeout);
        let idle = self.settings.idle_timeout;
        let patience = deadline
            .map_or(idle, |deadline| deadline.saturating_sub(self.started.elapsed()).min(idle));
        let chunk = time::timeout(patience, reply.chunk()).await;
        let at = self.started.elapsed();
        match chunk {
            Ok(Ok(Some(chunk))) => {
                self.reply = Some(reply);
                self.reader.feed(&chunk, at)
            }
            Ok(Ok(None)) => self.reader.close(Close::Body, at),
            Ok(Err(error)) => {
                let error = error.without_url();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the connection to an upstream broke"
                );
                self.reader.close(Close::Broken, at)
            }
            // Only the usage is missing.
            Err(_) if deadline.is_some() => self.reader.close(Close::Silent, at),
            Err(_) => {
                let message = format!("the upstream sent nothing for {idle:?}");
                let silent = AgentError::new(code::UPSTREAM_TIMEOUT, message).temporary();
                Err(self.reader.answer().fail(silent))
            }
        }
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
}

/// How long more is waited for behind the reason of an answer's end, whatever comes.
const EPILOGUE: Duration = Duration::from_secs(5);

const REST: Duration = Duration::from_millis(250);
