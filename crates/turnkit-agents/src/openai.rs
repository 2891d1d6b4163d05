//! An agent that asks a model: any OpenAI-compatible endpoint, Anthropic's or OpenAI's newer one.

mod answer;
mod api;
mod body;
mod builder;
mod chat;
mod failure;
mod history;
mod messages;
mod reader;
mod request;
mod responses;
mod retry;
mod talk;
mod think;
mod upstream;

use std::{borrow::Cow, sync::Arc};

use futures_core::Stream;
use futures_util::stream;
use turnkit_agent::{Agent, AgentError, Run, RunRequest};
use turnkit_wire::Event;

pub use self::{
    api::Api,
    builder::{BuildError, OpenAiBuilder},
    failure::code,
};
use self::{builder::Settings, talk::Talk};

/// Asks a model, in one of the forms of [`Api`], and streams its answer (PROTOCOL 3.4).
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
/// **Events.** Text, reasoning (also `<think>…</think>` at the beginning of a text) and the arguments of tool calls go on as
/// `message.part.updated` with a `delta`, one part for each stretch of one kind. A tool call's last event has its arguments
/// in `state`, `raw` and, where they are JSON, as `input`; its status stays `pending`, for nobody runs it here. Then one
/// `result`: `finalText` (left out over 512 KiB, for the parts say it as well), `finishReason`, `tokenUsage` where the server
/// tells it, `timing`, the model, and in `metadata` the server's name for its answer (`traceId`).
///
/// **Tolerant.** Servers differ from the API that they claim. What has the right shape is taken wherever it stands; what is of
/// another one is skipped, logged once, and an error only where nothing else came. Where a piece of the answer itself may be
/// lost with it, a `warning` says so. What an answer is, is judged by its bytes, not by its content type.
///
/// **How an answer ends.** The server's reason says it: *whole* (`stop`, `tool_calls`, `eos_token`, …), *cut* (`length`,
/// `content_filter`, …: the answer counts, and `finishReason` says it) or failed, which is every other one. Text behind a
/// reason takes it back. An answer that stops without a reason and without `[DONE]` is a failure, and so is a broken
/// connection, unless a whole answer's reason came before it in a frame of its own. A `refusal` is a failure with its words.
///
/// **History.** A member `history` of the request, `[{"role","content"}]`, oldest first and without the message itself, is
/// sent in front of the message. Roles are `user`, `assistant` and `system`; blank messages are left out. The newest messages
/// within [`OpenAiBuilder::history`] are sent, from a user's on. A server that refuses a conversation for its length is asked
/// once more with half of it, or with less where it says how much it takes. What was left out is told by a `warning` with the code `history_omitted`.
///
/// **Model.** `backend.model` of the request, where it is [offered](OpenAiBuilder::offer); otherwise the first one.
///
/// **Failures** have a [`code`], and keep the server's status and message; the key is cut out of them. Before the first
/// event, a refused connection, 408, 425, 429, 502, 503 and 504 are tried again within [`OpenAiBuilder::retry`], after the
/// server's `Retry-After` where it sends one; a server that is still loading its model is waited for within
/// [`OpenAiBuilder::loading`]; a 400 or 422 that names `stream_options` (or `store`) is asked once more without it. Nothing is
/// tried again later.
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
