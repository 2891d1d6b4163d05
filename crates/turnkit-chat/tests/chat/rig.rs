//! A chat over the store in memory and a substrate in the same process.

use std::sync::Arc;

use futures_util::stream;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use turnkit_chat::store::memory::MemoryStore;
use turnkit_chat::store::{Accepted, ChatStore as _, Claim, Claimed, MessagePage, NewRow};
use turnkit_chat::{Chat, Principal, Role, SessionId, TurnRef, TurnState};
use turnkit_id::ExecutionId;
use turnkit_sandbox::SandboxClient;
use turnkit_substrate::{Agent, AgentError, Run, Substrate};
use turnkit_wire::Event;

pub(crate) const ALL: MessagePage = MessagePage::newest(50);

/// Says four words, each when it is let to.
#[derive(Clone)]
pub(crate) struct Words(Arc<Semaphore>);

impl Agent for Words {
    fn run(
        &self,
        run: Run,
    ) -> impl futures_util::Stream<Item = Result<Event, AgentError>> + Send + 'static {
        let (gate, fails) = (Arc::clone(&self.0), run.request().message().contains("fail"));
        stream::unfold(0, move |at| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                let data =
                    json!({ "part": { "id": "p", "type": "text" }, "delta": format!("w{at} ") });
                match at {
                    0..4 => Some((Ok(Event::new("message.part.updated", &data).unwrap()), at + 1)),
                    4 if fails => Some((Err(AgentError::new("no_words", "no more words")), 5)),
                    _ => None,
                }
            }
        })
    }
}

pub(crate) struct Rig {
    pub(crate) substrate: Substrate,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) store: MemoryStore,
    pub(crate) ann: Principal,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let gate = Arc::new(Semaphore::new(0));
        let substrate = Substrate::builder().agent("default", Words(Arc::clone(&gate)));
        let substrate = substrate.build().unwrap();
        Rig { substrate, gate, store: MemoryStore::new(), ann: Principal::new("acme", "ann") }
    }

    pub(crate) fn agents(&self) -> SandboxClient {
        SandboxClient::over(self.substrate.router()).build().unwrap()
    }

    /// A turn that `worker` has accepted and claimed, and that it alone may dispatch.
    pub(crate) async fn claimed_by(
        &self,
        worker: &MemoryStore,
        session: &SessionId,
        message: &str,
    ) -> ExecutionId {
        worker.join(self.agents().log_id().await.unwrap().unwrap()).await.unwrap();
        let at = TurnRef::new(session.clone(), "t");
        let accepted = worker.accept(NewRow::new(self.ann.clone(), at, message, "default"));
        let Accepted::New(row) = accepted.await.unwrap() else { panic!("it is new") };
        let execution_id = row.turn.execution_id;
        let claim =
            Claim { execution_id: execution_id.clone(), nonce: 1, seen_epoch: 0, may_run: true };
        assert!(matches!(worker.claim(claim).await.unwrap(), Claimed::Run(_)));
        execution_id
    }

    pub(crate) async fn worker(&self) -> (Chat, JoinHandle<()>) {
        let chat = Chat::builder(self.store.beside(), self.agents());
        let (chat, attendant) = chat.build().await.unwrap();
        let attending = tokio::spawn(attendant);
        tokio::task::yield_now().await;
        (chat, attending)
    }

    pub(crate) fn runs(&self) -> u64 {
        self.substrate.stats().runs_started
    }

    pub(crate) async fn answer(
        &self,
        chat: &Chat,
        session: &SessionId,
    ) -> Option<(String, TurnState)> {
        let state = chat.session(&self.ann, session, ALL).await.unwrap();
        let answer = state.messages.into_iter().find(|message| message.role == Role::Assistant)?;
        Some((answer.text, answer.state))
    }
}
