//! What the endpoint is asked.

use bytes::Bytes;
use serde_json::{Map, json};

use super::{
    AgentError, RunRequest,
    api::Api,
    builder::Settings,
    code,
    history::{self, Message},
};

/// A request, and in which ways it may still be changed.
pub(super) struct Question<'a> {
    settings: &'a Settings,
    model: &'a str,
    history: Vec<Message>,
    message: Message,
    /// How many messages of the history are not sent, or not in full.
    pub(super) omitted: usize,
    without_options: bool,
}

impl<'a> Question<'a> {
    /// What a run asks.
    pub(super) fn new(settings: &'a Settings, request: &RunRequest) -> Result<Self, AgentError> {
        let model = model(settings, request)?;
        let history = request.member("history").map_err(|error| encode(&error))?;
        let kept = settings.history.apply(history::read(history)?);
        let message = Message::new("user", request.message());
        Ok(Self {
            settings,
            model,
            history: kept.messages,
            message,
            omitted: kept.omitted,
            without_options: false,
        })
    }

    /// The model that is asked.
    pub(super) fn model(&self) -> &'a str {
        self.model
    }

    /// Leaves out what this client has added by itself, where `refusal` names it. Once.
    pub(super) fn drop_options(&mut self, refusal: &str) -> bool {
        let is_named =
            |name: &&str| refusal.contains(*name) && !self.settings.parameters.contains_key(*name);
        let changes = !self.without_options && self.settings.api.own_options().iter().any(is_named);
        self.without_options |= changes;
        changes
    }

    /// Leaves out the older half of the history, or more where only such a `share` of the whole question is taken. How many messages
    /// are not sent or not in full for it: 0 where there is no history.
    pub(super) fn drop_half(&mut self, share: Option<f64>) -> usize {
        let rest =
            self.message.content.len() + self.settings.system.as_ref().map_or(0, String::len);
        let whole = history::size(&self.history) + rest;
        let room = share.map_or(whole, |share| scaled(whole, share)).saturating_sub(rest);
        let kept = history::newer_half(std::mem::take(&mut self.history), room);
        self.history = kept.messages;
        kept.omitted
    }

    /// The body of the request.
    pub(super) fn body(&self) -> Result<Bytes, AgentError> {
        let is_system = |message: &&Message| message.role == "system";
        let system = self.settings.system.iter().map(String::as_str);
        let mut body = Map::new();
        body.insert("model".to_owned(), self.model.into());
        match self.settings.api {
            Api::ChatCompletions => {
                let system = system.map(|text| Message::new("system", text));
                let messages: Vec<_> = system
                    .chain(self.history.iter().cloned())
                    .chain([self.message.clone()])
                    .collect();
                body.insert("messages".to_owned(), json!(messages));
                body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
            }
            Api::Messages => {
                // This API has no such role, but one text in front of all.
                let system = system.chain(
                    self.history.iter().filter(is_system).map(|message| message.content.as_str()),
                );
                let system: Vec<_> = system.collect();
                if !system.is_empty() {
                    body.insert("system".to_owned(), system.join("\n\n").into());
                }
                let messages: Vec<_> = self
                    .history
                    .iter()
                    .filter(|message| !is_system(message))
                    .chain([&self.message])
                    .collect();
                body.insert("messages".to_owned(), json!(messages));
                body.insert("max_tokens".to_owned(), MAX_TOKENS.into());
            }
            Api::Responses => {
                if let Some(system) = &self.settings.system {
                    body.insert("instructions".to_owned(), system.as_str().into());
                }
                let messages: Vec<_> = self.history.iter().chain([&self.message]).collect();
                body.insert("input".to_owned(), json!(messages));
                body.insert("store".to_owned(), false.into());
            }
        }
        body.insert("stream".to_owned(), true.into());
        if self.without_options {
            body.retain(|name, _| !self.settings.api.own_options().contains(&name.as_str()));
        }
        // The operator's own; `null` leaves a member out.
        for (name, value) in &self.settings.parameters {
            if value.is_null() {
                body.remove(name);
            } else {
                body.insert(name.clone(), value.clone());
            }
        }
        Ok(serde_json::to_vec(&body).map_err(|error| encode(&error))?.into())
    }
}

/// A share of so many bytes, of at most all of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a question has fewer bytes than a float has exact integers, and the share is from 0 to 1"
)]
fn scaled(bytes: usize, share: f64) -> usize {
    (bytes as f64 * share.clamp(0.0, 1.0)) as usize
}

/// The most tokens of an answer where the operator says nothing: Anthropic's API wants a number.
const MAX_TOKENS: u32 = 8_192;

/// The model that a request chooses, or the first one.
fn model<'a>(settings: &'a Settings, request: &RunRequest) -> Result<&'a str, AgentError> {
    let wanted = request.backend().and_then(|backend| backend.model.as_deref());
    let mut models = settings.models.iter();
    let model = match wanted {
        Some(wanted) => models.find(|model| *model == wanted),
        None => models.next(),
    };
    let model = model.ok_or_else(|| {
        AgentError::new(code::MODEL_NOT_OFFERED, "backend.model is not offered here")
    });
    model.map(String::as_str)
}

fn encode(error: &dyn std::error::Error) -> AgentError {
    AgentError::new(code::UPSTREAM_PROTOCOL, format!("the request cannot be written: {error}"))
}
