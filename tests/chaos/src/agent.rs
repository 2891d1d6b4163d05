//! The agent: it writes down that it runs, and says words that tell which run they are of.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// How many words an answer has, and how long each takes.
pub(crate) const WORDS: u32 = 20;
const PACE: Duration = Duration::from_millis(120);

/// Answers the request on standard input. The file `runs` gets a line of the execution and a name that this run alone has.
pub(crate) fn run(runs: &Path) -> Result<()> {
    let mut request = String::new();
    io::stdin().read_line(&mut request)?;
    let request: Value = serde_json::from_str(&request)?;
    let execution = request["executionId"].as_str().context("a request of an execution")?;
    let run = format!("{:08x}", fastrand::u32(..));
    // One write: lines of runs that begin together do not mix.
    let line = format!("{execution} {run}\n");
    File::options().append(true).open(runs)?.write_all(line.as_bytes())?;
    let mut told = io::stdout();
    for number in 0..WORDS {
        let delta = word(number, &run);
        let part = json!({"part": {"id": "p", "type": "text"}, "delta": delta});
        writeln!(told, "{}", json!({"type": "message.part.updated", "data": part}))?;
        told.flush()?;
        sleep(PACE);
    }
    writeln!(told, "{}", json!({"type": "result", "data": {"finishReason": "stop"}}))?;
    Ok(())
}

fn word(number: u32, run: &str) -> String {
    format!("w{number}.{run} ")
}

/// The whole answer of a run.
pub(crate) fn answer(run: &str) -> String {
    (0..WORDS).map(|number| word(number, run)).collect()
}

/// The run that a text's first word is of.
pub(crate) fn run_of(text: &str) -> Option<&str> {
    Some(text.split_once(' ')?.0.split_once('.')?.1)
}
