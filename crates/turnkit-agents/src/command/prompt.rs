//! What a program is asked, and how that reaches it: on standard input, or in its arguments. Never through a shell.

use std::ffi::{OsStr, OsString};

use serde::Deserialize;
use turnkit_agent::RunRequest;

use super::{AgentError, Command, code, format::Format, input};

/// Where the message goes in an argument.
const MESSAGE: &str = "{message}";

/// The longest argument, in bytes with its end: Linux's `MAX_ARG_STRLEN`.
const MAX_ARGUMENT: usize = 128 * 1024;

/// A program's arguments and its standard input.
pub(super) struct Prompt {
    pub(super) args: Vec<OsString>,
    pub(super) input: Vec<u8>,
}

impl Prompt {
    /// The prompt of a run. `resume`: the session of the tool's own that goes on. `tells_history`: the conversation before the
    /// message stands in the prompt.
    pub(super) fn new(
        command: &Command,
        request: &RunRequest,
        resume: Option<&str>,
        tells_history: bool,
    ) -> Result<Self, AgentError> {
        let message =
            if tells_history { with_history(request) } else { request.message().to_owned() };
        let mut args = Vec::with_capacity(command.args.len());
        let (mut is_in_arguments, mut is_behind_dashes) = (false, false);
        for argument in &command.args {
            let text = argument.to_str().filter(|text| text.contains(MESSAGE));
            let Some(text) = text else {
                is_behind_dashes |= argument == "--";
                args.push(argument.clone());
                continue;
            };
            is_in_arguments = true;
            if text.starts_with(MESSAGE) && !is_behind_dashes && message.starts_with('-') {
                return Err(refused(
                    "the message begins with a hyphen, and the program would take it for an option",
                ));
            }
            let whole = text.replace(MESSAGE, &message);
            if whole.contains('\0') {
                return Err(refused(
                    "the message holds a NUL character, and no argument of a program can",
                ));
            }
            if whole.len() >= MAX_ARGUMENT {
                return Err(refused(
                    "the message is too long for an argument of a program: the limit is 128 KiB. On standard input it could be longer",
                ));
            }
            args.push(whole.into());
        }
        if let Some(session) = resume {
            command.format.resume(&mut args, &command.args, session);
        }
        let input = match command.format {
            Format::Events => input::line(request)
                .map_err(|error| AgentError::new(code::NOT_STARTED, error.to_string()))?,
            _ if is_in_arguments || command.format.has_a_dialogue() => Vec::new(),
            _ => message.into_bytes(),
        };
        Ok(Self { args, input })
    }
}

fn refused(message: &str) -> AgentError {
    AgentError::new(code::MESSAGE_REFUSED, message)
}

/// The session of the tool's own that a request goes on with: `metadata.agentSessionId`, where it can be an argument.
pub(super) fn session_of(request: &RunRequest) -> Option<String> {
    let is_id = |id: &String| {
        (1..=256).contains(&id.len())
            && !id.starts_with('-')
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    request.agent_session_id().filter(is_id)
}

/// What the user is told where a tool does not know the session that it should go on with.
pub(super) fn told_instead(request: &RunRequest) -> String {
    let told =
        "the agent does not know the session that it had: it was told the conversation instead";
    match request.history_omitted() {
        Some(omitted) => format!("{told}, without {omitted}"),
        None => told.to_owned(),
    }
}

/// Whether anything was said before the message.
pub(super) fn has_history(request: &RunRequest) -> bool {
    !history(request).is_empty()
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

fn history(request: &RunRequest) -> Vec<Said> {
    let member = request.member("history").ok().flatten();
    let said: Option<Vec<Said>> = member.and_then(|member| serde_json::from_str(member.get()).ok());
    let said = said.unwrap_or_default().into_iter();
    said.filter(|said| !said.content.trim().is_empty()).collect()
}

/// The message, with the conversation in front of it: for a tool that does not know it.
pub(super) fn with_history(request: &RunRequest) -> String {
    let history = history(request);
    if history.is_empty() {
        return request.message().to_owned();
    }
    let mut prompt = "This is our conversation so far.\n".to_owned();
    for said in history {
        let name = match said.role.as_str() {
            "assistant" => "You",
            "system" => "Note",
            _ => "I",
        };
        for piece in ["\n", name, ":\n", said.content.trim(), "\n"] {
            prompt.push_str(piece);
        }
    }
    prompt.push_str("\nGo on from there. This is what I say now:\n\n");
    prompt.push_str(request.message());
    prompt
}

/// Puts `extra` where a tool takes options: before `--` and before the message, which may stand behind it.
pub(super) fn insert(
    args: &mut Vec<OsString>,
    given: &[OsString],
    extra: [&str; 2],
    before_message: bool,
) {
    let is_end = |argument: &OsStr| {
        argument == "--"
            || (before_message
                && (argument == "-"
                    || argument.to_str().is_some_and(|text| text.contains(MESSAGE))))
    };
    let at = given.iter().position(|argument| is_end(argument)).unwrap_or(args.len());
    args.splice(at..at, extra.map(OsString::from));
}
