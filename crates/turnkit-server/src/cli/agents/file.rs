//! `[[agent]]` of the configuration file, read into entries.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use turnkit_id::is_name;

use super::entry::{Api, Entry, Format, Kind, Model, PACE, Permission, Program, Secret};

/// What is wrong in an entry, and where in the file.
#[derive(Debug)]
pub(in crate::cli) struct Wrong {
    pub(in crate::cli) at: Range<usize>,
    pub(in crate::cli) why: String,
}

/// The entries of a list of tables. Each keeps where it begins.
pub(in crate::cli) fn entries(
    list: &[Spanned<DeValue<'_>>],
) -> Result<Vec<(Entry, Range<usize>)>, Wrong> {
    let mut entries: Vec<(Entry, Range<usize>)> = Vec::new();
    for value in list {
        let at = value.span();
        let DeValue::Table(table) = value.get_ref() else {
            return Err(Wrong { at, why: "an agent is a table: [[agent]]".to_owned() });
        };
        let entry = entry(table, at.clone())?;
        if entries.iter().any(|(other, _)| other.name == entry.name) {
            let at = table.get("name").map_or(at, Spanned::span);
            let why =
                format!("there are two agents of the name `{}`: give each its own", entry.name);
            return Err(Wrong { at, why });
        }
        entries.push((entry, at));
    }
    Ok(entries)
}

const COMMON: &[&str] = &["name", "kind", "description"];
const DEMO: &[&str] = &["pace"];
const MODEL: &[&str] = &[
    "base-url",
    "model",
    "models",
    "api",
    "key-env",
    "key-file",
    "system",
    "parameters",
    "headers",
    "headers-env",
    "proxy",
    "ca-file",
    "history-messages",
    "history-bytes",
    "retries",
    "retry-within",
    "loading-timeout",
    "connect-timeout",
    "answer-timeout",
    "idle-timeout",
];
const PROGRAM: &[&str] =
    &["command", "format", "env", "dir", "permission", "input", "grace", "max-event"];

fn entry(table: &DeTable<'_>, at: Range<usize>) -> Result<Entry, Wrong> {
    let fields = Fields { table, at };
    let name = fields.text("name")?.ok_or_else(|| fields.missing("name"))?;
    if !is_name(&name) {
        return Err(fields.wrong("name", "a name is 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    let kind = fields.text("kind")?.ok_or_else(|| fields.missing("kind"))?;
    let known = match kind.as_str() {
        "demo" => DEMO,
        "openai" | "anthropic" => MODEL,
        "command" => PROGRAM,
        _ => {
            return Err(
                fields.wrong("kind", "there are the kinds demo, openai, anthropic and command")
            );
        }
    };
    fields.check(&kind, known)?;
    let description = fields.text("description")?;
    let kind = match kind.as_str() {
        "demo" => Kind::Demo(fields.duration("pace")?.unwrap_or(PACE)),
        "command" => Kind::Program(program(&fields)?),
        kind => {
            let api = if kind == "anthropic" { Api::Anthropic } else { Api::Chat };
            Kind::Model(Box::new(model(&fields, api)?))
        }
    };
    Ok(Entry { name, description, kind })
}

fn model(fields: &Fields<'_>, default_api: Api) -> Result<Model, Wrong> {
    let api = match fields.text("api")?.as_deref() {
        None => default_api,
        Some(word) => Api::of(word)
            .ok_or_else(|| fields.wrong("api", "an API is chat, anthropic or responses"))?,
    };
    let key = match (fields.text("key-env")?, fields.text("key-file")?) {
        (Some(_), Some(_)) => {
            return Err(fields.wrong("key-file", "there is a key-env too: one of the two"));
        }
        (Some(variable), None) => Some(Secret::Variable(variable)),
        (None, Some(file)) => Some(Secret::File(file.into())),
        (None, None) => None,
    };
    let headers = fields.texts_by_name("headers")?;
    let is_secret = |name: &String| {
        let name = name.to_lowercase();
        ["auth", "key", "token", "cookie", "secret"].iter().any(|word| name.contains(word))
    };
    if let Some(name) = headers.keys().find(|name| is_secret(name)) {
        let why = format!(
            "the header `{name}` looks like a secret: put its value into a variable and name that under headers-env"
        );
        return Err(fields.wrong("headers", &why));
    }
    let parameters = match fields.table.get("parameters").map(Spanned::get_ref) {
        None => Map::new(),
        Some(DeValue::Table(table)) => table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())))
            .collect(),
        Some(_) => {
            return Err(fields
                .wrong("parameters", "parameters are a table: parameters = { temperature = 0 }"));
        }
    };
    let history = (fields.number("history-messages")?, fields.number("history-bytes")?);
    let base_url = fields.text("base-url")?;
    if base_url.is_none() && api.default_base_url().is_none() {
        return Err(fields.missing("base-url"));
    }
    Ok(Model {
        api,
        base_url,
        name: fields.text("model")?.ok_or_else(|| fields.missing("model"))?,
        models: fields.texts("models")?,
        key,
        system: fields.text("system")?,
        parameters,
        headers: headers.into_iter().collect(),
        headers_env: fields.texts_by_name("headers-env")?.into_iter().collect(),
        proxy: fields.text("proxy")?,
        ca_file: fields.text("ca-file")?.map(PathBuf::from),
        history: (history != (None, None)).then(|| {
            let all = Model::HISTORY;
            (history.0.unwrap_or(all.0), history.1.unwrap_or(all.1))
        }),
        retry: match (fields.number("retries")?, fields.duration("retry-within")?) {
            (None, None) => None,
            (times, within) => {
                let times = u32::try_from(times.unwrap_or(2));
                let times = times.map_err(|_| {
                    fields.wrong("retries", "that is more often than anybody waits for")
                })?;
                Some((times, within.unwrap_or(Duration::from_secs(30))))
            }
        },
        loading: fields.duration("loading-timeout")?,
        connect: fields.duration("connect-timeout")?,
        answer: fields.duration("answer-timeout")?,
        idle: fields.duration("idle-timeout")?,
    })
}

fn program(fields: &Fields<'_>) -> Result<Program, Wrong> {
    let words = match fields.table.get("command").map(Spanned::get_ref) {
        // One text is split as a shell would, as on the command line.
        Some(DeValue::String(line)) => {
            super::split(line).ok_or_else(|| fields.wrong("command", "a quote is not closed"))?
        }
        _ => fields.texts("command")?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(fields.missing("command"));
    }
    let format = match fields.text("format")? {
        None => Format::default(),
        Some(word) => Format::of(&word).ok_or_else(|| {
            fields
                .wrong("format", "a format is events, text, claude, codex, gemini, opencode or acp")
        })?,
    };
    let permission = match fields.text("permission")? {
        None => None,
        Some(word) => Some(Permission::of(&word).ok_or_else(|| {
            fields.wrong(
                "permission",
                "a permission is allow-once, allow-always, reject-once or reject-always",
            )
        })?),
    };
    if permission.is_some() && format != Format::Acp {
        return Err(fields.wrong("permission", "only agents of the format acp ask for permissions"));
    }
    let input = fields.boolean("input")?.unwrap_or_default();
    if input && format != Format::Events {
        return Err(
            fields.wrong("input", "only programs of the format events read answers and input")
        );
    }
    let env = fields.texts("env")?;
    if env.iter().any(|name| name.contains('=') || name.is_empty()) {
        return Err(fields.wrong(
            "env",
            "env is a list of names of variables: their values come from turnkit's own environment",
        ));
    }
    Ok(Program {
        words: words.into_iter().map(Into::into).collect(),
        format,
        env,
        dir: fields.text("dir")?.map(PathBuf::from),
        permission,
        input,
        grace: fields.duration("grace")?,
        max_event: fields.number("max-event")?,
    })
}

/// The members of one entry.
struct Fields<'a> {
    table: &'a DeTable<'a>,
    at: Range<usize>,
}

impl Fields<'_> {
    fn wrong(&self, name: &str, why: &str) -> Wrong {
        let at = self.table.get(name).map_or_else(|| self.at.clone(), Spanned::span);
        Wrong { at, why: format!("`{name}`: {why}") }
    }

    fn missing(&self, name: &str) -> Wrong {
        let why = match name {
            "name" => "an agent needs a name: name = \"coder\"",
            "kind" => {
                "an agent needs a kind: kind = \"command\", \"openai\", \"anthropic\" or \"demo\""
            }
            "base-url" => {
                "a model needs the base URL of its API: base-url = \"http://127.0.0.1:8080/v1\""
            }
            "model" => "a model needs its name: model = \"qwen3\"",
            _ => "a command needs its program: command = [\"python3\", \"agent.py\"]",
        };
        Wrong { at: self.at.clone(), why: why.to_owned() }
    }

    /// Refuses what no agent of this kind has.
    fn check(&self, kind: &str, known: &[&str]) -> Result<(), Wrong> {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if COMMON.contains(&name) || known.contains(&name) {
                continue;
            }
            let why = if ["key", "api-key", "apikey", "token", "password", "secret"].contains(&name)
            {
                format!(
                    "`{name}`: no secret stands in this file: put it into a variable and name that by key-env, or into a file by key-file"
                )
            } else if let Some((other, _)) =
                [("demo", DEMO), ("openai", MODEL), ("command", PROGRAM)]
                    .into_iter()
                    .find(|(_, names)| names.contains(&name))
            {
                format!(
                    "`{name}` is for agents of the kind {other}, and this one is of the kind {kind}"
                )
            } else {
                let all = COMMON.iter().chain(known);
                let close = all.map(|known| (strsim::jaro_winkler(name, known), known));
                let best = close
                    .max_by(|one, other| one.0.total_cmp(&other.0))
                    .filter(|(how, _)| *how > 0.8);
                match best {
                    Some((_, close)) => {
                        format!("an agent has no `{name}`; did you mean `{close}`?")
                    }
                    None => format!(
                        "an agent of the kind {kind} has no `{name}`; it has {}",
                        known.join(", ")
                    ),
                }
            };
            return Err(Wrong { at: key.span(), why });
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Wrong> {
        match self.table.get(name).map(Spanned::get_ref) {
            None => Ok(None),
            Some(DeValue::String(text)) => Ok(Some(text.to_string())),
            Some(_) => Err(self.wrong(name, "it is a text, in quotes")),
        }
    }

    /// A list of texts; one alone is a list too.
    fn texts(&self, name: &str) -> Result<Vec<String>, Wrong> {
        let wrong = || self.wrong(name, "it is a list of texts: [\"a\", \"b\"]");
        match self.table.get(name).map(Spanned::get_ref) {
            None => Ok(Vec::new()),
            Some(DeValue::String(text)) => Ok(vec![text.to_string()]),
            Some(DeValue::Array(list)) => {
                let texts = list.iter().map(|value| match value.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    _ => Err(wrong()),
                });
                texts.collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn texts_by_name(&self, name: &str) -> Result<BTreeMap<String, String>, Wrong> {
        let wrong = || self.wrong(name, "it is a table of texts: { name = \"value\" }");
        match self.table.get(name).map(Spanned::get_ref) {
            None => Ok(BTreeMap::new()),
            Some(DeValue::Table(table)) => {
                let texts = table.iter().map(|(name, value)| match value.get_ref() {
                    DeValue::String(text) => Ok((name.get_ref().to_string(), text.to_string())),
                    _ => Err(wrong()),
                });
                texts.collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, Wrong> {
        match self.table.get(name).map(Spanned::get_ref) {
            None => Ok(None),
            Some(DeValue::Boolean(is)) => Ok(Some(*is)),
            Some(_) => Err(self.wrong(name, "it is true or false")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<usize>, Wrong> {
        match self.table.get(name).map(Spanned::get_ref) {
            None => Ok(None),
            Some(DeValue::Integer(number)) => match number.to_string().parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.wrong(name, "it is a whole number, not below 0")),
            },
            Some(_) => Err(self.wrong(name, "it is a whole number, not below 0")),
        }
    }

    fn duration(&self, name: &str) -> Result<Option<Duration>, Wrong> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let duration = humantime::parse_duration(&text);
        duration.map(Some).map_err(|_| self.wrong(name, "it is a time like \"30s\" or \"2m\""))
    }
}

/// A parameter of a model, as JSON.
fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(is) => (*is).into(),
        DeValue::Integer(number) => {
            number.to_string().parse::<i64>().map_or(Value::Null, Value::from)
        }
        DeValue::Float(number) => {
            number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
        }
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), json(value.get_ref())))
                .collect(),
        ),
    }
}
