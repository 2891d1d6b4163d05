//! An agent that asks an OpenAI-compatible endpoint.

mod answer;
mod builder;
mod chunk;
mod failure;
mod history;
mod request;
mod retry;
mod talk;
mod upstream;

use std::{borrow::Cow, sync::Arc};

use futures_core::Stream;
use futures_util::stream;
use turnkit_agent::{Agent, AgentError, Run, RunRequest};
use turnkit_wire::Event;

use self::{builder::Settings, talk::Talk};
pub use self::{
    builder::{BuildError, OpenAiBuilder},
    failure::code,
};

/// Asks `/chat/completions` of any OpenAI-compatible server, and streams its answer (PROTOCOL 3.4).
///
/// ```
/// use turnkit_agents::openai::OpenAi;
/// use turnkit_substrate::Substrate;
///
/// let agent = OpenAi::builder("http://127.0.0.1:8080/v1", "qwen3").key("s3cret").build()?;
/// let substrate = Substrate::builder().agent("default", agent).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Events.** Text, reasoning (`reasoning_content` or `reasoning`) and the arguments of tool calls go on as
/// `message.part.updated` with a `delta`, one part for each stretch of one kind. A tool call's last event has its arguments
/// in `state`, `raw` and, where they are JSON, as `input`; its status stays `pending`, for nobody runs it here. Then one
/// `result`: `finalText` (left out over 512 KiB, for the parts say it as well), `tokenUsage` where the server tells it,
/// `timing`, and in `metadata` the model, the server's name for its answer (`traceId`) and the reason of its end.
///
/// **History.** A member `history` of the request, `[{"role","content"}]`, oldest first and without the message itself, is
/// sent in front of the message. Roles are `user`, `assistant` and `system`. The newest messages within
/// [`OpenAiBuilder::history`] are sent, from a user's on.
///
/// **Model.** `backend.model` of the request, where it is [offered](OpenAiBuilder::offer); otherwise the first one.
///
/// **Failures** have a [`code`], and keep the server's status and message; the key is cut out of them. Before the first
/// event, a refused connection, 408, 425, 429, 502, 503 and 504 are tried again within [`OpenAiBuilder::retry`], after the
/// server's `Retry-After` where it sends one. Nothing is tried again later. An answer that stops without `finish_reason` and
/// without `[DONE]` is a failure.
///
/// **Cancelled**: the connection is closed at once.
#[derive(Clone, Debug)]
pub struct OpenAi {
    settings: Arc<Settings>,
}

impl OpenAi {
    /// Begins an agent of the server whose API is at `base_url`, such as `https://api.openai.com/v1`: `http` or `https`,
    /// without user information, query and fragment. `/chat/completions` is appended to its path.
    pub fn builder(base_url: impl Into<String>, model: impl Into<String>) -> OpenAiBuilder {
        OpenAiBuilder::new(base_url.into(), model.into())
    }
}

impl Agent for OpenAi {
    fn run(&self, run: Run) -> impl Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let cancel = run.cancel().clone();
        let talk = Talk::new(Arc::clone(&self.settings), run.into_request());
        stream::unfold(Some((talk, cancel)), async |talk| {
            let (mut talk, cancel) = talk?;
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                next = talk.next() => next.transpose(),
            };
            let goes_on = matches!(next, Some(Ok(_)));
            Some((next?, goes_on.then_some((talk, cancel))))
        })
    }

    fn description(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.settings.description)
    }
}
