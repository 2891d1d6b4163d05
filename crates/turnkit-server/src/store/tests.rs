use std::time::Duration;

use rusqlite::TransactionBehavior;
use tempfile::TempDir;

use super::*;
use crate::principal::Principal;
use turnkit_id::ExecutionId;

/// A store in a directory that lives as long as it does.
struct Fixture {
    store: Store,
    directory: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(Environment::default())
    }

    fn with(environment: Environment) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Store::open(&directory.path().join(FILE), environment, &TaskTracker::new()).unwrap();
        Fixture { store, directory }
    }

    async fn session(&self) -> String {
        self.store.create_session(Principal::local()).await.unwrap()
    }

    async fn open_turn(&self, session: &str, turn_id: &str) -> Turn {
        match self.store.accept_turn(asked(session, turn_id, "hello")).await.unwrap() {
            Accepted::New(turn) => turn,
            other => panic!("not new: {other:?}"),
        }
    }

    async fn reload(&self, turn: &Turn) -> Turn {
        self.store.turn_of_execution(turn.execution_id.clone()).await.unwrap().unwrap()
    }

    async fn claim(&self, turn: &Turn, worker: &str, seen: Option<&str>, may_run: bool) -> Claimed {
        let claim = Claim {
            execution_id: turn.execution_id.clone(),
            worker: worker.to_owned(),
            seen: seen.map(str::to_owned),
            may_run,
        };
        self.store.claim(claim).await.unwrap()
    }

    async fn save(&self, turn: &Turn, text: &str) -> bool {
        self.store.save_answer(turn.execution_id.clone(), text.to_owned()).await.unwrap()
    }

    async fn end(&self, turn: &Turn, worker: &str, status: MessageStatus, partial: &str) -> bool {
        let failure = Failure { code: Some("code".to_owned()), message: "why".to_owned() };
        let (worker, partial) = (worker.to_owned(), partial.to_owned());
        let ending =
            Ending { execution_id: turn.execution_id.clone(), worker, status, failure, partial };
        self.store.end_turn(ending).await.unwrap()
    }

    async fn messages(&self, session: &str) -> Vec<(Role, String, MessageStatus)> {
        let page = MessagePage { before: None, turns: 100 };
        let messages =
            self.store.messages(Principal::local(), session.to_owned(), page).await.unwrap();
        messages
            .unwrap()
            .into_iter()
            .map(|message| (message.role, message.text, message.status))
            .collect()
    }
}

fn asked(session: &str, turn_id: &str, message: &str) -> NewTurn {
    NewTurn {
        owner: Principal::local(),
        session_id: session.to_owned(),
        turn_id: turn_id.to_owned(),
        agent: "default".to_owned(),
        message: message.to_owned(),
        worker: "w1".to_owned(),
    }
}

fn stranger() -> Principal {
    Principal { tenant_id: "local".to_owned(), user_id: "stranger".to_owned() }
}

#[tokio::test]
async fn turns_are_counted_from_zero_and_named_after_their_place() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    for index in 0..3 {
        let turn = fixture.open_turn(&session, &format!("t{index}")).await;
        assert_eq!(turn.index, index);
        assert_eq!(turn.execution_id, ExecutionId::derive("local", &session, index).unwrap());
        assert!(fixture.save(&turn, "answer").await);
    }
}

#[tokio::test]
async fn the_same_turn_is_accepted_once() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    let again = fixture.store.accept_turn(asked(&session, "t", "hello")).await.unwrap();
    assert_eq!(again, Accepted::Known(turn));
    assert_eq!(fixture.messages(&session).await.len(), 1);
}

#[tokio::test]
async fn fifty_at_once_are_one_turn() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let asks = (0..50).map(|_| fixture.store.accept_turn(asked(&session, "t", "hello")));
    let accepted = futures::future::join_all(asks).await;
    let new = accepted.iter().filter(|one| matches!(one, Ok(Accepted::New(_)))).count();
    let known = accepted.iter().filter(|one| matches!(one, Ok(Accepted::Known(_)))).count();
    assert_eq!((new, known), (1, 49));
}

#[tokio::test]
async fn another_message_or_agent_under_the_same_id_is_a_conflict() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    fixture.open_turn(&session, "t").await;
    let message = asked(&session, "t", "another");
    assert_eq!(fixture.store.accept_turn(message).await.unwrap(), Accepted::Conflict);
    let agent = NewTurn { agent: "another".to_owned(), ..asked(&session, "t", "hello") };
    assert_eq!(fixture.store.accept_turn(agent).await.unwrap(), Accepted::Conflict);
}

#[tokio::test]
async fn a_session_has_one_open_turn() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let first = fixture.open_turn(&session, "first").await;
    let second = fixture.store.accept_turn(asked(&session, "second", "hello")).await.unwrap();
    assert_eq!(second, Accepted::Running { turn_id: "first".to_owned() });
    fixture.save(&first, "answer").await;
    fixture.open_turn(&session, "second").await;
}

#[tokio::test]
async fn what_belongs_to_another_user_does_not_exist() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    fixture.open_turn(&session, "t").await;
    let ask = NewTurn { owner: stranger(), ..asked(&session, "t", "hello") };
    assert_eq!(fixture.store.accept_turn(ask).await.unwrap(), Accepted::NoSession);
    assert_eq!(
        fixture.store.turn(stranger(), session.clone(), "t".to_owned()).await.unwrap(),
        None
    );
    assert_eq!(fixture.store.open_turn(stranger(), session.clone()).await.unwrap(), None);
    let page = MessagePage { before: None, turns: 1 };
    assert_eq!(fixture.store.messages(stranger(), session.clone(), page).await.unwrap(), None);
    let page = SessionPage { before: Some(session), limit: 10 };
    assert_eq!(fixture.store.sessions(stranger(), page).await.unwrap(), []);
}

#[tokio::test]
async fn a_turn_is_dispatched_once() {
    let fixture = Fixture::new();
    let turn = fixture.open_turn(&fixture.session().await, "t").await;
    let claims = (0..20).map(|_| fixture.claim(&turn, "w1", Some("w1"), true));
    let claimed = futures::future::join_all(claims).await;
    assert_eq!(claimed.iter().filter(|one| **one == Claimed::Run).count(), 1);
    assert!(fixture.reload(&turn).await.dispatched);
    assert_eq!(fixture.claim(&turn, "w2", Some("w1"), true).await, Claimed::Attach);
}

#[tokio::test]
async fn only_one_worker_takes_over_from_a_dead_one() {
    let fixture = Fixture::new();
    let turn = fixture.open_turn(&fixture.session().await, "t").await;
    fixture.claim(&turn, "w1", Some("w1"), true).await;
    assert_eq!(fixture.claim(&turn, "w2", Some("w1"), true).await, Claimed::Attach);
    assert_eq!(fixture.claim(&turn, "w3", Some("w1"), true).await, Claimed::Refused);
    assert_eq!(fixture.reload(&turn).await.lease.as_deref(), Some("w2"));
}

#[tokio::test]
async fn who_may_not_run_does_not_dispatch() {
    let fixture = Fixture::new();
    let turn = fixture.open_turn(&fixture.session().await, "t").await;
    assert_eq!(fixture.claim(&turn, "w1", Some("w1"), false).await, Claimed::Refused);
    assert!(!fixture.reload(&turn).await.dispatched);
}

#[tokio::test]
async fn an_answer_is_saved_once_and_ends_the_turn() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    assert!(fixture.save(&turn, "answer").await);
    assert!(!fixture.save(&turn, "another").await);
    assert_eq!(fixture.reload(&turn).await.state, TurnState::Complete);
    assert_eq!(
        fixture.store.saved_answer(turn.execution_id.clone()).await.unwrap().as_deref(),
        Some("answer")
    );
    let kept = fixture.messages(&session).await;
    let complete = MessageStatus::Complete;
    assert_eq!(
        kept,
        [(Role::User, "hello".into(), complete), (Role::Assistant, "answer".into(), complete)]
    );
}

#[tokio::test]
async fn an_answer_without_a_turn_is_an_error() {
    let fixture = Fixture::new();
    let unknown = ExecutionId::parse("unknown").unwrap();
    fixture.store.save_answer(unknown, "answer".to_owned()).await.unwrap_err();
}

#[tokio::test]
async fn a_failed_turn_keeps_its_partial_text_and_is_no_saved_answer() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    assert!(fixture.end(&turn, "w1", MessageStatus::Failed, "part").await);
    let ended = fixture.reload(&turn).await;
    assert_eq!(ended.state, TurnState::Failed);
    assert_eq!(ended.failure.unwrap().code.as_deref(), Some("code"));
    assert_eq!(
        fixture.messages(&session).await[1],
        (Role::Assistant, "part".into(), MessageStatus::Failed)
    );
    assert_eq!(fixture.store.saved_answer(turn.execution_id).await.unwrap(), None);
}

#[tokio::test]
async fn a_failure_does_not_overwrite_a_saved_answer() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    fixture.save(&turn, "answer").await;
    assert!(!fixture.end(&turn, "w1", MessageStatus::Failed, "part").await);
    assert_eq!(
        fixture.messages(&session).await[1],
        (Role::Assistant, "answer".into(), MessageStatus::Complete)
    );
}

#[tokio::test]
async fn a_whole_answer_replaces_a_partial_one() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    fixture.end(&turn, "w1", MessageStatus::Stopped, "part").await;
    assert!(fixture.save(&turn, "answer").await);
    assert_eq!(
        fixture.messages(&session).await[1],
        (Role::Assistant, "answer".into(), MessageStatus::Complete)
    );
    assert_eq!(fixture.reload(&turn).await.failure, None);
}

#[tokio::test]
async fn a_worker_that_lost_the_turn_does_not_end_it() {
    let fixture = Fixture::new();
    let turn = fixture.open_turn(&fixture.session().await, "t").await;
    assert!(!fixture.end(&turn, "w2", MessageStatus::Failed, "part").await);
    assert_eq!(fixture.reload(&turn).await.state, TurnState::Open);
}

#[tokio::test]
async fn text_comes_back_byte_for_byte() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    let text = "a\0b'\"; DROP TABLE turns; -- \u{1F980}\r\n\u{FFFD}";
    fixture.save(&turn, text).await;
    assert_eq!(fixture.messages(&session).await[1].1, text);
}

#[tokio::test]
async fn sessions_are_listed_newest_first_in_pages_with_their_titles() {
    let fixture = Fixture::new();
    let (old, new) = (fixture.session().await, fixture.session().await);
    fixture.open_turn(&old, "t").await;
    let page =
        |before| fixture.store.sessions(Principal::local(), SessionPage { before, limit: 1 });
    let first = page(None).await.unwrap();
    assert_eq!((&first[0].id, &first[0].title), (&new, &None));
    let second = page(Some(new)).await.unwrap();
    assert_eq!((&second[0].id, second[0].title.as_deref()), (&old, Some("hello")));
    assert_eq!(page(Some(old)).await.unwrap(), []);
}

#[tokio::test]
async fn messages_are_listed_in_pages_of_whole_turns() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    for index in 0..3 {
        let turn = fixture.open_turn(&session, &format!("t{index}")).await;
        fixture.save(&turn, "answer").await;
    }
    let page = |before| MessagePage { before, turns: 2 };
    let list = |before| fixture.store.messages(Principal::local(), session.clone(), page(before));
    let indexes = |messages: Option<Vec<Message>>| -> Vec<u64> {
        messages.unwrap().iter().map(|message| message.turn_index).collect()
    };
    assert_eq!(indexes(list(None).await.unwrap()), [1, 1, 2, 2]);
    assert_eq!(indexes(list(Some(1)).await.unwrap()), [0, 0]);
}

#[tokio::test]
async fn a_page_of_messages_is_bounded_by_its_text() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    for index in 0..3 {
        let turn = fixture.open_turn(&session, &format!("t{index}")).await;
        fixture.save(&turn, &"x".repeat(9 * 1024 * 1024)).await;
    }
    let messages = fixture.messages(&session).await;
    assert_eq!(messages.len(), 2, "one turn, whole");
}

#[tokio::test]
async fn open_turns_are_found_again_after_a_restart() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    let again = Store::open(
        &fixture.directory.path().join(FILE),
        Environment::default(),
        &TaskTracker::new(),
    )
    .unwrap();
    assert_eq!(
        again.open_turns(10).await.unwrap(),
        [(turn.execution_id.clone(), Some("w1".to_owned()))]
    );
    fixture.save(&turn, "answer").await;
    assert_eq!(again.open_turns(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_locked_database_is_an_error_and_later_none() {
    let fixture = Fixture::with(Environment {
        busy_timeout: Duration::from_millis(10),
        ..Environment::default()
    });
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    let mut other = Connection::open(fixture.directory.path().join(FILE)).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let error = fixture
        .store
        .save_answer(turn.execution_id.clone(), "answer".to_owned())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Commit(_)), "{error:?}");
    drop(lock);
    assert!(fixture.save(&turn, "answer").await);
}

#[tokio::test]
async fn one_piece_of_work_that_fails_does_not_undo_the_others_of_its_batch() {
    let fixture = Fixture::new();
    let unknown = ExecutionId::parse("unknown").unwrap();
    let bad = fixture.store.save_answer(unknown, "answer".to_owned());
    let (bad, session) = tokio::join!(bad, fixture.session());
    bad.unwrap_err();
    fixture.open_turn(&session, "t").await;
}

#[tokio::test]
async fn without_threads_the_same_is_done_by_the_caller() {
    let fixture = Fixture::with(Environment { threads: false, ..Environment::default() });
    let session = fixture.session().await;
    let turn = fixture.open_turn(&session, "t").await;
    assert!(fixture.save(&turn, "answer").await);
    assert!(!fixture.save(&turn, "answer").await);
    fixture
        .store
        .save_answer(ExecutionId::parse("unknown").unwrap(), String::new())
        .await
        .unwrap_err();
    assert_eq!(fixture.messages(&session).await.len(), 2);
}

#[tokio::test]
async fn readers_go_on_while_another_process_writes() {
    let fixture = Fixture::new();
    let session = fixture.session().await;
    let other = Connection::open(fixture.directory.path().join(FILE)).unwrap();
    let mode: String = other.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    other.execute_batch("BEGIN IMMEDIATE; UPDATE sessions SET user_id = 'somebody'").unwrap();
    assert_eq!(fixture.messages(&session).await, []);
    other.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn a_token_has_as_many_sign_ins_as_are_allowed_and_each_ends() {
    let fixture = Fixture::new();
    let sign_in = |secret, lasts| SignIn { secret: [secret; 32], token: [0; 32], lasts };
    for secret in 0..=100 {
        fixture.store.sign_in(sign_in(secret, 60_000)).await.unwrap();
    }
    assert_eq!(fixture.store.signed_in([0; 32]).await.unwrap(), None, "the oldest gave way");
    assert_eq!(fixture.store.signed_in([1; 32]).await.unwrap(), Some([0; 32]));
    assert_eq!(fixture.store.signed_in([100; 32]).await.unwrap(), Some([0; 32]));
    fixture.store.sign_in(sign_in(200, 0)).await.unwrap();
    assert_eq!(fixture.store.signed_in([200; 32]).await.unwrap(), None, "it is over");
}

#[tokio::test]
async fn what_is_told_to_be_saved_outlives_a_loss_of_power() {
    let fixture = Fixture::new();
    let level =
        |db: &Connection| db.query_row("PRAGMA synchronous", [], |row| row.get::<_, u32>(0));
    let full = 2;
    assert_eq!(fixture.store.writer.run(level).await.unwrap(), full);
}
