//! The Agent Client Protocol, version 1: JSON-RPC, one message a line, over the pipes of a program.
//!
//! An own reader and not the crate of the protocol's authors: that one switches on `serde_json/preserve_order` for the whole
//! build, and it refuses what it does not know. What a client needs of the protocol is little, and agents differ.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::{Value, json};
use turnkit_wire::{
    Event,
    interaction::{self, Interaction, Question},
    kind::{self, Class},
    write::{FinishReason, TokenUsage, ToolCall, ToolStatus, TurnResult},
};

use super::{
    super::{
        Received,
        told::{self, Told},
    },
    Format, Mapper, Permission, object, text_of,
};
use crate::lenient::{number, words};

/// What a run asks of the agent.
pub(in super::super) struct Task {
    pub(in super::super) message: String,
    /// The message with the conversation in front of it, for an agent that does not know the session.
    pub(in super::super) with_history: String,
    /// What the user is told then.
    pub(in super::super) told_instead: String,
    /// The session that goes on.
    pub(in super::super) session: Option<String>,
    pub(in super::super) directory: PathBuf,
    pub(in super::super) permission: Option<Permission>,
    /// Whether somebody is there who can be asked for a permission.
    pub(in super::super) can_ask: bool,
}

pub(super) struct Acp {
    task: Task,
    step: Step,
    /// The number of the request that was sent last.
    request: u64,
    is_first: bool,
    session: Option<String>,
    is_cancelled: bool,
    parts: usize,
    /// The part of text or thoughts that goes on, and whether it is thoughts.
    open: Option<(bool, String)>,
    /// What is known of each tool call: its part, and its members merged.
    calls: BTreeMap<String, (String, Value)>,
    /// The requests for a permission that wait for somebody's answer, by the id of the question: their own id, and the options.
    asked: BTreeMap<String, (Value, Vec<Value>)>,
    questions: u64,
}

/// Which answer is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Initialize,
    Load,
    /// None: the session is loaded, and what was said in it before may still be told.
    Loaded,
    New,
    Prompt,
}

impl Acp {
    /// Begins the dialogue.
    pub(super) fn new(task: Task, told: &mut Told) -> Self {
        let mut acp = Self {
            task,
            step: Step::Initialize,
            request: 0,
            is_first: true,
            session: None,
            is_cancelled: false,
            parts: 0,
            open: None,
            calls: BTreeMap::new(),
            asked: BTreeMap::new(),
            questions: 0,
        };
        let capabilities =
            json!({ "fs": { "readTextFile": false, "writeTextFile": false }, "terminal": false });
        let client = json!({ "name": "turnkit", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": 1, "clientCapabilities": capabilities, "clientInfo": client });
        acp.ask("initialize", &params, told);
        acp
    }

    /// Sends the request of this step.
    fn ask(&mut self, method: &str, params: &Value, told: &mut Told) {
        self.request += 1;
        say(
            &json!({ "jsonrpc": "2.0", "id": self.request, "method": method, "params": params }),
            told,
        );
    }

    fn begin(&mut self, told: &mut Told) {
        self.step = Step::New;
        let params = json!({ "cwd": self.task.directory, "mcpServers": [] });
        self.ask("session/new", &params, told);
    }

    fn prompt(&mut self, text: &str, told: &mut Told) {
        self.step = Step::Prompt;
        let prompt = json!([{ "type": "text", "text": text }]);
        let params = json!({ "sessionId": self.session, "prompt": prompt });
        self.ask("session/prompt", &params, told);
    }

    /// The answer to the request of this step.
    fn answered(&mut self, result: &Value, told: &mut Told) {
        match self.step {
            Step::Initialize => {
                let can_load =
                    result.pointer("/agentCapabilities/loadSession") == Some(&Value::Bool(true));
                match self.task.session.clone() {
                    Some(session) if can_load => {
                        self.step = Step::Load;
                        let params = json!({ "sessionId": session, "cwd": self.task.directory, "mcpServers": [] });
                        self.ask("session/load", &params, told);
                        self.session = Some(session);
                    }
                    Some(_) => self.lose(told),
                    None => self.begin(told),
                }
            }
            Step::Load => {
                self.learn_session(result, told);
                self.step = Step::Loaded;
            }
            Step::Loaded => {}
            Step::New => {
                let Some(session) = result.get("sessionId").and_then(Value::as_str) else {
                    return told.fail("the agent began a session without a name", None);
                };
                self.session = Some(session.to_owned());
                self.learn_session(result, told);
                let message = match self.task.session {
                    Some(_) => self.task.with_history.clone(),
                    None => self.task.message.clone(),
                };
                self.prompt(&message, told);
            }
            Step::Prompt => self.finish(result, told),
        }
    }

    fn learn_session(&self, result: &Value, told: &mut Told) {
        told.agent_session.clone_from(&self.session);
        let options = result.get("configOptions").and_then(Value::as_array);
        let option = options.into_iter().flatten().find(|option| text_of(option, "id") == "model");
        let model = result.pointer("/models/currentModelId").and_then(Value::as_str);
        let model = model.or_else(|| option?.get("currentValue")?.as_str());
        told.model = model.map(str::to_owned);
    }

    /// The agent does not know the session that should go on: it is told the conversation in a new one.
    fn lose(&mut self, told: &mut Told) {
        told.warn(&self.task.told_instead, Some("agent_session_lost"));
        self.session = None;
        self.begin(told);
    }

    fn finish(&mut self, result: &Value, told: &mut Told) {
        let reason = text_of(result, "stopReason");
        let finish_reason = match reason {
            "end_turn" => FinishReason::Stop,
            "max_tokens" | "max_turn_requests" => FinishReason::Length,
            "refusal" => return told.fail("the agent refused to go on", Some("refused")),
            _ if self.is_cancelled => {
                return told.fail("the turn was cancelled", Some("cancelled"));
            }
            other => return told.fail(&format!("the agent ended its turn with {other}"), None),
        };
        let counts = |path: &str, names: [&str; 4]| {
            let usage = result.pointer(path)?;
            let [input, output, reasoning, cached] =
                names.map(|name| usage.get(name).and_then(number));
            Some(TokenUsage::new(input?, output?).reasoning(reasoning).cached_input(cached))
        };
        let usage =
            counts("/usage", ["inputTokens", "outputTokens", "thoughtTokens", "cachedReadTokens"])
                .or_else(|| {
                    counts("/_meta/quota/token_count", ["input_tokens", "output_tokens", "", ""])
                });
        if told.model.is_none() {
            let model = result.pointer("/_meta/quota/model_usage/0/model").and_then(Value::as_str);
            told.model = model.map(str::to_owned);
        }
        told.answer(TurnResult::new().finish_reason(finish_reason).token_usage(usage));
    }

    /// Something that the agent asks for.
    fn asked(&mut self, id: &Value, method: &str, params: &Value, told: &mut Told) {
        if method != "session/request_permission" {
            let error = json!({ "code": -32601, "message": "not offered by this client" });
            return say(&json!({ "jsonrpc": "2.0", "id": id, "error": error }), told);
        }
        let options =
            params.get("options").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if self.task.can_ask && !self.is_cancelled && self.pass_on(id, params, options, told) {
            return;
        }
        let configured =
            self.task.permission.and_then(|permission| option_of(options, permission.kind()));
        // Nobody is there to ask: without a word of the operator's nothing is allowed.
        let chosen = configured.or_else(|| option_of(options, "reject_once"));
        permit(id, chosen.filter(|_| !self.is_cancelled), told);
        if configured.is_none() {
            let title = text_of(&params["toolCall"], "title");
            let message = format!(
                "the agent asked for a permission, and nobody is there to give it: {title}"
            );
            told.warn(&message, Some("permission_refused"));
        }
    }

    /// Asks whoever follows the turn, about the call's own part. Not where such a question would be refused (PROTOCOL 3.6).
    fn pass_on(&mut self, id: &Value, params: &Value, options: &[Value], told: &mut Told) -> bool {
        let call_id = text_of(&params["toolCall"], "toolCallId");
        if !call_id.is_empty() {
            self.tool(&params["toolCall"], told);
        }
        let call = self.calls.get(call_id).map_or(&params["toolCall"], |(_, call)| call);
        let choices: Vec<_> = options
            .iter()
            .map(|option| (text_of(option, "optionId"), text_of(option, "name")))
            .collect();
        let name = format!("permission-{}", self.questions + 1);
        let question = Interaction::new(interaction::Kind::Approval, &name).options(&choices);
        let (title, tool) = (text_of(call, "title"), text_of(call, "kind"));
        let question = if title.is_empty() { question } else { question.title(title) };
        let question = if tool.is_empty() { question } else { question.tool(tool) };
        let question = if call_id.is_empty() { question } else { question.call_id(call_id) };
        let input = call.get("rawInput").and_then(told::output);
        let whole = question.input(input.as_ref()).event();
        // What is too large to be asked with is in the call's part.
        let event = if Question::read(&whole).is_ok() { whole } else { question.event() };
        if self.asked.len() >= MAX_ASKED || Question::read(&event).is_err() {
            return false;
        }
        self.questions += 1;
        self.asked.insert(name, (id.clone(), options.to_vec()));
        told.push(event);
        true
    }

    fn update(&mut self, update: &Value, told: &mut Told) {
        if self.step != Step::Prompt {
            // A session that is loaded is told from its beginning; the reader has that.
            return;
        }
        let kind = text_of(update, "sessionUpdate");
        match kind {
            "agent_message_chunk" => self.chunk(false, update, told),
            "agent_thought_chunk" => self.chunk(true, update, told),
            "tool_call" | "tool_call_update" => self.tool(update, told),
            // What we said ourselves, and nothing.
            "user_message_chunk" | "" => {}
            other => {
                let is_own =
                    !matches!(Class::of(other.as_bytes()), Class::Other) || OURS.contains(&other);
                let mut data = update.clone();
                if let Some(members) = data.as_object_mut() {
                    members.remove("sessionUpdate");
                }
                let event = Event::new(other, &data).ok();
                if let Some(event) =
                    event.filter(|event| !is_own && event.json_len() < Event::MAX_BYTES)
                {
                    told.push(event);
                }
            }
        }
    }

    fn chunk(&mut self, is_thought: bool, update: &Value, told: &mut Told) {
        let content = &update["content"];
        if text_of(content, "type") == "resource_link" {
            let id = self.new_part();
            self.open = None;
            let title =
                content.get("title").or_else(|| content.get("name")).and_then(Value::as_str);
            let event = told.part(&id, None).source(text_of(content, "uri"), title);
            return told.push(event);
        }
        let text = text_of(content, "text");
        if text.is_empty() {
            return;
        }
        let open = self.open.take().filter(|(thought, _)| *thought == is_thought);
        let id = open.map_or_else(|| self.new_part(), |(_, id)| id);
        let part = told.part(&id, None);
        let event = if is_thought { part.reasoning_delta(text) } else { part.text_delta(text) };
        told.push(event);
        self.open = Some((is_thought, id));
    }

    fn tool(&mut self, update: &Value, told: &mut Told) {
        self.open = None;
        let id = text_of(update, "toolCallId").to_owned();
        let (part, mut call) = match self.calls.remove(&id) {
            Some(known) => known,
            None => (self.new_part(), json!({})),
        };
        for name in ["title", "kind", "status", "content", "rawInput", "rawOutput"] {
            if let Some(value) = update.get(name).filter(|value| !value.is_null()) {
                call[name] = value.clone();
            }
        }
        let status = match text_of(&call, "status") {
            "in_progress" => ToolStatus::Running,
            "completed" => ToolStatus::Completed,
            "failed" => ToolStatus::Error,
            _ => ToolStatus::Pending,
        };
        let texts = texts(&call["content"]);
        let input = call.get("rawInput").and_then(told::output);
        let output = match call.get("rawOutput") {
            Some(output) => told::output(output),
            None => Some(&texts)
                .filter(|texts| !texts.is_empty())
                .and_then(|texts| told::output(&Value::from(texts.as_str()))),
        };
        let name = [text_of(&call, "kind"), text_of(&call, "title"), "tool"]
            .into_iter()
            .find(|name| !name.is_empty());
        let told_call =
            ToolCall::new(name.unwrap_or_default(), status).call_id(&id).input(input.as_ref());
        let title = text_of(&call, "title");
        let told_call = if title.is_empty() { told_call } else { told_call.title(title) };
        let error = if texts.is_empty() { "failed".into() } else { told::cut(&texts) };
        let told_call = match status {
            ToolStatus::Error => told_call.error(&error),
            _ => told_call.output(output.as_ref()),
        };
        let event = told.part(&part, None).tool(&told_call);
        told.push(event);
        let is_open = !matches!(status, ToolStatus::Completed | ToolStatus::Error);
        if self.calls.len() < MAX_CALLS && (is_open || update.get("rawOutput").is_none()) {
            self.calls.insert(id, (part, call));
        }
    }

    fn new_part(&mut self) -> String {
        self.parts += 1;
        format!("prt_{}", self.parts)
    }
}

impl Mapper for Acp {
    fn line(&mut self, line: &[u8], told: &mut Told) {
        let Some(message) = object(line, Format::Acp, &mut self.is_first, told) else { return };
        let (method, id) =
            (text_of(&message, "method"), message.get("id").filter(|id| !id.is_null()));
        match (method, id) {
            ("session/update", None) => self.update(&message["params"]["update"], told),
            ("", Some(id)) if number(id) == Some(self.request) => {
                if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
                    if self.step == Step::Load {
                        return self.lose(told);
                    }
                    let words = words(error).unwrap_or_else(|| error.to_string());
                    return told.fail(&words, None);
                }
                self.answered(&message["result"], told);
            }
            ("", _) => told.stray(line),
            (method, Some(id)) => self.asked(id, method, &message["params"], told),
            // A notification that this client does not know.
            (_, None) => {}
        }
    }

    /// The protocol wants a session's past told before the answer to `session/load`. Some tell it right behind that.
    fn patience(&self) -> Option<Duration> {
        (self.step == Step::Loaded).then_some(PAST)
    }

    fn quiet(&mut self, told: &mut Told) {
        if self.step == Step::Loaded {
            let message = self.task.message.clone();
            self.prompt(&message, told);
        }
    }

    fn receive(&mut self, received: &Received, told: &mut Told) {
        let Received::Answer(answer) = received else { return };
        let Some((id, options)) = self.asked.remove(&*answer.id()) else { return };
        let option = answer.option();
        let of_id = |id: &str| options.iter().find(|option| text_of(option, "optionId") == id);
        let chosen = match (answer.is_accepted(), option.as_deref()) {
            (true, Some(option)) => of_id(option),
            // A yes that names no option is for this time.
            (true, None) => option_of(&options, "allow_once"),
            (false, _) => option_of(&options, "reject_once"),
        };
        permit(&id, chosen, told);
    }

    fn cancel(&mut self, told: &mut Told) -> bool {
        self.is_cancelled = true;
        // The protocol wants these answered, too.
        for (id, _) in std::mem::take(&mut self.asked).into_values() {
            permit(&id, None, told);
        }
        let is_asked = self.step == Step::Prompt;
        if is_asked {
            let params = json!({ "sessionId": self.session });
            say(&json!({ "jsonrpc": "2.0", "method": "session/cancel", "params": params }), told);
        }
        is_asked
    }
}

/// The first option of a kind.
fn option_of<'a>(options: &'a [Value], kind: &str) -> Option<&'a Value> {
    options.iter().find(|option| text_of(option, "kind") == kind)
}

/// Answers a request for a permission by an option; by none it is cancelled.
fn permit(id: &Value, chosen: Option<&Value>, told: &mut Told) {
    let outcome = match chosen.and_then(|option| option.get("optionId")) {
        Some(option) => json!({ "outcome": "selected", "optionId": option }),
        None => json!({ "outcome": "cancelled" }),
    };
    say(&json!({ "jsonrpc": "2.0", "id": id, "result": { "outcome": outcome } }), told);
}

/// Members in one order, whatever else in the process switches on `serde_json/preserve_order`.
fn say(message: &Value, told: &mut Told) {
    let mut message = message.clone();
    message.sort_all_objects();
    told.say(format!("{message}\n").as_bytes());
}

/// The texts of a tool call's content, and the paths of what it changed.
fn texts(content: &Value) -> String {
    let pieces = content.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = pieces.iter().filter_map(|piece| match text_of(piece, "type") {
        "diff" => Some(text_of(piece, "path")),
        _ => piece.pointer("/content/text")?.as_str(),
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// How long an agent is silent once a session's past is told.
const PAST: Duration = Duration::from_millis(300);

/// Events that are not the agent's to send by such a name.
const OURS: [&str; 5] =
    ["warning", kind::INTERACTION, kind::INTERACTION_ANSWERED, kind::INPUT, kind::INPUT_TAKEN];

/// How many questions wait at a time (PROTOCOL 3.6).
const MAX_ASKED: usize = 16;

/// How many calls are remembered.
const MAX_CALLS: usize = 256;
