//! The rules about what a user sees: sessions, messages, history; and about sign-ins.

use std::time::Duration;

use turnkit_chat::store::{
    Accepted, Digest, EndedBy, Find, Found, HistoryLimits, MessagePage, SessionPage,
};
use turnkit_chat::{
    Answer, ChatStore, Message, Principal, Role, Said, SessionId, SessionInfo, StoreErrorKind,
    Turn, TurnRef, TurnState,
};

use super::StoreFixture;
use super::bench::{Bench, Rule, asked, ending, owner, session_id, told};

/// Text that a careless store changes.
const TRICKY: &str = "a\0b'\"; DROP TABLE turns; -- \u{1F980}\r\n\\u0000 %s ${1}\u{FFFD}\u{feff} ";

/// What belongs to another user, or to a user of that name in another tenant, does not exist: not in a list, not by its id, not for a new
/// turn. The id of a session belongs to who has opened it.
///
/// Broken by a store that forgets a part of the principal in a condition.
///
/// # Panics
/// Where the rule is broken, as every function of this module does.
pub async fn what_is_anothers_does_not_exist<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"Another user's session is a 404\"; `ChatStore`: a principal is part of each call that a user makes";
    let rule = Rule { name: "what_is_anothers_does_not_exist", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let turn = bench.turn(0).await;
    let session = &turn.session_id;
    let look_for = "the principal in the condition: tenant and user, both of them";
    for other in [
        Principal::new("tenant", "other"),
        Principal::new("other", "user"),
        Principal::new("other", "other"),
        Principal::new("user", "tenant"),
    ] {
        let at = format!("for {other:?}");
        let page = SessionPage { before: None, limit: 9 };
        let listed = rule.ask("sessions", || store.sessions(other.clone(), page.clone())).await;
        rule.same(&at, &listed, &vec![], look_for);
        let page = SessionPage { before: Some(session.clone()), limit: 9 };
        let listed = rule.ask("sessions", || store.sessions(other.clone(), page.clone())).await;
        rule.same(&at, &listed, &vec![], look_for);
        let page = MessagePage::newest(9);
        let ask = || store.session(other.clone(), session.clone(), page);
        let state = rule.ask("session", ask).await;
        rule.same(&at, &state, &None, look_for);
        for turn_id in [&*turn.turn_id, "next"] {
            let at_turn = TurnRef::new(session.clone(), turn_id);
            let find = || store.find(Find::Named(other.clone(), at_turn.clone()));
            rule.same(&at, &rule.ask("find", find).await, &Found::NoSession, look_for);
            let mut new = asked(session, turn_id, "hello");
            new.owner = other.clone();
            let accepted = rule.ask("accept", || store.accept(new.clone())).await;
            rule.same(&at, &accepted, &Accepted::NoSession, look_for);
        }
        let free = bench.session(1).await;
        for taken in [session, &free] {
            let open = || store.open_session(other.clone(), taken.clone());
            let opened = rule.try_ask("open_session", open).await;
            match opened {
                Err(error) if error.kind() == StoreErrorKind::Broken => {}
                came => {
                    let came = came.map_or_else(|error| told(&error), |()| "a session".to_owned());
                    let look_for = "a session's id that is given out twice: the second one would see the first one's messages";
                    rule.broken(&at, "an error of the kind `Broken`", came, look_for)
                }
            }
        }
    }
    let find = || store.find(Find::Named(owner(), TurnRef::new(session.clone(), "no such")));
    rule.same(
        "of a turn that is not there",
        &rule.ask("find", find).await,
        &Found::NoTurn,
        "a session that is there, and its turn is not",
    );
    let find = || store.find(Find::Named(owner(), TurnRef::new(session_id(77), "turn")));
    rule.same(
        "of a session that is not there",
        &rule.ask("find", find).await,
        &Found::NoSession,
        "a turn that is not there, and its session neither",
    );
    let row = bench.row(&turn.execution_id).await;
    rule.same("after all that", &row.turn, &turn, look_for);
}

/// An owner's sessions are listed in pages, the newest first, each once, with the beginning of the first message as its title. A session is
/// opened once, however often it is asked for.
///
/// Broken by a store that sorts by a clock, which two sessions share.
pub async fn sessions_are_listed_the_newest_first<F: StoreFixture>(fixture: F) {
    let place =
        "PROTOCOL 4.2, `GET /api/sessions`; `ChatStore::sessions`, `SessionPage`, `SessionInfo`";
    let rule = Rule { name: "sessions_are_listed_the_newest_first", place };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    // Ids that do not grow with time.
    let numbers = [5, 3, 8, 1, 9, 2, 7];
    for number in numbers {
        bench.session(number).await;
        bench.session(number).await;
        let foreign = Principal::new("tenant", "other");
        let open = || other.open_session(foreign.clone(), session_id(100 + number));
        rule.ask("open_session", open).await;
    }
    let newest: Vec<SessionId> = numbers.iter().rev().map(|number| session_id(*number)).collect();
    for limit in [1, 2, 3, 7, 50] {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = SessionPage { before: before.clone(), limit };
            let listed: Vec<SessionInfo> =
                rule.ask("sessions", || other.sessions(owner(), page.clone())).await;
            let Some(last) = listed.last() else { break };
            before = Some(last.id.clone());
            all.extend(listed.into_iter().map(|info| info.id));
            if all.len() > numbers.len() {
                break;
            }
        }
        let look_for =
            "an order that is not that of opening, or a page that begins in the wrong place";
        rule.same_list(format_args!("in pages of {limit}"), &all, &newest, look_for);
    }
    let page = SessionPage { before: Some(session_id(77)), limit: 9 };
    let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let look_for = "a page before a session that is not there: it is empty";
    rule.same("before a session that is not there", &listed, &vec![], look_for);

    let first = "\u{1F980}".repeat(100);
    let turn = bench.accept_message(&session_id(5), "one", &first).await;
    rule.ask("save", || store.save(turn.execution_id.clone(), Answer::new("hi"))).await;
    bench.accept_message(&session_id(5), "two", "the second").await;
    let page = SessionPage { before: Some(session_id(3)), limit: 9 };
    let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let titles: Vec<_> = listed.into_iter().map(|info| info.title).collect();
    let look_for = "the title: the first 80 characters of the first message, and not bytes";
    rule.same(
        "of a session with two turns",
        &titles,
        &vec![Some("\u{1F980}".repeat(80))],
        look_for,
    );
    let page = SessionPage { before: Some(session_id(8)), limit: 1 };
    let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let titles: Vec<_> = listed.into_iter().map(|info| info.title).collect();
    rule.same("of a session without a turn", &titles, &vec![None], "a title without a message");
}

/// A session is shown as of one moment: its messages the oldest first, of whole turns, byte for byte, each with what became of it; and its open
/// turn.
///
/// Broken by a store whose page cuts a turn in two, or that changes text.
pub async fn a_session_is_shown_as_whole_turns<F: StoreFixture>(fixture: F) {
    let place =
        "PROTOCOL 4.2, `GET /api/sessions/{s}/messages`; `ChatStore::session`, `MessagePage`";
    let rule = Rule { name: "a_session_is_shown_as_whole_turns", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let session = bench.session(0).await;
    let mut wanted: Vec<(Turn, Role, String, TurnState)> = Vec::new();
    for index in 0..7 {
        let message = format!("{index} {TRICKY}");
        let turn = bench.accept_message(&session, &format!("turn-{index}"), &message).await;
        wanted.push((turn.clone(), Role::User, message, TurnState::Complete));
        let answer = format!("{TRICKY} {index}");
        let id = &turn.execution_id;
        if index % 3 == 2 {
            let mut ending = ending("told", &answer);
            ending.stopped = index == 5;
            let by = EndedBy::Log(id.clone());
            rule.ask("end", || store.end(by.clone(), ending.clone())).await;
            wanted.push((turn, Role::Assistant, answer, ending.state()));
        } else if index < 6 {
            rule.ask("save", || store.save(id.clone(), Answer::new(&answer))).await;
            wanted.push((turn, Role::Assistant, answer, TurnState::Complete));
        }
    }
    let key = |message: &Message| {
        let Message { turn_index, turn_id, execution_id, role, text, state, .. } = message.clone();
        (turn_index, turn_id, execution_id, role, text, state)
    };
    for (before, turns) in
        [(None, 50), (None, 1), (None, 3), (Some(6), 2), (Some(3), 9), (Some(0), 9), (None, 0)]
    {
        let page = MessagePage { branch: None, before, turns };
        let state = bench.state_of(&session, page).await;
        let at = format!("of {page:?} in a session of 7 turns");
        let end = before.unwrap_or(7);
        let begin = end.saturating_sub(u64::from(turns));
        let of_page = wanted.iter().filter(|(turn, ..)| (begin..end).contains(&turn.index));
        let of_page: Vec<_> = of_page
            .map(|(turn, role, text, state)| {
                let Turn { index, turn_id, execution_id, .. } = turn.clone();
                (index, turn_id, execution_id, *role, text.clone(), *state)
            })
            .collect();
        let came: Vec<_> = state.messages.iter().map(key).collect();
        let look_for = "a page that cuts a turn in two, an order that is not that of the turns, or text that was changed";
        rule.same_list(&at, &came, &of_page, look_for);
        let open = state.open.map(|row| (row.turn.index, row.state));
        rule.same(
            &at,
            &open,
            &Some((6, TurnState::Open)),
            "the open turn: it is told with every page",
        );
        for message in &state.messages {
            let is_whole = message.state == TurnState::Complete;
            let look_for = "why an answer is not whole: it is told with that answer, and with no other message";
            rule.same(&at, &message.failure.is_none(), &is_whole, look_for);
        }
    }
    let first = rule.ask("saved", || store.saved(wanted[0].0.execution_id.clone())).await;
    rule.same(
        "of an answer that was saved",
        &first,
        &Some(Answer::new(format!("{TRICKY} 0"))),
        "text that was changed",
    );
}

/// What was said before a turn is whole turns with an answer that is not blank, the oldest first, the newest that keep to the limits.
///
/// Broken by a store that sends a later turn, the turn itself, or half of one.
pub async fn history_keeps_to_its_limits<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"What was said before goes with the run\"; `ChatStore::history`, `HistoryLimits`";
    let rule = Rule { name: "history_keeps_to_its_limits", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let session = bench.session(0).await;
    let mut turns = Vec::new();
    for index in 0..7 {
        let turn = bench
            .accept_message(&session, &format!("turn-{index}"), &format!("question {index}"))
            .await;
        let id = &turn.execution_id;
        match index {
            2 => {
                let by = EndedBy::Log(id.clone());
                rule.ask("end", || store.end(by.clone(), ending("told", "  \n"))).await;
            }
            3 => {
                let by = EndedBy::Log(id.clone());
                rule.ask("end", || store.end(by.clone(), ending("told", "part 3"))).await;
            }
            6 => {}
            _ => {
                let answer = Answer::new(format!("answer {index}"));
                rule.ask("save", || store.save(id.clone(), answer.clone())).await;
            }
        }
        turns.push(turn);
    }
    let said = |indexes: &[usize]| -> Vec<Said> {
        let turns = indexes.iter().flat_map(|index| {
            let answer = if *index == 3 { "part" } else { "answer" };
            [
                (Role::User, format!("question {index}")),
                (Role::Assistant, format!("{answer} {index}")),
            ]
        });
        turns.map(|(role, content)| Said { role, content }).collect()
    };
    let bytes_of = |indexes: &[usize]| {
        let said = said(indexes);
        let each = |said: &Said| {
            let content = serde_json::to_string(&said.content).expect("a string");
            format!(r#"{{"role":"{}","content":{content}}}"#, said.role.as_str()).len()
        };
        said.iter().map(each).sum::<usize>() + said.len() + 1
    };
    let plenty = HistoryLimits::default();
    for (turn, limits, wanted) in [
        (6, plenty, &[0, 1, 3, 4, 5][..]),
        (4, plenty, &[0, 1, 3]),
        (0, plenty, &[]),
        (6, HistoryLimits { turns: 2, ..plenty }, &[4, 5]),
        (6, HistoryLimits { turns: 3, ..plenty }, &[3, 4, 5]),
        (6, HistoryLimits { turns: 0, ..plenty }, &[]),
        (6, HistoryLimits { bytes: bytes_of(&[3, 4, 5]), ..plenty }, &[3, 4, 5]),
        (6, HistoryLimits { bytes: bytes_of(&[4, 5]) + 20, ..plenty }, &[4, 5]),
        (6, HistoryLimits { bytes: 20, ..plenty }, &[]),
    ] {
        let of = &turns[turn];
        let history = rule.ask("history", || store.history(of.clone(), limits)).await;
        let at = format!("of what was said before turn {turn} within {limits:?}");
        let look_for = "a turn that is later, cut in two or without an answer, or a limit that lets too much through";
        rule.same_list(at, &history, &said(wanted), look_for);
    }
}

/// A sign-in stands for its token until it is over, by the store's clock, or until its user signs out. Of one token 100 are kept. Asked again,
/// it is the same one.
///
/// Broken by a store that keeps them for ever, or counts one twice. Of a store that declares to keep none, that it gives none.
pub async fn a_sign_in_ends_in_time<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, `POST /api/sign-in`; `SignIns`, `ChatStore::sign_ins`";
    let rule = Rule { name: "a_sign_in_ends_in_time", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let kept = store.sign_ins();
    let declared = "what the fixture declares in `KEEPS_SIGN_INS`; a store around another one must pass them on";
    rule.same("in `sign_ins`", &kept.is_some(), &F::KEEPS_SIGN_INS, declared);
    let (Some(kept), Some(beside)) = (kept, bench.stores[1].sign_ins()) else { return };
    let digest = |kind: u8, number: usize| -> Digest {
        let mut digest = [kind; 32];
        digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
        digest
    };
    let (token, hour) = (digest(1, 0), Duration::from_secs(3_600));
    let look_for = "sign-ins: by their secret, for as long as they last by the store's clock";
    let signed_in = async |at: &str, secret: Digest, wanted: Option<Digest>| {
        let came = rule.ask("signed_in", || beside.signed_in(secret)).await;
        rule.same(at, &came, &wanted, look_for);
    };
    for number in 0..2 {
        let secret = digest(2, number);
        rule.ask("sign_in", || kept.sign_in(secret, token, hour)).await;
        // Its answer was lost.
        rule.ask("sign_in", || kept.sign_in(secret, token, hour)).await;
        signed_in("of a sign-in", secret, Some(token)).await;
    }
    signed_in("of a secret that nobody has", digest(3, 0), None).await;
    rule.ask("sign_out", || beside.sign_out(digest(2, 0))).await;
    rule.ask("sign_out", || beside.sign_out(digest(2, 0))).await;
    signed_in("after a sign-out", digest(2, 0), None).await;
    signed_in("after another one's sign-out", digest(2, 1), Some(token)).await;
    bench.fixture.advance(hour / 2).await;
    signed_in("half an hour later, of one that lasts an hour", digest(2, 1), Some(token)).await;
    bench.fixture.advance(hour / 2 + Duration::from_secs(1)).await;
    signed_in("an hour later, of one that lasts an hour", digest(2, 1), None).await;

    for number in 0..101 {
        let secret = digest(4, number);
        rule.ask("sign_in", || kept.sign_in(secret, token, hour)).await;
        rule.ask("sign_in", || kept.sign_in(secret, token, hour)).await;
        // Time goes on, so that the oldest one is known.
        bench.fixture.advance(Duration::from_millis(10)).await;
    }
    let other = digest(5, 0);
    rule.ask("sign_in", || kept.sign_in(digest(6, 0), other, hour)).await;
    signed_in("of the oldest of 101 of a token", digest(4, 0), None).await;
    for number in 1..101 {
        signed_in("of the newest 100 of a token", digest(4, number), Some(token)).await;
    }
    signed_in("of another token", digest(6, 0), Some(other)).await;
}
