use clap::CommandFactory as _;

use super::*;
use crate::cli::Cli;

fn config(text: &str) -> Result<Config, String> {
    let parsed = Config::parse(Path::new("c.toml"), text.to_owned(), &Cli::command());
    parsed.map_err(|error| error.to_string())
}

fn wrong(text: &str) -> String {
    config(text).err().expect("it is wrong").replace("read c.toml: ", "")
}

/// The raw values of an option, as a command line with this file has them.
fn values(text: &str, line: &str, id: &str) -> Vec<String> {
    let cli = config(text).unwrap().apply(Cli::command());
    let matches = cli.try_get_matches_from(line.split(' ')).unwrap();
    let (_, matches) = matches.subcommand().unwrap();
    let values = matches.get_raw(id).into_iter().flatten();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[test]
fn what_the_file_says_holds_where_the_command_line_says_nothing() {
    let file = "listen = '127.0.0.1:1'\nagent = ['demo', 'command']\ncommand = ['sh', '-c', 'x y']";
    assert_eq!(values(file, "turnkit serve", "listen"), ["127.0.0.1:1"]);
    assert_eq!(values(file, "turnkit serve --listen 127.0.0.1:2", "listen"), ["127.0.0.1:2"]);
    assert_eq!(values(file, "turnkit substrate", "agent"), ["demo", "command"]);
    assert_eq!(values(file, "turnkit serve", "command"), ["sh", "-c", "x y"]);
    assert_eq!(values(file, "turnkit serve --command a", "command"), ["a"]);
    assert_eq!(values("log-level = 'debug'", "turnkit chat hello", "log_level"), ["debug"]);
}

#[test]
fn a_commands_own_table_goes_before_the_top() {
    let file = "[substrate]\nlisten = '127.0.0.1:2'\n[chat]\njson = true\nserver = 'http://h'";
    let file = format!("listen = '127.0.0.1:1'\n{file}");
    assert_eq!(values(&file, "turnkit serve", "listen"), ["127.0.0.1:1"]);
    assert_eq!(values(&file, "turnkit substrate", "listen"), ["127.0.0.1:2"]);
    assert_eq!(values(&file, "turnkit chat hello", "json"), ["true"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_what_was_meant() {
    assert_eq!(
        wrong("\n  listne = 1"),
        "line 2, column 3: there is no option `listne`; did you mean `listen`?"
    );
    assert_eq!(wrong("[serve]\nxyz = 1"), "line 2, column 1: there is no option `xyz`");
    assert_eq!(
        wrong("server = 'x'"),
        "line 1, column 1: `server` is an option of chat: put it under [chat]"
    );
    for key in ["config", "help", "print-config", "MESSAGE"] {
        assert!(wrong(&format!("{key} = 'x'")).contains("there is no option"), "{key}");
    }
    assert!(wrong("[nonsense]\na = 1").starts_with("line 1, column 2: "));
    assert!(wrong("listen = { a = 1 }").contains("a value is a text"));
    assert!(wrong("listen = 'a").starts_with("line 1, column "));
}

#[test]
fn a_value_that_an_option_does_not_take_is_found_in_the_file() {
    let config = config("agent = 'demo'\nlisten = 'nowhere'").unwrap();
    let refused =
        config.apply(Cli::command()).try_get_matches_from(["turnkit", "serve"]).unwrap_err();
    let blamed = config.blame("serve", &refused).unwrap().to_string();
    assert!(blamed.starts_with("read c.toml: line 2, column 1: `listen` is not what"), "{blamed}");
}

#[test]
fn the_guide_names_every_option_with_its_variable() {
    let guide = include_str!("../../../../../docs/guide/configure.md");
    let cli = Cli::command();
    let all = cli.get_subcommands().chain([&cli]).flat_map(Command::get_arguments);
    for option in all.filter(|option| !matches!(option.get_id().as_str(), "help" | "version")) {
        let Some(name) = option.get_long() else {
            continue;
        };
        let variable =
            option.get_env().and_then(OsStr::to_str).expect("every option has a variable");
        assert!(variable.starts_with("TURNKIT_"), "{variable}");
        assert!(guide.contains(&format!("| `--{name}` | `{variable}` |")), "--{name} {variable}");
    }
}
