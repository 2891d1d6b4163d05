//! The routes as an OpenAPI document, made from the types that they write and read. It is kept as `openapi.json` beside the crate's
//! manifest; that a server keeps to it is tried over HTTP (`tests/front-ends/openapi.test.mjs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::{env, fs};

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Value, json};

use super::wire::{
    Agents, AnswerTaken, Entry, InputAccepted, Me, Messages, OpenTurns, Opened, Queued, Session,
    SessionList, SessionWhole, StoppedTurn, Waiting, WaitingTurn,
};
use super::{AnswerGiven, InputGiven, SessionChanged, TurnAsked, TurnEdited};

/// A JSON object whose members are described elsewhere: in PROTOCOL 1.1, or by the front end whose it is.
pub(super) struct Object;

impl JsonSchema for Object {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Object".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What an answer's body is.
enum Body {
    Nothing,
    Json(SchemaOf),
    Array(SchemaOf),
    Error,
    Text(&'static str, &'static str),
}

struct Answer {
    status: u16,
    when: String,
    body: Body,
}

/// One method of one path.
struct Operation {
    method: &'static str,
    path: &'static str,
    does: &'static str,
    query: Vec<(&'static str, &'static str, Value)>,
    takes: Option<SchemaOf>,
    answers: Vec<Answer>,
}

fn on(method: &'static str, path: &'static str, does: &'static str) -> Operation {
    Operation { method, path, does, query: Vec::new(), takes: None, answers: Vec::new() }
}

impl Operation {
    fn query(mut self, name: &'static str, about: &'static str, schema: Value) -> Operation {
        self.query.push((name, about, schema));
        self
    }

    fn takes<T: JsonSchema>(mut self) -> Operation {
        self.takes = Some(SchemaGenerator::subschema_for::<T>);
        self
    }

    fn answers(mut self, status: u16, when: impl Into<String>, body: Body) -> Operation {
        self.answers.push(Answer { status, when: when.into(), body });
        self
    }

    fn gives<T: JsonSchema>(self, status: u16, when: &str) -> Operation {
        self.answers(status, when, Body::Json(SchemaGenerator::subschema_for::<T>))
    }

    fn streams(self, media: &'static str, about: &'static str) -> Operation {
        let when =
            "It ends with the turn. A body that breaks off is no end: ask again with the cursor.";
        self.answers(200, when, Body::Text(media, about))
    }

    fn refuses(self, status: u16, codes: &[&str]) -> Operation {
        let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        self.answers(status, codes.join(", "), Body::Error)
    }
}

const NDJSON: (&str, &str) = (
    "application/x-ndjson",
    "Events (PROTOCOL 1.2, 2.1): a JSON object on each line. Blank lines are signs of life.",
);
const SSE: (&str, &str) = (
    "text/event-stream",
    "The same events for `EventSource` (PROTOCOL 1.3), where `Accept` asks for them.",
);
const FEED: (&str, &str) =
    ("text/event-stream", "Entries of the feed: the data of each is a `FeedEntry`.");
const CHUNKS: (&str, &str) =
    ("text/event-stream", "The turn in the front end's vocabulary (PROTOCOL 4.5).");
const NO_SESSION: &str = "session_not_found";
const NO_TURN: [&str; 2] = [NO_SESSION, "turn_not_found"];

/// Each route of [`Chat::router`](crate::Chat::router) and [`Tokens::router`](crate::tokens::Tokens::router).
fn operations() -> Vec<Operation> {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer", "minimum": 0 });
    let page = || json!({ "type": "integer", "minimum": 1, "maximum": super::MAX_LIMIT });
    let read = |operation: Operation| {
        operation
            .query("before", "A turn's index: what was said before it.", number())
            .query("turns", "How many turns at most.", page())
            .query("branch", "A turn of the branch; by default the newest branch.", text())
            .refuses(404, &NO_TURN)
    };
    let feed = |operation: Operation| {
        operation
            .query("after", "An id of the feed; `Last-Event-ID` outweighs it.", text())
            .streams(FEED.0, FEED.1)
            .refuses(410, &["feed_expired"])
    };
    let of_turn = |operation: Operation| operation.refuses(404, &NO_TURN);
    vec![
        on("get", "/api/openapi.json", "This document").gives::<Object>(200, "It."),
        on("get", "/api/me", "Who asks").gives::<Me<'_>>(200, "The user of the request."),
        on("delete", "/api/me", "Deletes all sessions of the user").answers(
            204,
            "Nothing of them stays.",
            Body::Nothing,
        ),
        on("post", "/api/sign-in", "Signs in, where users have tokens: `{\"token\"}`")
            .takes::<Object>()
            .answers(204, "With a cookie that stands for the token.", Body::Nothing),
        on("post", "/api/sign-out", "Ends a sign-in, where users have tokens").answers(
            204,
            "The cookie is worth nothing any more.",
            Body::Nothing,
        ),
        on("get", "/api/agents", "Who can answer").gives::<Agents>(
            200,
            "The agents that a turn can name, and who answers where it names none.",
        ),
        feed(on("get", "/api/events", "What changes, in all sessions")),
        on("get", "/api/sessions", "The user's sessions, the newest first")
            .query("before", "A session: those that were opened before it.", text())
            .query("limit", "How many at most.", page())
            .query(
                "archived",
                "Which ones; `false` by default.",
                json!({ "enum": ["false", "true", "any"] }),
            )
            .gives::<SessionList>(200, "A page of them."),
        on("post", "/api/sessions", "Opens a session").gives::<Opened<'_>>(201, "It is new."),
        read(on("get", "/api/sessions/{session}", "A session at one moment"))
            .gives::<SessionWhole>(200, "Its messages, open turn, questions and queue."),
        on("patch", "/api/sessions/{session}", "Names a session, archives it or takes it back")
            .takes::<SessionChanged>()
            .gives::<Session>(200, "As lists have it now.")
            .refuses(404, &[NO_SESSION]),
        on("delete", "/api/sessions/{session}", "Deletes a session")
            .answers(204, "Nothing of it stays.", Body::Nothing)
            .refuses(404, &[NO_SESSION]),
        feed(on("get", "/api/sessions/{session}/events", "What changes, in one session"))
            .refuses(404, &[NO_SESSION]),
        read(on("get", "/api/sessions/{session}/messages", "What was said, the oldest first"))
            .gives::<Messages>(200, "The newest turns of a branch, and the open turn."),
        on("get", "/api/sessions/{session}/turns", "The turns that have not ended")
            .query(
                "state",
                "The open one, or those that wait.",
                json!({ "enum": ["open", "queued"] }),
            )
            .answers(
                200,
                "",
                Body::Json(|types| {
                    let states =
                        [types.subschema_for::<OpenTurns>(), types.subschema_for::<Waiting>()];
                    json_schema!({ "anyOf": states })
                }),
            )
            .refuses(404, &[NO_SESSION]),
        on(
            "post",
            "/api/sessions/{session}/turns",
            "Starts a turn, or takes it up from its first event",
        )
        .takes::<TurnAsked>()
        .streams(NDJSON.0, NDJSON.1)
        .gives::<Queued<'_>>(202, "It waits: ask for it, it is not to be sent again.")
        .refuses(404, &NO_TURN)
        .refuses(409, &["turn_conflict", "turn_running"])
        .refuses(410, &["turn_removed"])
        .refuses(413, &["payload_too_large"])
        .refuses(429, &["queue_full"])
        .refuses(503, &["too_many_turns", "unattended", "shutting_down", "unavailable"]),
        of_turn(on(
            "get",
            "/api/sessions/{session}/turns/{turn}",
            "Takes a turn up; starts nothing",
        ))
        .query("after", "The cursor: how many of its events the client has.", number())
        .streams(NDJSON.0, NDJSON.1)
        .streams(SSE.0, SSE.1)
        .gives::<Queued<'_>>(202, "It waits.")
        .answers(204, "An `EventSource` that has the turn's last frame.", Body::Nothing)
        .refuses(410, &["turn_removed"]),
        of_turn(on("patch", "/api/sessions/{session}/turns/{turn}", "Edits a turn that waits"))
            .takes::<TurnEdited>()
            .gives::<WaitingTurn>(200, "As it is now.")
            .refuses(409, &["turn_started"])
            .refuses(410, &["turn_removed"]),
        of_turn(on("delete", "/api/sessions/{session}/turns/{turn}", "Removes a turn that waits"))
            .answers(204, "It will not run.", Body::Nothing)
            .refuses(409, &["turn_started"]),
        of_turn(on("post", "/api/sessions/{session}/turns/{turn}/cancel", "Stops a turn"))
            .gives::<StoppedTurn<'_>>(200, "How it ended.")
            .gives::<StoppedTurn<'_>>(202, "It has not ended yet.")
            .refuses(409, &["turn_queued"])
            .refuses(410, &["turn_removed"]),
        on(
            "post",
            "/api/sessions/{session}/turns/{turn}/interactions/{interaction}",
            "Answers a question of the agent",
        )
        .takes::<AnswerGiven>()
        .gives::<AnswerTaken>(200, "The agent gets it.")
        .refuses(404, &[NO_SESSION, "turn_not_found", "interaction_not_found"])
        .refuses(409, &["interaction_answered", "turn_queued"])
        .refuses(410, &["interaction_gone", "turn_removed"])
        .refuses(422, &["invalid_answer"])
        .refuses(429, &["too_many_inputs"]),
        of_turn(on(
            "post",
            "/api/sessions/{session}/turns/{turn}/input",
            "Puts a message into a running turn",
        ))
        .takes::<InputGiven>()
        .gives::<InputAccepted<'_>>(202, "The agent gets it.")
        .refuses(409, &["input_not_accepted", "input_conflict", "turn_queued"])
        .refuses(410, &["execution_ended", "turn_removed"])
        .refuses(429, &["too_many_inputs"]),
        on("post", "/api/chat", "A message of the AI SDK's `useChat`")
            .query(
                "ai",
                "The version of the package `ai`; 7 by default.",
                json!({ "enum": ["5", "6", "7"] }),
            )
            .takes::<Object>()
            .streams(CHUNKS.0, CHUNKS.1)
            .refuses(409, &["turn_running", "turn_queued", "turn_conflict"])
            .refuses(422, &["invalid_answer"]),
        on("get", "/api/chat/{chat}", "A conversation as the AI SDK's messages")
            .query(
                "ai",
                "The version of the package `ai`; 7 by default.",
                json!({ "enum": ["5", "6", "7"] }),
            )
            .answers(200, "`UIMessage[]`.", Body::Array(SchemaGenerator::subschema_for::<Object>))
            .refuses(404, &[NO_SESSION]),
        of_turn(on("get", "/api/chat/{chat}/stream", "Takes the open turn up"))
            .query(
                "ai",
                "The version of the package `ai`; 7 by default.",
                json!({ "enum": ["5", "6", "7"] }),
            )
            .query(
                "startIndex",
                "How many chunks of the newest turn the client has.",
                json!({ "type": "integer" }),
            )
            .query("messageId", "The answer whose turn is asked for.", text())
            .streams(CHUNKS.0, CHUNKS.1)
            .answers(204, "No turn is open.", Body::Nothing),
        of_turn(on("delete", "/api/chat/{chat}/stream", "Stops the open turn"))
            .gives::<StoppedTurn<'_>>(200, "How it ended.")
            .gives::<StoppedTurn<'_>>(202, "It has not ended yet.")
            .answers(204, "No turn is open.", Body::Nothing),
        on("post", "/api/ag-ui", "A run of AG-UI: `RunAgentInput`")
            .takes::<Object>()
            .streams(CHUNKS.0, CHUNKS.1)
            .streams(
                NDJSON.0,
                "The same chunks as lines `{\"id\",\"chunk\"}`, where `Accept` asks for them.",
            )
            .refuses(409, &["turn_running", "turn_queued", "turn_conflict"])
            .refuses(422, &["invalid_answer"]),
        of_turn(on("get", "/api/ag-ui", "Joins a run, or reads a thread"))
            .query("runId", "The run to join.", text())
            .query(
                "offset",
                "How many of its chunks the client has, or -1.",
                json!({ "type": "integer" }),
            )
            .query("threadId", "The thread to read.", text())
            .streams(CHUNKS.0, CHUNKS.1)
            .gives::<Object>(200, ""),
        of_turn(on("delete", "/api/ag-ui/{thread}/stream", "Stops the thread's open run"))
            .gives::<StoppedTurn<'_>>(200, "How it ended.")
            .gives::<StoppedTurn<'_>>(202, "It has not ended yet.")
            .answers(204, "No run is open.", Body::Nothing),
    ]
}

fn document() -> Value {
    let settings = || {
        let mut settings = SchemaSettings::draft2020_12();
        settings.meta_schema = None;
        settings.definitions_path = "/components/schemas".into();
        settings
    };
    let mut written = settings().for_serialize().into_generator();
    let mut read = settings().for_deserialize().into_generator();
    let mut paths: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for operation in operations() {
        let named =
            operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path = named.map(
            |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        );
        let in_query = operation.query.into_iter().map(|(name, about, schema)| {
            json!({ "name": name, "in": "query", "description": about, "schema": schema })
        });
        let parameters: Vec<Value> = in_path.chain(in_query).collect();
        let mut value = json!({ "summary": operation.does, "parameters": parameters });
        if let Some(takes) = operation.takes {
            let content = json!({ "application/json": { "schema": takes(&mut read) } });
            value["requestBody"] = json!({ "required": true, "content": content });
        }
        let refused = "Any other refusal: of the request's form (400, 408, 413, 415, 431), of who asks (401, 403), of the product's own, or for now (503).";
        let answers = operation
            .answers
            .into_iter()
            .map(|answer| (answer.status.to_string(), answer.when, answer.body));
        for (status, when, body) in
            answers.chain([("default".to_owned(), refused.to_owned(), Body::Error)])
        {
            let content = match body {
                Body::Nothing => None,
                Body::Json(of) => Some(("application/json", of(&mut written).to_value())),
                Body::Array(of) => Some((
                    "application/json",
                    json!({ "type": "array", "items": of(&mut written) }),
                )),
                Body::Error => {
                    Some(("application/json", json!({ "$ref": "#/components/schemas/Error" })))
                }
                Body::Text(media, about) => {
                    Some((media, json!({ "type": "string", "description": about })))
                }
            };
            // An answer can have several forms, of which the first has the words.
            let said = &mut value["responses"][status];
            if said.is_null() {
                *said = json!({ "description": when });
            }
            if let Some((media, schema)) = content {
                said["content"][media]["schema"] = schema;
            }
        }
        let methods = paths.entry(operation.path).or_default();
        assert!(methods.insert(operation.method, value).is_none(), "{} twice", operation.path);
    }
    written.subschema_for::<Entry<'_>>();
    let mut schemas = written.take_definitions(true);
    schemas.extend(read.take_definitions(true));
    let error = json!({
        "type": "object",
        "required": ["success", "error"],
        "properties": {
            "success": { "const": false },
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": { "type": "string", "description": "A word for programs." },
                    "message": { "type": "string", "description": "A sentence for whoever wrote the request." },
                    "field": { "type": "string", "description": "The part of the request that is wrong." },
                    "limit": { "type": "integer", "description": "The limit that was met." },
                    "turnId": { "type": "string", "description": "The turn that is open." },
                    "outcome": { "type": "string", "description": "The answer that was taken." },
                },
            },
        },
    });
    schemas.insert("Error".to_owned(), error);
    let about = "The routes of a product that is built on turnkit, as PROTOCOL 4.2 and 4.5 have them. How users log in is the product's own.";
    json!({
        "openapi": "3.1.0",
        "info": { "title": "turnkit", "version": "1", "description": about },
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The kept document is this one. With `UPDATE_OPENAPI=1` it is written anew.
#[test]
fn the_document_is_what_the_types_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let made = document();
    if env::var_os("UPDATE_OPENAPI").is_some() {
        let sorted: BTreeMap<String, Value> = serde_json::from_value(made.clone()).unwrap();
        fs::write(path, serde_json::to_string_pretty(&sorted).unwrap() + "\n").unwrap();
    }
    let kept: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    assert!(
        kept == made,
        "openapi.json is not what the types say: run this test with UPDATE_OPENAPI=1"
    );
}

/// Every route that the protocol's tables name is in the document, and no other; the binary's own are not.
#[test]
fn the_document_has_the_routes_of_the_protocol() {
    let protocol = include_str!("../../../../docs/PROTOCOL.md");
    let tables = protocol
        .split("\n### ")
        .filter(|section| section.starts_with("4.2") || section.starts_with("4.5"));
    let rows = tables.flat_map(str::lines).filter(|line| line.starts_with("| `"));
    let calls =
        rows.flat_map(|row| row.split(" | ").next().unwrap_or("").split('`').skip(1).step_by(2));
    let told: BTreeSet<String> = calls
        .filter_map(|call| call.split_once(' '))
        .filter(|(method, _)| ["GET", "POST", "PATCH", "DELETE"].contains(method))
        .map(|(method, path)| (method, path.split(['?', ' ']).next().unwrap_or("")))
        .map(|(method, path)| (method, path.replace("…/turns", "/api/sessions/{s}/turns")))
        .filter(|(_, path)| path.starts_with("/api/") && !path.ends_with("/trace"))
        .map(|(method, path)| format!("{} {}", method.to_lowercase(), nameless(&path)))
        .collect();
    let paths = document()["paths"].clone();
    let kept: BTreeSet<String> = (paths.as_object().unwrap().iter())
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(move |method| format!("{method} {}", nameless(path)))
        })
        .collect();
    assert_eq!(kept, told);
}

/// A path whose parameters have no names.
fn nameless(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    parts.collect::<Vec<_>>().join("/")
}
