//! The configuration file: options of the command line by their long names, in TOML.
//!
//! What it says becomes the options' defaults, so that the command line and the environment go before it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::builder::OsStr as Text;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use toml::de::{DeTable, DeValue};

use super::agents::{self, Entry};

/// The variable that names the file, beside `--config`.
pub(super) const VARIABLE: &str = "TURNKIT_CONFIG";
const MAX_FILE: u64 = 1024 * 1024;
/// What the options of all commands are kept under.
const ALL: &str = "";
/// The commands whose options stand at the top of the file; others have tables of their own.
const TOP: [&str; 3] = [ALL, "serve", "substrate"];

/// A file, read and checked.
pub(super) struct Config {
    path: PathBuf,
    text: String,
    /// By command and long name.
    settings: BTreeMap<(String, String), Setting>,
    agents: Vec<(Entry, Place)>,
}

/// A place in a configuration file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    path: PathBuf,
    line: usize,
    column: usize,
}

#[derive(Clone)]
struct Setting {
    values: Vec<String>,
    at: Range<usize>,
}

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("read {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("read {}: it is over {MAX_FILE} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("read {}: line {line}, column {column}: {why}", .path.display())]
    At { path: PathBuf, line: usize, column: usize, why: String },
}

/// The file that the command line or the environment names.
pub(super) fn path(arguments: &[OsString]) -> Option<PathBuf> {
    let before_the_end = arguments.iter().take_while(|argument| *argument != "--");
    let mut words = before_the_end.map(OsString::as_os_str);
    while let Some(word) = words.next() {
        if word == "--config" {
            return words.next().map(PathBuf::from);
        }
        if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--config=")) {
            return Some(path.into());
        }
    }
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

impl Config {
    pub(super) fn load(path: &Path, cli: &Command) -> Result<Config, ConfigError> {
        let unreadable = |error| ConfigError::File(path.to_owned(), error);
        let mut text = String::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ConfigError::TooLong(path.to_owned()));
        }
        Config::parse(path, text, cli)
    }

    fn parse(path: &Path, text: String, cli: &Command) -> Result<Config, ConfigError> {
        let read = settings(&text, cli);
        let (settings, agents) = read.map_err(|wrong| wrong.into_error(path, &text))?;
        let agents =
            agents.into_iter().map(|(entry, at)| (entry, Place::of(at.start, path, &text)));
        let agents = agents.collect();
        Ok(Config { path: path.to_owned(), text, settings, agents })
    }

    /// The agents that it describes, and where.
    pub(super) fn take_agents(&mut self) -> Vec<(Entry, Place)> {
        std::mem::take(&mut self.agents)
    }

    /// What the file says of an option of this command, and where.
    pub(super) fn said(&self, command: &str, name: &str) -> Option<(&[String], Place)> {
        let setting = self.setting(command, name).or_else(|| self.setting(ALL, name))?;
        Some((&setting.values, Place::of(setting.at.start, &self.path, &self.text)))
    }

    /// The names of the agents that it describes.
    fn agent_names(&self) -> Vec<&str> {
        self.agents.iter().map(|(entry, _)| entry.name.as_str()).collect()
    }

    /// The command line with the file's values as defaults.
    pub(super) fn apply(&self, cli: Command) -> Command {
        let names: Vec<_> = commands(&cli).map(str::to_owned).collect();
        let cli = defaults(cli, |name| self.setting(ALL, name));
        names.into_iter().fold(cli, |cli, command| {
            cli.mut_subcommand(&command, |subcommand| {
                defaults(subcommand, |name| self.setting(&command, name))
            })
        })
    }

    /// Whether the file sets this option of this command.
    pub(super) fn has(&self, command: &str, name: &str) -> bool {
        self.setting(command, name).or_else(|| self.setting(ALL, name)).is_some()
    }

    /// Where in the file the value stands that the parser of the command line has refused, if it came from there.
    pub(super) fn blame(&self, command: &str, refused: &clap::Error) -> Option<ConfigError> {
        let Some(ContextValue::String(option)) = refused.get(ContextKind::InvalidArg) else {
            return None;
        };
        let name = option.strip_prefix("--")?.split([' ', '=']).next()?;
        let setting = self.setting(command, name).or_else(|| self.setting(ALL, name))?;
        let at = setting.at.clone();
        let why =
            format!("`{name}` is not what the option --{name} takes, see turnkit {command} --help");
        Some(Wrong { at, why }.into_error(&self.path, &self.text))
    }

    fn setting(&self, command: &str, name: &str) -> Option<&Setting> {
        self.settings.get(&(command.to_owned(), name.to_owned()))
    }
}

/// What is wrong in a file, and where.
struct Wrong {
    at: Range<usize>,
    why: String,
}

impl Wrong {
    fn into_error(self, path: &Path, text: &str) -> ConfigError {
        ConfigError::at(&Place::of(self.at.start, path, text), self.why)
    }
}

impl From<agents::Wrong> for Wrong {
    fn from(wrong: agents::Wrong) -> Wrong {
        Wrong { at: wrong.at, why: wrong.why }
    }
}

impl Place {
    /// The place of a byte.
    fn of(at: usize, path: &Path, text: &str) -> Place {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl ConfigError {
    pub(super) fn at(place: &Place, why: String) -> ConfigError {
        let Place { path, line, column } = place.clone();
        ConfigError::At { path, line, column, why }
    }
}

type Settings = BTreeMap<(String, String), Setting>;

/// What a file says: options, and agents with the places of their tables.
type Said = (Settings, Vec<(Entry, Range<usize>)>);

fn settings(text: &str, cli: &Command) -> Result<Said, Wrong> {
    let file = DeTable::parse(text).map_err(|error| Wrong {
        at: error.span().unwrap_or_default(),
        why: error.message().to_owned(),
    })?;
    let (mut settings, mut own) = (Settings::new(), Settings::new());
    let mut entries = Vec::new();
    for (key, value) in file.get_ref() {
        let name = key.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(table) if commands(cli).any(|command| command == name) => {
                own.extend(of_table(table, name, cli)?);
            }
            DeValue::Array(list)
                if name == "agent"
                    && list.iter().any(|item| matches!(item.get_ref(), DeValue::Table(_))) =>
            {
                entries = agents::entries(list)?;
            }
            value => {
                let setting = setting(value, key.span())?;
                let mut takers =
                    TOP.into_iter().filter(|command| takes(cli, command, name)).peekable();
                if takers.peek().is_none() {
                    return Err(unknown(name, key.span(), cli, &TOP));
                }
                for command in takers {
                    settings.insert((command.to_owned(), name.to_owned()), setting.clone());
                }
            }
        }
    }
    // A command's own table goes before the top of the file, wherever it stands.
    settings.extend(own);
    Ok((settings, entries))
}

fn of_table(table: &DeTable<'_>, command: &str, cli: &Command) -> Result<Settings, Wrong> {
    let entries = table.iter().map(|(key, value)| {
        let name = key.get_ref().as_ref();
        if !takes(cli, command, name) {
            return Err(unknown(name, key.span(), cli, &[command]));
        }
        let setting = setting(value.get_ref(), key.span())?;
        Ok(((command.to_owned(), name.to_owned()), setting))
    });
    entries.collect()
}

fn setting(value: &DeValue<'_>, at: Range<usize>) -> Result<Setting, Wrong> {
    let values = match value {
        DeValue::Array(list) => list.iter().map(|value| plain(value.get_ref())).collect(),
        value => plain(value).map(|value| vec![value]),
    };
    match values {
        Some(values) => Ok(Setting { values, at }),
        None => Err(Wrong {
            at,
            why: "a value is a text, a number, true or false, or a list of such".to_owned(),
        }),
    }
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(is) => Some(is.to_string()),
        _ => None,
    }
}

fn unknown(name: &str, at: Range<usize>, cli: &Command, commands: &[&str]) -> Wrong {
    let mut why = format!("there is no option `{name}`");
    let elsewhere = self::commands(cli).find(|command| takes(cli, command, name));
    let known = commands.iter().flat_map(|command| options(cli, command));
    let close = known.map(|(_, known)| (strsim::jaro_winkler(name, &known), known));
    let best = close.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(how, _)| *how > 0.8);
    if let Some(command) = elsewhere {
        why = format!("`{name}` is an option of {command}: put it under [{command}]");
    } else if let Some((_, close)) = best {
        why = format!("{why}; did you mean `{close}`?");
    }
    Wrong { at, why }
}

fn commands(cli: &Command) -> impl Iterator<Item = &str> {
    cli.get_subcommands().map(Command::get_name).filter(|name| *name != "help")
}

fn takes(cli: &Command, command: &str, name: &str) -> bool {
    options(cli, command).any(|(_, known)| known == name)
}

/// The options that a file may set, each with its id and its long name.
fn options<'a>(cli: &'a Command, command: &str) -> impl Iterator<Item = (String, String)> + 'a {
    let command = if command == ALL { Some(cli) } else { cli.find_subcommand(command) };
    let options = command.into_iter().flat_map(Command::get_arguments);
    options.filter(|option| is_setting(option)).filter_map(id_and_name)
}

/// Not what asks for something else than the command's work.
fn is_setting(option: &Arg) -> bool {
    !matches!(option.get_id().as_str(), "help" | "version" | "config" | "print_config" | "check")
}

fn id_and_name(option: &Arg) -> Option<(String, String)> {
    Some((option.get_id().to_string(), option.get_long()?.to_owned()))
}

fn defaults<'a>(command: Command, setting: impl Fn(&str) -> Option<&'a Setting>) -> Command {
    let options: Vec<_> = command
        .get_arguments()
        .filter(|option| is_setting(option))
        .filter_map(id_and_name)
        .collect();
    options.into_iter().fold(command, |command, (id, name)| match setting(&name) {
        Some(Setting { values, .. }) => {
            let values: Vec<Text> = values.iter().map(|value| Text::from(value.clone())).collect();
            command.mut_arg(id, |option| {
                let is_hidden = option.is_hide_env_values_set();
                option.default_values(values).hide_default_value(is_hidden)
            })
        }
        None => command,
    })
}

/// What holds for this command, as a configuration file would say it.
pub(super) fn print(
    command: &Command,
    matches: &ArgMatches,
    config: Option<&Config>,
) -> impl Iterator<Item = String> {
    let name = command.get_name();
    let options = command.get_arguments().filter(|option| is_setting(option));
    let lines = options.filter_map(move |option| {
        let (id, long) = id_and_name(option)?;
        let is_in_file = config.is_some_and(|config| config.has(name, &long));
        let source = source(matches.value_source(&id), is_in_file);
        let values: Vec<&OsStr> = matches.get_raw(&id).into_iter().flatten().collect();
        Some(line(option, &long, &values, source))
    });
    let agents = config.map(Config::agent_names).filter(|names| !names.is_empty());
    let agents = agents.map(|names| format!("# [[agent]] describes {}  # file", names.join(", ")));
    iter::once(format!("# turnkit {name}")).chain(lines).chain(agents)
}

fn source(source: Option<ValueSource>, is_in_file: bool) -> &'static str {
    match source {
        Some(ValueSource::CommandLine) => "command line",
        Some(ValueSource::EnvVariable) => "environment",
        _ if is_in_file => "file",
        _ => "default",
    }
}

/// What is hidden may be a secret, unless it is the option's own default.
fn line(option: &Arg, name: &str, values: &[&OsStr], source: &str) -> String {
    if values.is_empty() {
        return format!("# {name} is not set");
    }
    if option.is_hide_env_values_set() && option.get_default_values() != values {
        return format!("# {name} is set, and not shown  # {source}");
    }
    format!("{name} = {}  # {source}", shown(option, values))
}

fn shown(option: &Arg, values: &[&OsStr]) -> String {
    let text = |value: &OsStr| serde_json::Value::from(value.to_string_lossy()).to_string();
    match values {
        [value] if !option.get_action().takes_values() => value.to_string_lossy().into_owned(),
        [value] => text(value),
        values => {
            format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests;
