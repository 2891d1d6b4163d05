//! What a database of an older schema is asked before and after a migration: the places of its turns in their branches.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use turnkit_chat::store::{Accepted, EndedBy, HistoryLimits, MessagePage, NewRow};
use turnkit_chat::{Answer, ChatStore, Ending, Failure, Principal, SessionId, Turn, TurnRef};

fn owner() -> Principal {
    Principal::new("tenant", "user")
}

async fn accept(store: &dyn ChatStore, new: NewRow) -> Turn {
    match store.accept(new).await.unwrap() {
        Accepted::New(row) => row.turn,
        other => panic!("it is new: {other:?}"),
    }
}

/// Two sessions with forks, failures, a blank answer and one that came late.
pub(super) async fn converse(store: &dyn ChatStore) -> Vec<Turn> {
    let mut turns = Vec::new();
    for session in ["one", "two"] {
        let session = SessionId::new(session);
        store.open_session(owner(), session.clone()).await.unwrap();
        for (name, replaces, answer) in [
            ("a0", None, Some("zero")),
            ("a1", None, None),
            ("a2", None, Some("\u{1F980} two")),
            ("a3", None, Some(" \n")),
            ("b1", Some("a1"), Some("another one")),
            ("b2", None, None),
            ("c0", Some("a0"), Some("another zero")),
            ("c1", None, Some("last")),
        ] {
            let new = NewRow::new(owner(), TurnRef::new(session.clone(), name), name, "agent");
            let replaces = replaces.map(str::to_owned);
            let turn = accept(store, NewRow { replaces, ..new }).await;
            let id = turn.execution_id.clone();
            if let Some(answer) = answer {
                store.save(id, Answer::new(answer)).await.unwrap();
            } else {
                let failure = Failure { code: None, message: "why".to_owned() };
                store.end(EndedBy::Log(id), Ending::failed(failure, "part")).await.unwrap();
            }
            turns.push(turn);
        }
        let late = turns[turns.len() - 7].execution_id.clone();
        store.save(late, Answer::new("one, late")).await.unwrap();
    }
    turns
}

/// Every page and every history of these turns, and a history of one more.
pub(super) async fn told(store: &dyn ChatStore, turns: &[Turn]) -> Vec<String> {
    let mut told = Vec::new();
    for turn in turns {
        for limit in [0, 1, 9] {
            let limits = HistoryLimits { turns: limit, ..HistoryLimits::default() };
            let history = store.history(turn.clone(), limits).await.unwrap();
            told.push(format!("{} within {limit}: {history:?}", turn.execution_id));
        }
        for before in [None, Some(2), Some(5), Some(7)] {
            let page = MessagePage { branch: Some(turn.index), before, turns: 2 };
            let session = store.session(owner(), turn.session_id.clone(), page).await.unwrap();
            let messages = session.unwrap().messages;
            let names: Vec<_> = messages.iter().map(|message| &*message.turn_id).collect();
            told.push(format!("{} before {before:?}: {names:?}", turn.execution_id));
        }
    }
    told
}

/// What is left out of the history of a turn that goes on from `b2`.
pub(super) async fn left_out_of_one_more(store: &dyn ChatStore) -> u64 {
    let new = NewRow::new(owner(), TurnRef::new(SessionId::new("one"), "b3"), "more", "agent");
    let turn = accept(store, NewRow { after: Some("b2".to_owned()), ..new }).await;
    let limits = HistoryLimits { turns: 0, ..HistoryLimits::default() };
    store.history(turn, limits).await.unwrap().omitted.turns
}
