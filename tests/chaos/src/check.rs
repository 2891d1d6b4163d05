//! Holds what clients were told against what was saved and against the runs (PROTOCOL 4.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turnkit_client::{Client, Message};

use crate::{
    agent,
    clients::{self, End, History},
    faults::Faults,
};

/// After the last fault everything has so long to come to rest: a lease, a sweep and some waits of clients.
pub(crate) const REST: Duration = Duration::from_secs(120);

/// Runs of the agent.
pub(crate) struct Runs {
    pub(crate) count: usize,
    /// Executions that ran a second time, since Redis had lost a start that nobody had been answered for.
    pub(crate) again: usize,
}

/// Whether the agent ran at most once. Where Redis has lost what it had confirmed, a run of which nobody has seen a word may be followed by another
/// one (PROTOCOL 3.5).
pub(crate) fn runs(
    ran: &[(String, String)],
    histories: &[History],
    faults: &Faults,
    violations: &mut Vec<String>,
) -> Runs {
    let drawn: BTreeSet<&str> =
        histories.iter().flat_map(|history| &history.runs).map(String::as_str).collect();
    let mut runs_of = BTreeMap::<&str, Vec<&str>>::new();
    for (execution, run) in ran {
        runs_of.entry(execution).or_default().push(run);
    }
    let mut again = 0;
    for (execution, runs) in runs_of {
        let before = &runs[..runs.len() - 1];
        if before.is_empty() {
            continue;
        }
        if faults.has_lost_tail && !before.iter().any(|run| drawn.contains(run)) {
            again += 1;
        } else {
            violations.push(format!("the agent ran {} times for {execution}", runs.len()));
        }
    }
    Runs { count: ran.len(), again }
}

/// The answers of all sessions once nothing is open in them, by session and turn.
async fn saved(
    client: &Client,
    sessions: BTreeSet<&str>,
    violations: &mut Vec<String>,
) -> BTreeMap<(String, String), Message> {
    let mut saved = BTreeMap::new();
    for session in sessions {
        let read = async {
            if let Some(open) = clients::at_rest(client, session, REST).await?.turns.first() {
                anyhow::bail!("{} is still open", open.execution_id);
            }
            Ok(client.all_messages(session).await?)
        };
        match read.await {
            Ok(messages) => {
                for message in messages.into_iter().filter(|message| message.role == "assistant") {
                    let name = (session.to_owned(), message.turn_id.clone());
                    if saved.insert(name, message).is_some() {
                        violations.push(format!("a turn of {session} has two answers"));
                    }
                }
            }
            Err(error) => violations.push(format!("the session {session}: {error:#}")),
        }
    }
    saved
}

/// Whether what each client was told is true.
pub(crate) async fn told(
    client: &Client,
    histories: &[History],
    faults: &Faults,
    violations: &mut Vec<String>,
) {
    let sessions = histories.iter().map(|history| history.session.as_str()).collect();
    let saved = saved(client, sessions, violations).await;
    for history in histories {
        let answer = saved.get(&(history.session.clone(), history.turn_id.clone()));
        for broken in broken(history, answer, faults) {
            violations.push(format!("{} of {} {broken}", history.turn_id, history.session));
        }
    }
}

fn broken(history: &History, answer: Option<&Message>, faults: &Faults) -> Vec<String> {
    let mut broken = Vec::new();
    let drawn = &history.drawn;
    if history.runs.len() > 1 {
        broken.push(format!("was drawn from the runs {:?}", history.runs));
    }
    let whole = agent::run_of(drawn).map(agent::answer).unwrap_or_default();
    if !whole.starts_with(drawn) {
        broken.push(format!("was drawn with a gap or twice: {drawn:?}"));
    }
    let complete = answer.filter(|answer| answer.status == "complete");
    if let Some(complete) = complete
        && agent::run_of(&complete.text).map(agent::answer).as_ref() != Some(&complete.text)
    {
        broken.push(format!("is saved as {:?}", complete.text));
    }
    match &history.end {
        End::Completed if complete.is_none() => {
            broken.push(format!("was told complete, and is kept as {answer:?}"));
        }
        End::Completed if complete.is_some_and(|complete| complete.text != *drawn) => {
            broken
                .push(format!("was told complete, drawn as {drawn:?}, and is kept as {answer:?}"));
        }
        End::Failed(code) => {
            if !is_borne_out(code, history, faults) {
                broken.push(format!("was told {code:?}, which nothing bears out"));
            }
            if answer.is_none() || complete.is_some() {
                broken.push(format!("was told {code:?}, and is kept as {answer:?}"));
            }
        }
        // Nothing was said of its end, but there is one.
        End::GivenUp(_) | End::Left if answer.is_none() => broken.push("has no end".to_owned()),
        End::Completed | End::GivenUp(_) | End::Left => {}
        End::Refused(code) => {
            let when = if history.was_alone { ", with nothing before it" } else { "" };
            broken.push(format!("was refused by {code:?}{when}"));
        }
    }
    broken
}

/// Whether a failure has a cause in this world.
fn is_borne_out(code: &str, history: &History, faults: &Faults) -> bool {
    let was = |of: &str| faults.made.keys().any(|fault| fault.starts_with(of));
    match code {
        "cancelled" => history.was_stopped,
        "runner_lost" | "shutting_down" => was("substrate") || was("Redis"),
        "log_failed" => was("Redis") || was("substrate stopped"),
        "execution_lost" | "execution_expired" => faults.has_lost_tail,
        _ => false,
    }
}
