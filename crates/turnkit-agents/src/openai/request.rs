//! What the endpoint is asked.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    AgentError, RunRequest,
    builder::Settings,
    code,
    history::{self, Message},
};

/// The body of the request that a run makes of this model.
pub(super) fn body(
    settings: &Settings,
    model: &str,
    request: &RunRequest,
) -> Result<Bytes, AgentError> {
    let history = request.member("history").map_err(|error| encode(&error))?;
    let history = settings.history.apply(history::read(history)?);
    let system = settings.system.iter().map(|text| Message::new("system", text));
    let message = Message::new("user", request.message());
    let completion = Completion {
        model,
        messages: system.chain(history).chain([message]).collect(),
        stream: true,
        parameters: parameters(settings),
    };
    let body = serde_json::to_vec(&completion.into_object().map_err(|error| encode(&error))?);
    Ok(body.map_err(|error| encode(&error))?.into())
}

#[derive(Serialize)]
struct Completion<'a> {
    model: &'a str,
    messages: Vec<Message>,
    stream: bool,
    #[serde(skip)]
    parameters: Map<String, Value>,
}

impl Completion<'_> {
    fn into_object(self) -> Result<Value, serde_json::Error> {
        let mut object = serde_json::to_value(&self)?;
        if let Value::Object(members) = &mut object {
            members.extend(self.parameters);
        }
        Ok(object)
    }
}

/// The operator's own, and that usage is wanted.
fn parameters(settings: &Settings) -> Map<String, Value> {
    let mut parameters = settings.parameters.clone();
    let options =
        parameters.entry("stream_options").or_insert_with(|| json!({ "include_usage": true }));
    if options.is_null() {
        parameters.remove("stream_options");
    }
    parameters
}

/// The model that a request chooses, or the first one.
pub(super) fn model<'a>(
    settings: &'a Settings,
    request: &RunRequest,
) -> Result<&'a str, AgentError> {
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
