//! The product's calls: what a user may do, each callable without HTTP.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use turnkit::TurnBody;
use turnkit_id::{ExecutionId, is_name};
use turnkit_sandbox::{AgentList, Error, SandboxClient};
use turnkit_wire::interaction::is_id;
use turnkit_wire::write::Json;
use uuid::Uuid;

use crate::agents::{Catalog, DEFAULT_AGENT};
use crate::attendant::{Attendant, Membership, Trouble};
use crate::feed::{Changes, Events};
use crate::hooks::{ErasedHooks, Hooks};
use crate::observer::{Cause, Observer, Observers};
use crate::store::{
    Accepted, ChatStore, Deletion, FeedId, Find, Found, HistoryLimits, Intended, MAX_QUEUED,
    MessagePage, NewRow, Outcome, QueueChange, QueueChanged, SessionList, SessionPage,
    SessionState, SessionUpdate, Siblings, StoreError, TurnRow, Wish,
};
use crate::title;
use crate::turns::{Registry, Turns};
use crate::{
    NewTurn, Principal, QueuedTurn, Refusal, SessionId, SessionInfo, Turn, TurnRef, TurnState,
};

/// The product side of a chat: sessions, and turns that run once, are seen once and saved once (PROTOCOL 4.2, 4.3).
///
/// A clone is the same chat. Every call checks the user's right, and works without HTTP; [`router`](Self::router) (feature
/// `axum`) has the same over HTTP. Nothing runs by itself: [`build`](ChatBuilder::build) gives an [`Attendant`] beside it, which
/// must be spawned.
///
/// Calls need tokio. Those that write are carried out to their end although their future is dropped.
#[derive(Clone)]
pub struct Chat {
    pub(crate) turns: Arc<Turns>,
}

impl Chat {
    /// A chat that keeps its turns in `store` and has its agents behind `agents`.
    pub fn builder(store: impl ChatStore, agents: SandboxClient) -> ChatBuilder {
        ChatBuilder {
            store: Box::new(store),
            agents,
            hooks: Box::new(()),
            observers: Observers::default(),
            max_turns: 4_096,
            sweep_every: Duration::from_secs(30),
            history: HistoryLimits::default(),
            session_ids: Box::new(|| Uuid::now_v7().to_string()),
            retention: None,
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn open_session(&self, who: &Principal) -> Result<SessionId, Refusal> {
        let id = SessionId::new((self.turns.session_ids)());
        self.turns.settled(|store| store.open_session(who.clone(), id.clone())).await?;
        Ok(id)
    }

    /// The user's session of this name, which is opened where there is none: 1 to 160 of `A-Za-z0-9:_-`, not beginning with `run_`.
    /// A session that was opened without a name has its id for one.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn open_named(&self, who: &Principal, name: &str) -> Result<SessionId, Refusal> {
        let is_name = (1..=160).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte))
            && !name.starts_with("run_");
        if !is_name {
            let rule =
                "a chat's name must be 1 to 160 of A-Z a-z 0-9 : _ -, and not begin with run_";
            return Err(Refusal::Invalid(rule.to_owned()));
        }
        if let Some(id) = self.turns.store.named(who.clone(), name.to_owned(), None).await? {
            return Ok(id);
        }
        let new = SessionId::new((self.turns.session_ids)());
        let opened = self
            .turns
            .settled(|store| store.named(who.clone(), name.to_owned(), Some(new.clone())));
        opened.await?.ok_or(Refusal::NoSession)
    }

    /// The user's session of this name, if there is one.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn named(&self, who: &Principal, name: &str) -> Result<Option<SessionId>, Refusal> {
        Ok(self.turns.store.named(who.clone(), name.to_owned(), None).await?)
    }

    /// The user's sessions, the newest first, and where the user's feed ends: what changes from then on is in
    /// [`events`](Self::events) after it.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn sessions(
        &self,
        who: &Principal,
        page: SessionPage,
    ) -> Result<SessionList, Refusal> {
        Ok(self.turns.store.sessions(who.clone(), page).await?)
    }

    /// Changes what a session is called, or whether it is archived, and says how it is then. A title has 1 to 200 characters, none of them
    /// a control character, and is kept without spaces around it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NoSession`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn update_session(
        &self,
        who: &Principal,
        id: &SessionId,
        update: SessionUpdate,
    ) -> Result<SessionInfo, Refusal> {
        if update == SessionUpdate::default() {
            let rule = "title or archived must be there to be changed";
            return Err(Refusal::Invalid(rule.to_owned()));
        }
        let title = update.title.map(|title| title.trim().to_owned());
        let is_title = |title: &String| {
            (1..=title::MAX).contains(&title.chars().count()) && !title.contains(char::is_control)
        };
        if !title.as_ref().is_none_or(is_title) {
            let max = title::MAX;
            return Err(Refusal::Invalid(format!(
                "title must be 1 to {max} characters, without control characters"
            )));
        }
        let (turns, who, id) = (Arc::clone(&self.turns), who.clone(), id.clone());
        let update = SessionUpdate { title, ..update };
        carried_out(async move {
            let updated = turns
                .settled(|store| store.update_session(who.clone(), id.clone(), update.clone()));
            updated.await?.ok_or(Refusal::NoSession)
        })
        .await
    }

    /// Messages, the open turn and the queue of a session, of one moment.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn session(
        &self,
        who: &Principal,
        id: &SessionId,
        page: MessagePage,
    ) -> Result<SessionState, Refusal> {
        let state = self.turns.store.session(who.clone(), id.clone(), page).await?;
        state.ok_or(Refusal::NoSession)
    }

    /// What changes for the user, or in one session of theirs, after this place in the feed; from now on without one. On whichever worker
    /// it happens, it is told within 250 ms, once and in order (PROTOCOL 4.2, "A feed").
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::FeedExpired`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn events(
        &self,
        who: &Principal,
        session: Option<SessionId>,
        after: Option<FeedId>,
    ) -> Result<Events, Refusal> {
        if let Some(session) = &session {
            let page = MessagePage::none();
            self.session(who, session, page).await?;
        }
        Events::new(Arc::clone(&self.turns), who.clone(), session, after).await
    }

    /// Deletes a session: nothing of it stays but a tombstone, its running turn is stopped, and everybody who reads it is told
    /// `session_deleted` (PROTOCOL 4.2). Returns once the store has forgotten it; the substrate is told meanwhile. Asked again, it
    /// succeeds for as long as the tombstone is there.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn delete_session(&self, who: &Principal, id: &SessionId) -> Result<(), Refusal> {
        let turns = Arc::clone(&self.turns);
        let (owner, session_id) = (who.clone(), id.clone());
        let deletion = Deletion { owner, session_id, if_idle_since: None };
        let is_deleted = carried_out(async move { Ok(turns.delete(deletion).await?) }).await?;
        if is_deleted { Ok(()) } else { Err(Refusal::NoSession) }
    }

    /// Deletes every session of the user, as [`delete_session`](Self::delete_session) does it. Where it fails some may be left: ask
    /// again.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn delete_user(&self, who: &Principal) -> Result<(), Refusal> {
        let (turns, owner) = (Arc::clone(&self.turns), who.clone());
        carried_out(async move {
            loop {
                let page = SessionPage { before: None, limit: 64, archived: None };
                let SessionList { sessions, .. } =
                    turns.store.sessions(owner.clone(), page).await?;
                if sessions.is_empty() {
                    return Ok(());
                }
                // At once: a store commits together what comes together.
                let deletions = sessions.into_iter().map(|info| {
                    let (owner, session_id) = (owner.clone(), info.id);
                    turns.delete(Deletion { owner, session_id, if_idle_since: None })
                });
                futures_util::future::try_join_all(deletions).await?;
            }
        })
        .await
    }

    /// Starts a turn, or takes up the one that has its id, from its first event. The turn goes on when the stream is dropped. One that
    /// [may wait](NewTurn::queue) is queued behind the open turn of its session.
    ///
    /// # Errors
    /// [`Refusal`]: what is wrong with the request, what stands in its way, or why no turn can be started now.
    pub async fn start(
        &self,
        who: &Principal,
        session: &SessionId,
        turn: NewTurn,
    ) -> Result<Started, Refusal> {
        self.start_from(who, session, turn, Lines::After(0)).await
    }

    pub(crate) async fn start_from(
        &self,
        who: &Principal,
        session: &SessionId,
        turn: NewTurn,
        lines: Lines,
    ) -> Result<Started, Refusal> {
        let new = checked(who, session, turn)?;
        let turns = Arc::clone(&self.turns);
        let title = title::bounded(&turns.hooks.title(&new.owner, &new.message));
        let new = NewRow { title: title.or(new.title), ..new };
        // Not part of the call: who gives it up now leaves an accepted turn behind, and that one has to be driven.
        carried_out(async move {
            let may_not = if turns.driven.is_full() {
                Some(Refusal::TooMany { limit: turns.driven.limit() })
            } else if let Err(refusal) = turns.membership() {
                Some(refusal)
            } else if new.agent != DEFAULT_AGENT && !turns.catalog.may_have(&new.agent).await {
                Some(Refusal::NoAgent)
            } else {
                None
            };
            // What stands in the way of a new turn stands in nobody's way to a turn that is there.
            if let Some(refusal) = may_not {
                let at = TurnRef::new(new.session_id.clone(), new.turn_id.clone());
                let known = turns.store.find(Find::Named(new.owner.clone(), at)).await?;
                if !matches!(known, Found::Turn(_) | Found::Queued(_)) {
                    return Err(refusal);
                }
            }
            let (row, cause) = match turns.settled(|store| store.accept(new.clone())).await? {
                Accepted::New(row) => {
                    turns.observers.accepted(&row.turn);
                    (row, Cause::Accepted)
                }
                Accepted::Known(row) => (row, Cause::Resumed),
                Accepted::Queued(queued) => return Ok(Started::Queued(queued)),
                Accepted::QueueFull => return Err(Refusal::QueueFull { limit: MAX_QUEUED }),
                Accepted::Removed => return Err(Refusal::Removed),
                Accepted::Conflict => return Err(Refusal::Conflict),
                Accepted::Running { turn_id } => return Err(Refusal::Running { turn_id }),
                Accepted::NoSession => return Err(Refusal::NoSession),
                Accepted::NoParent => return Err(Refusal::NoParent),
                Accepted::Refused(veto) => return Err(Refusal::Vetoed(veto)),
            };
            turns.take_up(row, lines, cause, true).await.map(Started::Stream)
        })
        .await
    }

    /// Takes up a turn after the first `after` events of its body. Never starts an agent: where that is due, the attendant
    /// does it.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Removed`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn resume(
        &self,
        who: &Principal,
        at: &TurnRef,
        after: u64,
    ) -> Result<Started, Refusal> {
        match self.found(who, at).await? {
            Found::Queued(queued) => Ok(Started::Queued(queued)),
            found => {
                let row = turn_of(found)?;
                self.resume_row(row, Lines::After(after)).await.map(Started::Stream)
            }
        }
    }

    /// Edits a turn for as long as it is queued, and says how it waits now. What it is known by stays what its first request said.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NoAgent`], [`Refusal::Started`], [`Refusal::Removed`], [`Refusal::NoSession`],
    /// [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn edit_queued(
        &self,
        who: &Principal,
        at: &TurnRef,
        message: Option<String>,
        agent: Option<String>,
    ) -> Result<QueuedTurn, Refusal> {
        if message.is_none() && agent.is_none() {
            return Err(Refusal::Invalid(
                "message or agent must be there to be changed".to_owned(),
            ));
        }
        check(message.as_deref(), agent.as_deref())?;
        if let Some(agent) = &agent
            && !self.turns.catalog.may_have(agent).await
        {
            return Err(Refusal::NoAgent);
        }
        match self.change_queued(who, at, QueueChange::Edit { message, agent }).await? {
            QueueChanged::Edited(queued) => Ok(queued),
            QueueChanged::Removed => Err(Refusal::Removed),
            QueueChanged::Started => Err(Refusal::Started),
            QueueChanged::NoTurn => Err(Refusal::NoTurn),
            QueueChanged::NoSession => Err(Refusal::NoSession),
        }
    }

    /// Removes a turn for as long as it is queued: it never runs. One that was removed before stays so.
    ///
    /// # Errors
    /// [`Refusal::Started`], [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn remove_queued(&self, who: &Principal, at: &TurnRef) -> Result<(), Refusal> {
        match self.change_queued(who, at, QueueChange::Remove).await? {
            QueueChanged::Edited(_) | QueueChanged::Removed => Ok(()),
            QueueChanged::Started => Err(Refusal::Started),
            QueueChanged::NoTurn => Err(Refusal::NoTurn),
            QueueChanged::NoSession => Err(Refusal::NoSession),
        }
    }

    async fn change_queued(
        &self,
        who: &Principal,
        at: &TurnRef,
        change: QueueChange,
    ) -> Result<QueueChanged, Refusal> {
        let (turns, who, at) = (Arc::clone(&self.turns), who.clone(), at.clone());
        carried_out(async move {
            let changed =
                turns.settled(|store| store.change_queued(who.clone(), at.clone(), change.clone()));
            Ok(changed.await?)
        })
        .await
    }

    /// Takes up a turn from its first event, and tells its live lines also where its answer is saved, for as long as its log is
    /// there: for encoders, whose own cursor counts what they make of these lines.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn live(&self, who: &Principal, at: &TurnRef) -> Result<TurnStream, Refusal> {
        let row = self.row(who, at).await?;
        self.resume_row(row, Lines::Live).await
    }

    pub(crate) async fn resume_row(
        &self,
        row: TurnRow,
        lines: Lines,
    ) -> Result<TurnStream, Refusal> {
        let turns = Arc::clone(&self.turns);
        carried_out(async move { turns.take_up(row, lines, Cause::Resumed, false).await }).await
    }

    /// A turn of the user's and those that share its parent.
    ///
    /// # Errors
    /// [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn siblings(&self, who: &Principal, at: &TurnRef) -> Result<Siblings, Refusal> {
        let siblings = self.turns.store.siblings(who.clone(), at.clone()).await?;
        siblings.ok_or(Refusal::NoTurn)
    }

    /// The newest turn of the user's that has this `turnId`, in the session of this name where one is given.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn of_turn_id(
        &self,
        who: &Principal,
        session: Option<&str>,
        turn_id: &str,
    ) -> Result<TurnRow, Refusal> {
        if let Some(name) = session {
            let session_id = self.named(who, name).await?.ok_or(Refusal::NoSession)?;
            return self.row(who, &TurnRef::new(session_id, turn_id)).await;
        }
        match self.turns.store.find(Find::OfUser(who.clone(), turn_id.to_owned())).await? {
            Found::Turn(row) => Ok(row),
            _ => Err(Refusal::NoTurn),
        }
    }

    /// Gives a turn one more `turnId`, under which it is found: the id that a front end gives the response in which it goes on. One that
    /// the session has already means what it did, and where there is no such turn nothing changes. The newest
    /// [`MAX_NAMES`](crate::store::MAX_NAMES) of a turn are kept.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn name_turn(
        &self,
        who: &Principal,
        at: &TurnRef,
        name: String,
    ) -> Result<(), Refusal> {
        check_turn_id(&name)?;
        let name = |store| ChatStore::name_turn(store, who.clone(), at.clone(), name.clone());
        Ok(self.turns.settled(name).await?)
    }

    /// The turn of an execution, where it is the user's.
    ///
    /// # Errors
    /// [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn of_execution(&self, who: &Principal, id: ExecutionId) -> Result<TurnRow, Refusal> {
        match self.turns.store.find(Find::Execution(id)).await? {
            Found::Turn(row) if row.turn.owner == *who => Ok(row),
            _ => Err(Refusal::NoTurn),
        }
    }

    /// Stops a turn, whoever drives it, and waits up to 10 s for its end. What waits behind it waits on, until another turn of the session
    /// is accepted.
    ///
    /// # Errors
    /// [`Refusal::Queued`], [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn stop(&self, who: &Principal, at: &TurnRef) -> Result<Stopped, Refusal> {
        let (turns, row) = (Arc::clone(&self.turns), self.row(who, at).await?);
        let execution_id = row.turn.execution_id.clone();
        let state = carried_out(turns.stop(row)).await?;
        Ok(Stopped { execution_id, state })
    }

    /// Answers a question of a running agent (PROTOCOL 3.6, and 4.2, "Questions and inputs"): accepted, declined or cancelled, with data
    /// as JSON. Returns once the answer is in the log of the execution; of all answers one is taken, and the same one may be given again.
    ///
    /// What is wanted is noted before it is passed on, and is passed on although this call fails with [`Refusal::Substrate`] or is
    /// dropped, for as long as the turn is open.
    ///
    /// # Errors
    /// [`Refusal::OtherAnswer`], [`Refusal::InteractionGone`], [`Refusal::NoInteraction`], [`Refusal::InvalidAnswer`],
    /// [`Refusal::Invalid`], [`Refusal::TooManyWishes`], [`Refusal::Substrate`]; [`Refusal::Queued`], [`Refusal::Removed`],
    /// [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn answer(
        &self,
        who: &Principal,
        at: &TurnRef,
        interaction: &str,
        outcome: Outcome,
        data: Option<&str>,
    ) -> Result<(), Refusal> {
        if !is_id(interaction) {
            return Err(Refusal::NoInteraction);
        }
        if !outcome.is_answer() {
            let must = "outcome must be accepted, declined or cancelled";
            return Err(Refusal::Invalid(must.to_owned()));
        }
        if data.is_some_and(|data| Json::verify(data).is_err()) {
            return Err(Refusal::Invalid("data must be JSON".to_owned()));
        }
        let (interaction, data) = (interaction.to_owned(), data.map(str::to_owned));
        self.wish(who, at, Wish::Answer { interaction, outcome, data }).await
    }

    /// Puts a message into a running turn whose agent takes it (PROTOCOL 3.6). Returns once it is in the log of the execution; the same
    /// message under the same id may be sent again. One that the agent has not had when the turn ends becomes a turn of its own, of
    /// which the id is the `turnId`.
    ///
    /// Noted and passed on as [`answer`](Self::answer) does it.
    ///
    /// # Errors
    /// [`Refusal::NoInput`], [`Refusal::InputConflict`], [`Refusal::InputTooLate`], [`Refusal::TooManyWishes`], [`Refusal::Invalid`],
    /// [`Refusal::InvalidAnswer`], [`Refusal::Substrate`]; [`Refusal::Queued`], [`Refusal::Removed`], [`Refusal::NoSession`],
    /// [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn input(
        &self,
        who: &Principal,
        at: &TurnRef,
        id: &str,
        message: &str,
    ) -> Result<(), Refusal> {
        if !is_id(id) {
            return Err(Refusal::Invalid("id must be 1 to 128 of A-Z a-z 0-9 : _ -".to_owned()));
        }
        check(Some(message), None)?;
        let (id, message) = (id.to_owned(), message.to_owned());
        self.wish(who, at, Wish::Input { id, message }).await
    }

    async fn wish(&self, who: &Principal, at: &TurnRef, wish: Wish) -> Result<(), Refusal> {
        let (turns, who, at) = (Arc::clone(&self.turns), who.clone(), at.clone());
        carried_out(async move {
            let noted = turns.settled(|store| store.intend(who.clone(), at.clone(), wish.clone()));
            match noted.await? {
                Intended::Noted(intent) => turns.pass_on(&intent).await,
                Intended::Had => Ok(()),
                // Who has answered before is told so, and anybody else that it is over.
                Intended::Ended(row) => {
                    turns.ask_substrate(&row.turn.execution_id, &who.user_id, &wish).await.1
                }
                Intended::Full => Err(Refusal::TooManyWishes { limit: Some(wish.limit()) }),
                Intended::Queued => Err(Refusal::Queued),
                Intended::Removed => Err(Refusal::Removed),
                Intended::NoTurn => Err(Refusal::NoTurn),
                Intended::NoSession => Err(Refusal::NoSession),
            }
        })
        .await
    }

    /// The questions of a turn that are pending at this moment, each as the data of its `interaction`, as the substrate says; and whether
    /// messages can be put into it. Nothing where the turn has ended or was not begun.
    ///
    /// # Errors
    /// [`Refusal::Substrate`], and those of [`turn`](Self::turn).
    pub async fn pending(&self, who: &Principal, at: &TurnRef) -> Result<Pending, Refusal> {
        let row = self.row(who, at).await?;
        if row.state != TurnState::Open {
            return Ok(Pending::default());
        }
        match self.turns.agents.status(&row.turn.execution_id).await {
            Ok(status) => Ok(Pending {
                questions: status.pending.iter().map(ToString::to_string).collect(),
                accepts_input: status.accepts_input,
            }),
            Err(Error::Lost(_)) => Ok(Pending::default()),
            Err(error) => Err(Refusal::Substrate(error.into())),
        }
    }

    /// Whether messages can be put into a turn: it is open, and its agent takes them, as the substrate told last.
    pub async fn accepts_input(&self, row: &TurnRow) -> bool {
        row.state == TurnState::Open
            && self.turns.catalog.what_it_takes(&row.turn.agent).await.input
    }

    /// A turn of the user.
    ///
    /// # Errors
    /// [`Refusal::NoSession`], [`Refusal::NoTurn`], [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn turn(&self, who: &Principal, at: &TurnRef) -> Result<Turn, Refusal> {
        Ok(self.row(who, at).await?.turn)
    }

    /// What a turn may be answered by, as the substrate tells it.
    ///
    /// # Errors
    /// [`Refusal::Substrate`] where it does not answer within 5 s.
    pub async fn agents(&self) -> Result<AgentList, Refusal> {
        self.turns.catalog.ask().await
    }

    /// Whether turns can be started: the store can be read and written, the substrate answers and its log is the store's, and the
    /// process is not shutting down. Asks the store alone; of the rest it tells what the attendant, which asks every five seconds,
    /// last saw.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Refusal> {
        self.turns.membership()?;
        let trouble = self.turns.substrate_trouble.what().or(self.turns.store_trouble.what());
        if let Some(why) = trouble {
            return Err(Refusal::NotReady(why.to_owned()));
        }
        self.check().await
    }

    /// Whether the store can be used.
    ///
    /// # Errors
    /// [`Refusal::Store`], [`Refusal::Busy`].
    pub async fn check(&self) -> Result<(), Refusal> {
        Ok(self.turns.store.check().await?)
    }

    /// How many of the turns that this process drives wait for an answer to a question.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.turns.driven.waiting()
    }

    /// How many turns this process drives.
    #[must_use]
    pub fn running(&self) -> usize {
        self.turns.driven.len()
    }

    /// Waits until this process drives no turn. Cancel: safe.
    pub async fn drained(&self) {
        self.turns.driven.empty().await;
    }

    /// Begins to end: returns at once, and from now on no turn is started or taken over. A body that is not read is cut after 1 s in
    /// all, so that its turn can end. Turns that still run after `grace` are cut: they stay open, and the next process takes them
    /// up. See [`ended`](Self::ended).
    pub fn begin_shutdown(&self, grace: Duration) {
        self.turns.shutting_down.cancel();
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            // Either way: those that read along for a client have no end of their own.
            let _ = timeout(grace, turns.driven.empty()).await;
            turns.cut.cancel();
        });
    }

    /// Waits until every driver is done and the attendant has let go of the store, which is closed then. To be called after
    /// [`begin_shutdown`](Self::begin_shutdown); without it, it waits for ever.
    pub async fn ended(&self) -> Ended {
        self.turns.shutting_down.cancelled().await;
        self.turns.driven.empty().await;
        self.turns.attempts.close();
        self.turns.attempts.wait().await;
        let open = self.turns.left_open().await;
        self.turns.store.close().await;
        Ended { open }
    }

    #[cfg(feature = "axum")]
    pub(crate) fn sign_ins(&self) -> Option<&dyn crate::store::SignIns> {
        self.turns.store.sign_ins()
    }

    pub(crate) async fn row(&self, who: &Principal, at: &TurnRef) -> Result<TurnRow, Refusal> {
        turn_of(self.found(who, at).await?)
    }

    async fn found(&self, who: &Principal, at: &TurnRef) -> Result<Found, Refusal> {
        Ok(self.turns.store.find(Find::Named(who.clone(), at.clone())).await?)
    }
}

/// The turn that was found, if it has begun.
fn turn_of(found: Found) -> Result<TurnRow, Refusal> {
    match found {
        Found::Turn(row) => Ok(row),
        Found::Queued(_) => Err(Refusal::Queued),
        Found::Removed => Err(Refusal::Removed),
        Found::NoTurn => Err(Refusal::NoTurn),
        Found::NoSession | Found::Gone => Err(Refusal::NoSession),
    }
}

impl fmt::Debug for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("running", &self.running()).finish_non_exhaustive()
    }
}

/// Runs `work` to its end, also where the caller gives up.
async fn carried_out<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|_| Refusal::Broke)?
}

fn check_turn_id(turn_id: &str) -> Result<(), Refusal> {
    let is_turn_id = (1..=160).contains(&turn_id.len())
        && turn_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte));
    let rule = "turnId must be 1 to 160 of A-Z a-z 0-9 : _ -";
    if is_turn_id { Ok(()) } else { Err(Refusal::Invalid(rule.to_owned())) }
}

/// What a client asks for, checked (PROTOCOL 4.2).
fn checked(who: &Principal, session: &SessionId, turn: NewTurn) -> Result<NewRow, Refusal> {
    let NewTurn { turn_id, message, agent, after, replaces, client_id, queue } = turn;
    check_turn_id(&turn_id)?;
    let agent = agent.unwrap_or_else(|| DEFAULT_AGENT.to_owned());
    check(Some(&message), Some(&agent))?;
    let at = TurnRef::new(session.clone(), turn_id);
    Ok(NewRow { after, replaces, client_id, queue, ..NewRow::new(who.clone(), at, message, agent) })
}

/// What a turn says and whom it asks, where that is given.
fn check(message: Option<&str>, agent: Option<&str>) -> Result<(), Refusal> {
    if message.is_some_and(|message| message.trim().is_empty()) {
        return Err(Refusal::Invalid("message must not be blank".to_owned()));
    }
    if !agent.is_none_or(is_name) {
        return Err(Refusal::Invalid("agent must be 1 to 64 of A-Z a-z 0-9 . _ -".to_owned()));
    }
    Ok(())
}

/// Names the turn in the answer to each of its requests.
pub(crate) const X_TURN_ID: http::HeaderName = http::HeaderName::from_static("x-turn-id");

/// Which of a turn's lines a client is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Those after so many events; of a turn that is saved, its replay where that is 0.
    After(u64),
    /// All, live for as long as the log is there.
    Live,
}

impl Lines {
    /// How many are left out.
    pub(crate) fn after(self) -> u64 {
        match self {
            Lines::After(events) => events,
            Lines::Live => 0,
        }
    }
}

/// What a turn that is asked for comes to.
#[derive(Debug)]
pub enum Started {
    /// Its lines.
    Stream(TurnStream),
    /// It waits behind others. Asked for again once it has begun, it is a stream.
    Queued(QueuedTurn),
}

impl Started {
    /// The lines of a turn that has begun.
    ///
    /// # Errors
    /// [`Refusal::Queued`] where it has not.
    pub fn stream(self) -> Result<TurnStream, Refusal> {
        match self {
            Started::Stream(stream) => Ok(stream),
            Started::Queued(_) => Err(Refusal::Queued),
        }
    }
}

/// A turn's lines for a client.
#[derive(Debug)]
pub struct TurnStream {
    /// The execution that is read.
    pub execution_id: ExecutionId,
    /// The client's own name for the turn.
    pub turn_id: String,
    /// The lines (PROTOCOL 2.1).
    pub body: TurnBody,
}

impl TurnStream {
    /// The answer to a client, with all headers that it needs: see [`TurnBody::into_response`]; and `X-Turn-Id`.
    #[must_use]
    pub fn into_response(self) -> http::Response<TurnBody> {
        let mut response = self.body.into_response();
        // It is 1 to 160 of `A-Za-z0-9:_-`.
        let id = http::HeaderValue::from_str(&self.turn_id);
        response.headers_mut().extend(id.ok().map(|id| (X_TURN_ID, id)));
        response
    }
}

/// What is asked in a turn at some moment, and whether it takes messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pending {
    /// The pending questions, each as the data of its `interaction`; the oldest first.
    pub questions: Vec<String>,
    /// Whether messages can be put into it.
    pub accepts_input: bool,
}

/// What became of a turn that was to be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Its execution.
    pub execution_id: ExecutionId,
    /// How it ended; [`TurnState::Open`] where its end has not come in time.
    pub state: TurnState,
}

/// What a [`Chat`] that has ended leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Turns that it drove and that have not ended: they were cut, or the store took neither their answer nor why there is none.
    /// Whoever opens the store next takes them up. They come to an answer where the substrate still has their log.
    pub open: usize,
}

/// Makes a [`Chat`].
#[must_use]
pub struct ChatBuilder {
    store: Box<dyn ChatStore>,
    agents: SandboxClient,
    hooks: Box<dyn ErasedHooks>,
    observers: Observers,
    max_turns: usize,
    sweep_every: Duration,
    history: HistoryLimits,
    session_ids: Box<dyn Fn() -> String + Send + Sync>,
    retention: Option<Duration>,
}

impl ChatBuilder {
    /// What the product does with its turns. Default: nothing.
    pub fn hooks(mut self, hooks: impl Hooks) -> ChatBuilder {
        self.hooks = Box::new(hooks);
        self
    }

    /// One more that watches turns.
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> ChatBuilder {
        self.observers.0.push(observer);
        self
    }

    /// How many turns this process drives at once. Default: 4,096; beyond it: 503 `too_many_turns`. Turns that wait for an answer to a
    /// question do not count, up to 20,000 of them.
    pub fn max_turns(mut self, limit: usize) -> ChatBuilder {
        self.max_turns = limit;
        self
    }

    /// How often the attendant looks for turns that nobody drives. Default: 30 s.
    pub fn sweep_every(mut self, interval: Duration) -> ChatBuilder {
        self.sweep_every = interval;
        self
    }

    /// How much of what was said goes with a run. Default: 50 turns, 256 KiB.
    pub fn history(mut self, limits: HistoryLimits) -> ChatBuilder {
        self.history = limits;
        self
    }

    /// For how long a session is kept in which nothing is accepted, saved or ended; then the attendant deletes it. Default: for ever.
    pub fn retention(mut self, time: Duration) -> ChatBuilder {
        self.retention = Some(time);
        self
    }

    /// Where ids of new sessions come from: visible ASCII, no id twice. Default: UUIDs of version 7, which sort by time.
    pub fn session_ids(mut self, ids: impl Fn() -> String + Send + Sync + 'static) -> ChatBuilder {
        self.session_ids = Box::new(ids);
        self
    }

    /// Joins the store with the id of the substrate's log, and gives the chat and its [`Attendant`], which must be spawned.
    ///
    /// Succeeds while the substrate cannot be reached: the attendant joins then as soon as it can, and until then no turn is
    /// started (503 `unavailable`).
    ///
    /// # Errors
    /// [`BuildError`]: a living worker of the same store has another log, or the store cannot be used.
    pub async fn build(self) -> Result<(Chat, Attendant), BuildError> {
        let turns = Arc::new(Turns {
            store: self.store,
            catalog: Catalog::new(self.agents.clone()),
            agents: self.agents,
            hooks: self.hooks,
            observers: self.observers,
            history: self.history,
            session_ids: self.session_ids,
            driven: Registry::new(self.max_turns),
            membership: watch::Sender::new(Membership::Unattended),
            substrate_trouble: Trouble::default(),
            store_trouble: Trouble::default(),
            unattended: Notify::new(),
            changes: Changes::default(),
            deleted: Notify::new(),
            undecided: Notify::new(),
            retention: self.retention,
            log_doubted: Notify::new(),
            attempts: TaskTracker::new(),
            shutting_down: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        let attendant = Attendant::new(Arc::clone(&turns), self.sweep_every).await?;
        Ok((Chat { turns }, attendant))
    }
}

/// Without the store, which may be anyone's.
impl fmt::Debug for ChatBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatBuilder").field("agents", &self.agents).finish_non_exhaustive()
    }
}

/// Why there is no [`Chat`].
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Another process on the same store runs its turns at another log: each would find the other's turns lost.
    #[error(
        "join the store: a living process uses it with another log; \
        give all of them the same substrate, or this one a store of its own"
    )]
    OtherLog,
    /// The store cannot be used.
    #[error("join the store")]
    Store(#[source] StoreError),
}
