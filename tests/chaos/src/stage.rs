//! The processes: databases, substrates and servers, each of which can be killed, stopped and started again.

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use tempfile::TempDir;
use turnkit_testkit::{postgres::PostgresServer, redis::RedisServer};

use crate::{
    balancer::Balancer,
    plant::{Bug, Planter},
};

const SUBSTRATES: usize = 3;
const SERVERS: usize = 2;
/// How long a process may take to end that was told to.
const ENDED: Duration = Duration::from_secs(40);
/// How long a process may take until it obeys what it is told.
const SETTLED: Duration = Duration::from_secs(5);
/// How long a server lets turns run that is told to end: less than an answer takes, so some are given up.
const GRACE: &str = "1s";
/// The database of the servers in PostgreSQL.
const DATABASE: &str = "chaos";

/// Where servers keep their turns.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    Postgres,
    Sqlite,
}

/// A process of ours at an address that stays.
pub(crate) struct Process {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    child: Option<Child>,
    started: Option<Instant>,
}

impl Process {
    pub(crate) fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        let inherited = env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("TURNKIT_")) {
            command.env_remove(name);
        }
        command.args(&self.arguments).envs(self.environment.iter().cloned()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("start {}", self.name))?);
        self.started = Some(Instant::now());
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it has had the time to listen to signals.
    pub(crate) fn is_settled(&self) -> bool {
        self.started.is_some_and(|since| since.elapsed() > SETTLED)
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let child = self.child.as_ref().context("it runs")?;
        let sent =
            Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status()?;
        ensure!(sent.success(), "cannot send SIG{name} to {}", self.name);
        Ok(())
    }

    /// Waits for the end of one that was told to, and says what was wrong with it.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        let mut child = self.child.take().context("it runs")?;
        let since = Instant::now();
        while since.elapsed() < ENDED {
            if let Some(status) = child.try_wait()? {
                let wrong = || format!("{} ended with {status} at SIGTERM", self.name);
                return Ok((!status.success()).then(wrong));
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        Ok(Some(format!("{} did not end within {} s of SIGTERM", self.name, ENDED.as_secs())))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever went wrong before, nothing is left behind.
        self.kill().ok();
    }
}

/// Everything that runs.
pub(crate) struct Stage {
    pub(crate) servers: Vec<Process>,
    pub(crate) substrates: Vec<Process>,
    pub(crate) redis: RedisServer,
    pub(crate) postgres: Option<PostgresServer>,
    /// A synchronous standby of that, until it takes its place.
    standby: Option<PostgresServer>,
    pub(crate) planter: Option<Planter>,
    pub(crate) before_servers: Balancer,
    pub(crate) before_substrates: Balancer,
    directory: TempDir,
}

impl Stage {
    pub(crate) async fn set(program: &Path, database: Database, bug: Option<Bug>) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let redis = RedisServer::start_lazy();
        // It waits for the disk, as one in production does.
        let postgres = (database == Database::Postgres).then(|| PostgresServer::with(&[]));
        let (mut url, mut planter, mut standby) = (format!("sqlite:{}", path("data")), None, None);
        if let Some(postgres) = &postgres {
            postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"));
            url = postgres.url(DATABASE);
            let address = postgres.address().to_string();
            if let Some(bug) = bug {
                let between = Planter::start(bug, postgres.address()).await?;
                url = url.replace(&address, &between.address.to_string());
                planter = Some(between);
            } else {
                let second = postgres.synchronous_standby();
                // As often as commits that wait for it are missed: by default it looks for its primary every five seconds.
                second.sql("postgres", "ALTER SYSTEM SET wal_retrieve_retry_interval = '200ms'");
                second.sql("postgres", "SELECT pg_reload_conf()");
                url = url.replace(&address, &format!("{address},{}", second.address()));
                standby = Some(second);
            }
        }
        let process = |name: String, arguments: &[&str], agent: &[&str]| {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let listen = ["--listen".to_owned(), address.to_string()];
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).chain(listen);
            let agent = agent.iter().map(|argument| (*argument).to_owned());
            Ok::<_, anyhow::Error>(Process {
                log: directory.path().join(format!("{name}.log")),
                name,
                program: program.to_owned(),
                arguments: arguments.chain(agent).collect(),
                environment: vec![("TURNKIT_DATABASE".to_owned(), url.clone())],
                address,
                child: None,
                started: None,
            })
        };
        let (runs, this) = (path("runs"), env::current_exe()?.display().to_string());
        File::create(&runs)?;
        let at = redis.url();
        let substrate = ["substrate", "--log", &at, "--grace", GRACE];
        let agent = ["--command", &this, "agent", &runs];
        let mut substrates = (0..SUBSTRATES)
            .map(|number| process(format!("substrate-{number}"), &substrate, &agent))
            .collect::<Result<Vec<_>>>()?;
        for substrate in &mut substrates {
            substrate.environment.clear();
        }
        let before_substrates =
            Balancer::start(substrates.iter().map(|process| process.address).collect()).await?;
        let at = format!("http://{}", before_substrates.address);
        let serve = ["serve", "--substrate", &at, "--grace", GRACE];
        let servers = (0..SERVERS)
            .map(|number| process(format!("server-{number}"), &serve, &[]))
            .collect::<Result<Vec<_>>>()?;
        let before_servers =
            Balancer::start(servers.iter().map(|process| process.address).collect()).await?;
        let mut stage = Self {
            servers,
            substrates,
            redis,
            postgres,
            standby,
            planter,
            before_servers,
            before_substrates,
            directory,
        };
        for process in stage.substrates.iter_mut().chain(&mut stage.servers) {
            process.start()?;
        }
        Ok(stage)
    }

    /// Each run of the agent, as it has written it down itself: the execution, and the run's own name.
    pub(crate) fn runs(&self) -> Result<Vec<(String, String)>> {
        let runs = fs::read_to_string(self.directory.path().join("runs"))?;
        let runs = runs.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(runs.map(|(execution, run)| (execution.to_owned(), run.to_owned())).collect())
    }

    /// The primary of PostgreSQL dies, and its standby takes its place; says whether there was one.
    pub(crate) fn fail_over(&mut self) -> bool {
        let Some(standby) = self.standby.take() else {
            return false;
        };
        if let Some(mut primary) = self.postgres.take() {
            primary.kill();
        }
        standby.promote();
        self.postgres = Some(standby);
        true
    }

    /// Runs statements in the servers' database, where that is in PostgreSQL.
    pub(crate) fn sql(&self, statements: &str) -> Option<String> {
        self.postgres.as_ref().map(|postgres| postgres.sql(DATABASE, statements))
    }

    /// Everything runs again.
    pub(crate) fn mend(&mut self) -> Result<()> {
        for process in self.substrates.iter_mut().chain(&mut self.servers) {
            if !process.is_up() {
                process.start()?;
            }
        }
        Ok(())
    }

    /// Ends the servers and then the substrates, and says which did not end as they should.
    pub(crate) fn end(&mut self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for process in self.servers.iter_mut().chain(&mut self.substrates) {
            process.signal("TERM")?;
            wrong.extend(process.ended()?);
        }
        Ok(wrong)
    }

    /// Keeps all logs for whoever wants to know why.
    pub(crate) fn keep(self) -> PathBuf {
        let Self { directory, .. } = self;
        directory.keep()
    }
}
