//! The demo as it is played: real processes' parts, real sockets, a real database.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use turnkit_agents::demo::Demo;
use turnkit_chat::sqlite::SqliteStore;
use turnkit_chat::store::MessagePage;
use turnkit_chat::{ChatStore as _, Principal, SessionId, StoreError};
use turnkit_client::{Client, NewTurn, TurnBody};
use turnkit_http::client::BaseUrl;
use turnkit_http::client::tls_config;
use turnkit_substrate::{Limits, ServeError, Substrate};
use turnkit_wire::{Event, kind::Class, sse};
use uuid::Uuid;

use super::Options;
use super::evidence::{Attempts, Evidence, Logged, Saved};
use super::story::Story;
use crate::database;
use crate::log::LogChoice;
use crate::metrics::Metrics;
use crate::{Agents, Server, ServerConfig, SubstrateChoice, embedded};

const TURN: &str = "demo-turn";
/// How many lines the other client gets while the first one is gone.
const AWAY: usize = 6;
/// A demo that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("make the directory {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    #[error(
        "cut the connection in the middle: the turn has ended after {0} lines; try a smaller --cut-after"
    )]
    TooShort(usize),
    #[error("take the turn up in the middle: it had ended by then; try a longer --pace")]
    TooFast,
    #[error("read the substrate's log: status {0}")]
    Log(u16),
    #[error("finish the demo within {} s", PATIENCE.as_secs())]
    Hung,
}

/// Plays the demo and tells it, and gives what was seen.
pub(super) async fn play(options: &Options, story: &mut Story) -> Result<Evidence, anyhow::Error> {
    let stage = Stage::set(options.pace).await?;
    let played = timeout(PATIENCE, stage.play(options, story)).await;
    stage.clear().await;
    played.map_err(|_| DemoError::Hung)?
}

/// What the demo is played on.
struct Stage {
    server: Server,
    substrate: Served,
    directory: Temporary,
}

impl Stage {
    async fn set(pace: Duration) -> Result<Stage, anyhow::Error> {
        let directory = Temporary::new()?;
        // The server would ask a substrate of its own without a socket between, and the demo is about HTTP.
        let agents = Agents::new("demo", Demo::new().pace(pace));
        let substrate = Served::start(agents).await?;
        let server = Server::start(config(&substrate, &directory.path)).await?;
        Ok(Stage { server, substrate, directory })
    }

    async fn play(&self, options: &Options, story: &mut Story) -> Result<Evidence, anyhow::Error> {
        let Stage { server, substrate, directory } = self;
        let database = directory.path.join(database::FILE);
        story.opening(&server.url(), &substrate.url(), &database)?;
        let client = Client::builder(server.url()).build()?;
        let session = client.create_session().await?;
        let mut evidence = clients(&client, &session, options, story).await?;
        server.drained().await;
        evidence.runs_started = substrate.substrate.stats().runs_started;
        evidence.log = read_log(substrate, &evidence.execution_id).await?;
        evidence.attempts = attempts(server.metrics());
        evidence.saved = read_database(&database, &session).await?;
        let messages = client.all_messages(&session).await?;
        evidence.served = messages
            .into_iter()
            .map(|message| Saved { role: message.role, text: message.text, status: message.status })
            .collect();
        Ok(evidence)
    }

    /// Stops everything before the directory goes, however the demo went.
    async fn clear(self) {
        self.server.stop(Duration::ZERO).await;
        self.substrate.stop().await;
    }
}

fn config(substrate: &Served, data_dir: &Path) -> ServerConfig {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (url, token) = (substrate.url(), Some(substrate.token.clone()));
    ServerConfig::new(listen, data_dir, SubstrateChoice::At { url, token })
}

/// A substrate on a loopback port.
struct Served {
    substrate: Substrate,
    address: SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn start(agents: Agents) -> Result<Served, anyhow::Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let token = embedded::secret();
        let substrate =
            embedded::build(agents, &LogChoice::Memory, Limits::default(), &token).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn({
            let substrate = substrate.clone();
            async move { substrate.serve(listener, async { drop(stopped.await) }).await }
        });
        Ok(Served { substrate, address, token, stop, serving })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn stop(self) {
        // A substrate that has gone already cannot be told.
        let _ = self.stop.send(());
        match self.serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the demo's substrate failed"),
            Err(error) => tracing::error!(%error, "the demo's substrate failed"),
        }
    }
}

/// The client that is cut off and comes back, and the one that is not disturbed.
async fn clients(
    client: &Client,
    session: &str,
    options: &Options,
    story: &mut Story,
) -> Result<Evidence, anyhow::Error> {
    let turn = NewTurn::new(TURN, options.message.clone());
    let mut lines = client.start(session, &turn).await?;
    let execution_id = lines.execution_id().unwrap_or_default().to_owned();
    story.begins(session, TURN, &execution_id)?;
    let mut cursor = 0;
    let first = take(&mut lines, 1, story, &mut cursor).await?;
    let count = watch::Sender::new(0);
    let mut counted = count.subscribe();
    let undisturbed = tokio::spawn(read_all(client.resume(session, TURN, 0).await?, count));
    let rest = take(&mut lines, options.cut_after - 1, story, &mut cursor).await?;
    drop(lines);
    story.cut(cursor)?;
    let seen = first.len() + rest.len();
    // Where the turn ends before, there is no more to wait for.
    let _ = counted.wait_for(|count| *count >= seen + AWAY).await;
    let mut lines = client.resume(session, TURN, cursor).await?;
    let missed = counted.borrow().saturating_sub(seen);
    story.comes_back(session, TURN, cursor, missed)?;
    let after = take(&mut lines, u64::MAX, story, &mut cursor).await?;
    let before = [first, rest].concat();
    let undisturbed = undisturbed.await??;
    if after.iter().chain(&undisturbed).any(is_replayed) {
        return Err(DemoError::TooFast.into());
    }
    Ok(Evidence {
        execution_id,
        cut_after: options.cut_after,
        before,
        after,
        undisturbed,
        ..Evidence::default()
    })
}

/// Takes up to `count` lines, and tells each one. The end of the turn is an error where lines are still wanted.
async fn take(
    lines: &mut TurnBody,
    count: u64,
    story: &mut Story,
    cursor: &mut u64,
) -> Result<Vec<Event>, anyhow::Error> {
    let mut taken = Vec::new();
    while (taken.len() as u64) < count {
        let Some(event) = lines.next().await? else {
            break;
        };
        let is_end = event.class().ends_body();
        *cursor += u64::from(!is_end);
        story.line(&event, (!is_end).then_some(*cursor))?;
        taken.push(event);
        if is_end && count != u64::MAX {
            return Err(DemoError::TooShort(taken.len()).into());
        }
    }
    Ok(taken)
}

/// Whether the answer came from the database, as it does once a turn has ended.
fn is_replayed(event: &Event) -> bool {
    #[derive(serde::Deserialize)]
    struct Completed {
        #[serde(default)]
        replayed: bool,
    }
    event.class() == Class::RunCompleted
        && event.data::<Completed>().is_ok_and(|completed| completed.replayed)
}

async fn read_all(
    mut lines: TurnBody,
    count: watch::Sender<usize>,
) -> Result<Vec<Event>, anyhow::Error> {
    let mut all = Vec::new();
    while let Some(event) = lines.next().await? {
        all.push(event);
        count.send_replace(all.len());
    }
    Ok(all)
}

fn attempts(metrics: &Metrics) -> Attempts {
    Attempts {
        run: metrics.attempts_run.get(),
        attach: metrics.attempts_attach.get(),
        read: metrics.attempts_read.get(),
    }
}

/// The log as the substrate tells it to anyone who asks from the first event.
async fn read_log(substrate: &Served, execution_id: &str) -> Result<Vec<Logged>, anyhow::Error> {
    let url = BaseUrl::parse(&substrate.url())?;
    let url = url.under(&["agents", "executions", execution_id, "stream"]);
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls_config()?).no_proxy().build()?;
    let mut response = client.get(url).bearer_auth(&substrate.token).send().await?;
    if !response.status().is_success() {
        return Err(DemoError::Log(response.status().as_u16()).into());
    }
    let (mut decoder, mut log) = (sse::Decoder::new(), Vec::new());
    while let Some(chunk) = response.chunk().await? {
        decoder.push(chunk);
        while let Some(event) = decoder.next_event() {
            let event = event?;
            log.push(Logged { id: decoder.last_event_id().to_owned(), event });
        }
    }
    Ok(log)
}

/// The messages as another program reads them from the file.
async fn read_database(path: &Path, session: &str) -> Result<Vec<Saved>, StoreError> {
    let store = SqliteStore::open(path)?;
    let page = MessagePage::newest(u32::MAX);
    let owner = Principal::new("local", "local");
    let state = store.session(owner, SessionId::new(session), page).await?;
    store.close().await;
    let messages = state.map(|state| state.messages).unwrap_or_default().into_iter();
    let saved = messages.map(|message| Saved {
        role: message.role.as_str().to_owned(),
        text: message.text,
        status: message.state.as_str().to_owned(),
    });
    Ok(saved.collect())
}

/// A directory that is gone afterwards.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn new() -> Result<Temporary, DemoError> {
        let path = std::env::temp_dir().join(format!("turnkit-demo-{}", Uuid::new_v4().simple()));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Temporary { path }),
            Err(error) => Err(DemoError::Directory(path, error)),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "failed to remove the demo's directory");
        }
    }
}
