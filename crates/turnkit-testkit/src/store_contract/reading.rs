//! The rules about what a user sees: sessions, messages, history; and about sign-ins.

use std::time::Duration;

use turnkit_chat::store::{
    Accepted, Change, Digest, EndedBy, FeedPage, FeedRead, Find, Found, History, HistoryLimits,
    MessagePage, NewRow, Omitted, SessionList, SessionPage, SessionUpdate, Siblings,
};
use turnkit_chat::{
    Answer, AnswerPart, ChatStore, Message, Principal, Role, Said, SessionId, SessionInfo,
    StoreErrorKind, Summary, Turn, TurnRef, TurnState,
};

use super::StoreFixture;
use super::bench::{Bench, Rule, TASKS, asked, ending, owner, session_id, told};

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
        let page = SessionPage { before: None, limit: 9, archived: None };
        let listed = rule.ask("sessions", || store.sessions(other.clone(), page.clone())).await;
        rule.same(&at, &listed.sessions, &vec![], look_for);
        let page = SessionPage { before: Some(session.clone()), limit: 9, archived: None };
        let listed = rule.ask("sessions", || store.sessions(other.clone(), page.clone())).await;
        rule.same(&at, &listed.sessions, &vec![], look_for);
        let update = SessionUpdate { title: Some("mine".to_owned()), archived: Some(true) };
        let ask = || store.update_session(other.clone(), session.clone(), update.clone());
        rule.same(&at, &rule.ask("update_session", ask).await, &None, look_for);
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
            let page = SessionPage { before: before.clone(), limit, archived: None };
            let listed: Vec<SessionInfo> =
                rule.ask("sessions", || other.sessions(owner(), page.clone())).await.sessions;
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
    let page = SessionPage { before: Some(session_id(77)), limit: 9, archived: None };
    let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let look_for = "a page before a session that is not there: it is empty";
    rule.same("before a session that is not there", &listed.sessions, &vec![], look_for);

    let title = "\u{1F980}".repeat(80);
    let new = |turn_id: &str, title: &str| NewRow {
        title: Some(title.to_owned()),
        ..asked(&session_id(5), turn_id, "hello")
    };
    let accepted = rule.ask("accept", || store.accept(new("one", &title))).await;
    let Accepted::New(first) = accepted else {
        rule.broken("in `accept`", "`New`", format!("{accepted:?}"), "a free session")
    };
    let id = first.turn.execution_id;
    rule.ask("save", || store.save(id.clone(), Answer::new("hi"))).await;
    rule.ask("accept", || store.accept(new("two", "another"))).await;
    let page = SessionPage { before: Some(session_id(3)), limit: 9, archived: None };
    let SessionList { sessions, feed } =
        rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let titles: Vec<_> = sessions.into_iter().map(|info| info.title).collect();
    let look_for = "the title: the one that came with the first turn, as it came, and no later one";
    rule.same("of a session with two turns", &titles, &vec![Some(title)], look_for);
    let read = FeedRead { after: None, session: None, limit: 9 };
    let end = rule.ask("feed", || other.feed(owner(), read.clone())).await;
    let look_for = "where the feed ends: the list's place in it is that of the moment";
    rule.same("beside a list", &end, &FeedPage::Entries(Vec::new(), feed), look_for);
    let page = SessionPage { before: Some(session_id(8)), limit: 1, archived: None };
    let listed = rule.ask("sessions", || store.sessions(owner(), page.clone())).await;
    let titles: Vec<_> = listed.sessions.into_iter().map(|info| info.title).collect();
    rule.same("of a session without a turn", &titles, &vec![None], "a title without a message");
    let nobody = Principal::new("tenant", "nobody");
    let page = SessionPage { before: None, limit: 1, archived: None };
    let list = || store.sessions(nobody.clone(), page.clone());
    let (one, again) = (rule.ask("sessions", list).await, rule.ask("sessions", list).await);
    rule.same(
        "of a user without sessions",
        &again,
        &one,
        "a feed that is made with the first list",
    );
}

/// A session is called what its user names it, whatever turns come later, and is archived and taken back; each change is told once, and what
/// is so already is not told.
///
/// Broken by a store whose next turn names the session anew, or whose lists mix what is archived with what is not.
pub async fn a_session_is_named_and_archived<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, `PATCH /api/sessions/{s}`; `ChatStore::update_session`, `SessionPage::archived`";
    let rule = Rule { name: "a_session_is_named_and_archived", place };
    let bench = Bench::new(rule, fixture).await;
    let [store, other] = &bench.stores;
    let session = bench.session(0).await;
    let beside = bench.session(1).await;
    let page = SessionPage { before: None, limit: 9, archived: None };
    let start = rule.ask("sessions", || other.sessions(owner(), page.clone())).await.feed;
    let update = async |title: Option<&str>, archived| {
        let update = SessionUpdate { title: title.map(str::to_owned), archived };
        let ask = || store.update_session(owner(), session.clone(), update.clone());
        let info = rule.ask("update_session", ask).await;
        info.map(|info| (info.id, info.title, info.archived))
    };
    let told = |title: &str, archived| Some((session.clone(), Some(title.to_owned()), archived));
    let look_for = "what the update does not name: it stays as it is";
    let named = update(Some("mine"), None).await;
    rule.same("of a session that is named", &named, &told("mine", false), look_for);
    bench.accept(&session, "turn").await;
    let archived = update(None, Some(true)).await;
    let look_for = "a title that the first turn has taken the place of";
    rule.same("of a named session with a turn", &archived, &told("mine", true), look_for);
    for again in [(Some("mine"), None), (None, Some(true)), (Some("mine"), Some(true))] {
        let came = update(again.0, again.1).await;
        rule.same("of what is so already", &came, &told("mine", true), look_for);
    }
    for (archived, wanted) in [
        (None, vec![beside.clone(), session.clone()]),
        (Some(false), vec![beside.clone()]),
        (Some(true), vec![session.clone()]),
    ] {
        let page = SessionPage { before: None, limit: 9, archived };
        let listed = rule.ask("sessions", || other.sessions(owner(), page.clone())).await;
        let ids: Vec<_> = listed.sessions.into_iter().map(|info| info.id).collect();
        let at = format!("of a list with `archived` {archived:?}");
        rule.same(at, &ids, &wanted, "the condition on what is archived, and without it all");
    }
    let read = FeedRead { after: Some(start), session: Some(session.clone()), limit: 99 };
    let changes = match rule.ask("feed", || other.feed(owner(), read.clone())).await {
        FeedPage::Entries(entries, _) => entries.into_iter().map(|entry| entry.change).collect(),
        FeedPage::Expired => Vec::new(),
    };
    let wanted = vec![Change::SessionUpdated, Change::Accepted, Change::SessionUpdated];
    let look_for =
        "a change of title or archive that is not told, or a call that changes nothing and is";
    rule.same("in the feed", &changes, &wanted, look_for);
    let none = || store.update_session(owner(), session_id(77), SessionUpdate::default());
    let none = rule.ask("update_session", none).await;
    rule.same("of a session that is not there", &none, &None, "a session that is made");
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

/// What was said before a turn is whole turns whose answer is saved and not blank, the oldest first, the newest that keep to the limits; what
/// the limits leave out is counted.
///
/// Broken by a store that sends a later turn, the turn itself, one that failed, or half of one.
pub async fn history_keeps_to_its_limits<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"What was said before goes with the run\"; `ChatStore::history`, `HistoryBuilder`";
    let rule = Rule { name: "history_keeps_to_its_limits", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let session = bench.session(0).await;
    let mut turns = Vec::new();
    for index in 0..8 {
        let turn = bench
            .accept_message(&session, &format!("turn-{index}"), &format!("question {index}"))
            .await;
        let id = &turn.execution_id;
        match index {
            2 | 3 => {
                let mut ending = ending("told", "a part");
                ending.stopped = index == 3;
                let by = EndedBy::Log(id.clone());
                rule.ask("end", || store.end(by.clone(), ending.clone())).await;
            }
            7 => {}
            _ => {
                let text =
                    if index == 4 { " \u{3000}\n".to_owned() } else { format!("answer {index}") };
                rule.ask("save", || store.save(id.clone(), Answer::new(&text))).await;
            }
        }
        turns.push(turn);
    }
    // One that had ended is saved after all, when others have gone on from it.
    let late = turns[3].execution_id.clone();
    rule.ask("save", || store.save(late.clone(), Answer::new("answer 3"))).await;
    let said = |indexes: &[usize]| -> Vec<Said> {
        let turns = indexes.iter().flat_map(|index| {
            [
                (Role::User, format!("question {index}")),
                (Role::Assistant, format!("answer {index}")),
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
    for (turn, limits, wanted, omitted) in [
        (7, plenty, &[0, 1, 3, 5, 6][..], 0),
        (5, plenty, &[0, 1, 3], 0),
        (0, plenty, &[], 0),
        (7, HistoryLimits { turns: 2, ..plenty }, &[5, 6], 3),
        (7, HistoryLimits { turns: 3, ..plenty }, &[3, 5, 6], 2),
        (7, HistoryLimits { turns: 0, ..plenty }, &[], 5),
        (7, HistoryLimits { bytes: bytes_of(&[3, 5, 6]), ..plenty }, &[3, 5, 6], 2),
        (7, HistoryLimits { bytes: bytes_of(&[5, 6]) + 20, ..plenty }, &[5, 6], 3),
        (7, HistoryLimits { bytes: 20, ..plenty }, &[], 5),
    ] {
        let of = &turns[turn];
        let history = rule.ask("history", || store.history(of.clone(), limits)).await;
        let at = format!("of what was said before turn {turn} within {limits:?}");
        let look_for = "a turn that is later, failed, cut in two or without an answer, or a limit that lets too much through";
        rule.same_list(&at, &history.said, &said(wanted), look_for);
        let bytes = omitted * ("question 0".len() + "answer 0".len()) as u64;
        let wanted = Omitted { turns: omitted, bytes };
        let look_for = "what the limits leave out: whole turns, and bytes of their text";
        rule.same(at, &history.omitted, &wanted, look_for);
    }
    let paste = "x".repeat(300_000);
    let next = turns[7].execution_id.clone();
    rule.ask("save", || store.save(next.clone(), Answer::new(&paste))).await;
    let last = bench.accept(&session, "last").await;
    let History { said, omitted, .. } =
        rule.ask("history", || store.history(last.clone(), plenty)).await;
    let came = (said.len(), said.iter().any(|said| said.content == "answer 0"), omitted.turns);
    let look_for = "a turn that is too big: it is cut, and those before it stay (`HistoryBuilder`)";
    rule.same("before a turn of 300,000 bytes", &came, &(12, true, 0), look_for);
    rule.holds(
        "of what was cut",
        &omitted.bytes,
        "bytes that were left out",
        |cut| *cut > 100_000,
        look_for,
    );
}

/// A name opens one session of its owner's, for all that ask at once and for ever after; of another user it is another session.
///
/// Broken by a store that first looks a name up and then opens the session.
pub async fn a_name_is_one_session_of_its_owner<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A session has an id and a name\"; `ChatStore::named`";
    let rule = Rule { name: "a_name_is_one_session_of_its_owner", place };
    let bench = Bench::new(rule, fixture).await;
    let users = [owner(), Principal::new("tenant", "other"), Principal::new("other", "user")];
    let unknown = rule.ask("named", || bench.store().named(owner(), "chat".to_owned(), None)).await;
    rule.same("of a name that opens nothing", &unknown, &None, "a lookup that makes something");
    let mut sessions = Vec::new();
    for (number, user) in users.iter().enumerate() {
        let opened = bench
            .race(|task, store| {
                let (user, id) = (user.clone(), session_id(100 * number + task));
                async move {
                    let open = || store.named(user.clone(), "chat".to_owned(), Some(id.clone()));
                    rule.ask("named", open).await
                }
            })
            .await;
        let at = format!("of a name that {TASKS} open at once");
        let look_for = "a name that is first looked up and then opened: it is unique for its owner";
        let is_one = |all: &Vec<Option<SessionId>>| {
            all.first().is_some_and(Option::is_some) && all.iter().all(|one| *one == all[0])
        };
        rule.holds(&at, &opened, "one session", is_one, look_for);
        let page = SessionPage { before: None, limit: 99, archived: None };
        let list = || bench.store().sessions(user.clone(), page.clone());
        let listed = rule.ask("sessions", list).await;
        let ids: Vec<_> = listed.sessions.into_iter().map(|info| Some(info.id)).collect();
        rule.same(&at, &ids, &opened[..1].to_vec(), look_for);
        sessions.extend(ids);
    }
    let look_for = "the owner of a name: tenant and user, both of them";
    let are_different = |all: &Vec<Option<SessionId>>| {
        all.iter().enumerate().all(|(place, one)| !all[..place].contains(one))
    };
    rule.holds("of one name of three users", &sessions, "three sessions", are_different, look_for);
}

/// An answer's parts come back as they were saved, in their order and byte for byte, with what the agent told of it.
///
/// Broken by a store that writes parts anew, or keeps the text alone.
pub async fn an_answer_is_kept_with_its_parts<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 2.3, \"The answer at rest\"; `Answer::parts`";
    let rule = Rule { name: "an_answer_is_kept_with_its_parts", place };
    let bench = Bench::new(rule, fixture).await;
    let (store, session) = (bench.store(), bench.session(0).await);
    let part = |json: &str| AnswerPart::from_json(json).expect("a part");
    let parts = [
        r#"{"type":"reasoning","id":"r","text":"\ud800 half"}"#,
        r#"{"type":"tool","id":"t","tool":"bash","state":{"status":"completed","input":{"b":1E5,"a":-0,"a":1},"output":[null,"\/"]}}"#,
        r#"{"type":"text","id":"p","text":"whole"}"#,
        r#"{"type":"source","id":"s","url":"https://example.com/","title":"\u00e9"}"#,
        r#"{"type":"data","id":"d","name":"odd","data":{"": 12345678901234567890.5}}"#,
        r#"{"type":"warning","message":"cut","unknown":[1]}"#,
    ];
    let mut summary = Summary::default();
    summary.model = Some("model".to_owned());
    let answer = Answer::of_parts("whole", parts.map(part), summary);
    let turn = bench.accept(&session, "first").await;
    let id = turn.execution_id;
    rule.ask("save", || store.save(id.clone(), answer.clone())).await;
    let look_for = "parts that are read and written anew, or are not kept: they are kept as they are, and so is the account";
    let saved = rule.ask("saved", || bench.stores[1].saved(id.clone())).await;
    rule.same("of an answer that is saved", &saved, &Some(answer.clone()), look_for);
    let shown = bench.messages(&session).await.pop();
    let shown = shown.map(|message| (message.text, message.parts, message.summary));
    let wanted = Some((answer.text, answer.parts, answer.summary));
    rule.same("of its message", &shown, &wanted, look_for);
}

/// Turns that stand in for one another share a parent, and are named with their messages; a branch is read, and goes with a run, without the
/// others. The session of an agent's own goes on in one branch alone.
///
/// Broken by a store that takes all turns of a session for one conversation.
pub async fn siblings_are_branches<F: StoreFixture>(fixture: F) {
    let place = "PROTOCOL 4.2, \"A turn has a parent\"; `ChatStore::siblings`, `Message::sibling_ids`, `History::agent_session`";
    let rule = Rule { name: "siblings_are_branches", place };
    let bench = Bench::new(rule, fixture).await;
    let store = bench.store();
    let session = bench.session(0).await;
    let mut executions = Vec::new();
    for (turn_id, replaces, agent) in [
        ("a", None, "agent"),
        ("b", None, "agent"),
        ("c", None, "agent"),
        ("b:r1", Some("b"), "agent"),
        ("d", None, "another"),
    ] {
        let new = NewRow {
            replaces: replaces.map(str::to_owned),
            agent: agent.to_owned(),
            ..asked(&session, turn_id, &format!("ask {turn_id}"))
        };
        let accepted = rule.ask("accept", || store.accept(new.clone())).await;
        let Accepted::New(row) = accepted else {
            rule.broken(
                format_args!("of `{turn_id}`"),
                "`New`",
                format!("{accepted:?}"),
                "its parent",
            )
        };
        let history =
            rule.ask("history", || store.history(row.turn.clone(), HistoryLimits::default()));
        let History { said, agent_session, .. } = history.await;
        let said: Vec<_> = said.iter().map(|said| &*said.content).collect();
        let (wanted, own) = match turn_id {
            "a" => (vec![], None),
            "b" => (vec!["ask a", "a"], Some("of a")),
            "c" => (vec!["ask a", "a", "ask b", "b"], Some("of b")),
            // What `b` has said to it is no part of this branch.
            "b:r1" => (vec!["ask a", "a"], None),
            _ => (vec!["ask a", "a", "ask b:r1", "b:r1"], None),
        };
        let at = format!("of what was said before `{turn_id}`");
        rule.same_list(&at, &said, &wanted, "turns of another branch");
        // Asked again, also from another device and with the same wish for a turn in another one's place, it is the same.
        let again = rule.ask("accept", || bench.stores[1].accept(new.clone())).await;
        let is_known =
            |again: &Accepted| matches!(again, Accepted::Known(known) if known.turn == row.turn);
        let look_for = "a turn that is asked for twice: by its name it is one";
        rule.holds(format_args!("of `{turn_id}` again"), &again, "`Known`", is_known, look_for);
        if turn_id == "c" {
            let other = NewRow { replaces: Some("a".to_owned()), ..new.clone() };
            let came = rule.ask("accept", || store.accept(other.clone())).await;
            let look_for = "a turn's parent: where a request names it, it is a part of what the turn is known by";
            rule.same("of a known turn in another place", &came, &Accepted::Conflict, look_for);
        }
        let look_for = "the agent's own session: of the answer before, by the same agent, and with no other turn that has gone on from it";
        rule.same(at, &agent_session.as_deref(), &own, look_for);
        let mut summary = Summary::default();
        summary.agent_session_id = Some(format!("of {turn_id}"));
        let answer = Answer::of_parts(turn_id, Answer::new(turn_id).parts, summary);
        let id = row.turn.execution_id;
        rule.ask("save", || store.save(id.clone(), answer.clone())).await;
        executions.push(id);
    }
    for (branch, wanted) in
        [(None, "a b:r1 d"), (Some(1), "a b c"), (Some(0), "a b:r1 d"), (Some(3), "a b:r1 d")]
    {
        let page = MessagePage { branch, before: None, turns: 9 };
        let messages = bench.state_of(&session, page).await.messages;
        let asked: Vec<_> = messages.iter().filter(|message| message.role == Role::User).collect();
        let at = format!("in the branch {branch:?}");
        let names: Vec<_> = asked.iter().map(|message| &*message.turn_id).collect();
        rule.same(&at, &names.join(" "), &wanted.to_owned(), "ancestors and newest descendants");
        for message in &messages {
            let is_sibling = message.turn_id.starts_with('b');
            let listed: Vec<_> = message.sibling_ids.iter().map(String::as_str).collect();
            let wanted = if is_sibling { (2, vec!["b", "b:r1"]) } else { (1, vec![]) };
            let look_for = "those that share the turn's parent, the oldest first, and none where it is the only one";
            rule.same(&at, &(message.siblings, listed), &wanted, look_for);
        }
    }
    for (turn_id, count, newest) in [("b", 2, 3), ("b:r1", 2, 3), ("a", 1, 0), ("d", 1, 4)] {
        let at = TurnRef::new(session.clone(), turn_id);
        let siblings = rule.ask("siblings", || store.siblings(owner(), at.clone())).await;
        let came = siblings.map(|Siblings { count, newest }| (count, newest.turn.execution_id));
        let wanted = Some((count, executions[newest].clone()));
        rule.same(format_args!("of the siblings of `{turn_id}`"), &came, &wanted, "the parent");
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
