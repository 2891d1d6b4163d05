//! The command line before it is read: `--command PROGRAM ARGS…` holds words that look like options.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};

use clap::Command;

const COMMAND: &str = "--command";

/// Writes each word of `--command PROGRAM ARGS…` as `--command=WORD`. Its words end where a long option of turnkit begins.
pub(super) fn spread(
    arguments: impl IntoIterator<Item = OsString>,
    cli: &Command,
) -> Vec<OsString> {
    let mut spread: Vec<OsString> = Vec::new();
    let (mut own, mut state) = (None, State::Outside);
    for argument in arguments {
        if own.is_none() {
            own = options(cli, &argument);
        }
        let is_own = own.as_ref().is_some_and(|own| own.contains(name(&argument)));
        let next = match state {
            _ if is_own && argument == COMMAND => State::Begun,
            State::Begun | State::Words if !is_own => State::Words,
            _ => State::Outside,
        };
        if state == State::Begun && next != State::Words {
            spread.push(COMMAND.into());
        }
        match next {
            State::Begun => {}
            State::Words => spread.push(word(&argument)),
            State::Outside => spread.push(argument),
        }
        state = next;
    }
    spread.extend((state == State::Begun).then(|| COMMAND.into()));
    spread
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    /// The next one is the program.
    Begun,
    Words,
}

/// The long options of the subcommand that `argument` names, if it takes `--command`.
fn options(cli: &Command, argument: &OsStr) -> Option<HashSet<OsString>> {
    let subcommand = cli.find_subcommand(argument)?;
    let long = subcommand
        .get_arguments()
        .chain(cli.get_arguments())
        .filter_map(|option| option.get_long());
    Some(long.chain(["help"]).map(|long| format!("--{long}").into()).collect())
}

/// `--name` of `--name=value`.
fn name(argument: &OsStr) -> &OsStr {
    let text = argument.to_str().unwrap_or_default();
    text.split_once('=').map_or(argument, |(name, _)| OsStr::new(name))
}

fn word(argument: &OsStr) -> OsString {
    let mut word = OsString::from("--command=");
    word.push(argument);
    word
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn spread(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from);
        let spread = super::spread(arguments, &super::super::Cli::command());
        spread.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn a_program_has_all_words_up_to_the_next_option() {
        assert_eq!(
            spread("turnkit serve --command sh -c x --flag --listen 127.0.0.1:0"),
            "turnkit serve --command=sh --command=-c --command=x --command=--flag --listen 127.0.0.1:0"
        );
        assert_eq!(
            spread("turnkit --log-level debug substrate --command a -- b --agent=demo --command c"),
            "turnkit --log-level debug substrate --command=a --command=-- --command=b --agent=demo --command=c"
        );
        assert_eq!(spread("turnkit serve --command a --help"), "turnkit serve --command=a --help");
        assert_eq!(spread("turnkit serve --command"), "turnkit serve --command");
        let empty = "turnkit serve --command --listen 127.0.0.1:0";
        assert_eq!(spread(empty), empty);
        assert_eq!(spread("turnkit serve --command=a b"), "turnkit serve --command=a b");
    }

    #[test]
    fn what_is_no_program_stays_as_it_is() {
        for line in
            ["turnkit chat --command hello -x", "turnkit chat -- serve --command a", "turnkit"]
        {
            assert_eq!(spread(line), line);
        }
    }
}
