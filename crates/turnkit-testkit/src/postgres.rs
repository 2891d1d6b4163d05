//! A PostgreSQL of one's own.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::keeper::Keeper;

/// A PostgreSQL server on a free port of the loopback, with a cluster of its own in a temporary folder. It goes with this process, or when
/// it is dropped.
///
/// A process of root starts it as the user `postgres`, or `nobody` where there is none: PostgreSQL refuses root.
#[derive(Debug)]
pub struct PostgresServer {
    address: SocketAddr,
    folder: PathBuf,
    programs: PathBuf,
    options: Vec<String>,
    /// None while it is stopped.
    keeper: Option<Keeper>,
}

impl PostgresServer {
    /// A server that does not wait for the disk: what it has outlives its own death, and not that of the machine.
    ///
    /// # Panics
    /// Where PostgreSQL is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&["fsync=off"])
    }

    /// A server with these settings, each `name=value`.
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn with(settings: &[&str]) -> Self {
        let (mut server, listener) = Self::prepared(settings);
        let mut initdb = server.program("initdb");
        initdb.args(["--username=turnkit", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        run(initdb.args(["--no-sync", "--no-instructions", "-D"]).arg(server.data()));
        drop(listener);
        server.launch();
        server
    }

    /// A server that speaks TLS with this certificate and key, both as PEM.
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn start_with_tls(certificate: &str, key: &str) -> Self {
        let mut server = Self::start();
        server.kill();
        for (name, text) in [("certificate", certificate), ("key", key)] {
            let path = server.folder.join(name);
            fs::write(&path, text).expect("a file of TLS");
            run(Command::new("chmod").arg("600").arg(&path));
            if let Some(user) = unprivileged() {
                run(Command::new("chown").arg(user).arg(&path));
            }
            let option = if name == "key" { "ssl_key_file" } else { "ssl_cert_file" };
            server.options.extend(["-c".to_owned(), format!("{option}={}", path.display())]);
        }
        server.options.extend(["-c".to_owned(), "ssl=on".to_owned()]);
        server.launch();
        server
    }

    /// A standby of this server, without which it commits nothing from now on (`synchronous_standby_names`).
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn synchronous_standby(&self) -> Self {
        let (mut standby, listener) = Self::prepared(&[]);
        standby.options.clone_from(&self.options);
        let mut copy = standby.program("pg_basebackup");
        let primary = self.address.port();
        let at = format!("host=127.0.0.1 port={primary} user=turnkit application_name=standby");
        copy.args([
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--no-sync",
            "--dbname",
            &at,
            "-D",
        ]);
        run(copy.arg(standby.data()));
        drop(listener);
        standby.launch();
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'standby'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        let is_synchronous = (0..1_000).any(|_| {
            thread::sleep(Duration::from_millis(20));
            self.sql("postgres", "SELECT sync_state FROM pg_stat_replication").trim() == "sync"
        });
        assert!(is_synchronous, "the standby does not follow");
        standby
    }

    /// Makes a standby the primary, and waits until it is.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote()").trim(), "t");
    }

    /// A PgBouncer before this server, which gives each transaction whichever session is free.
    ///
    /// # Panics
    /// Where there is no `pgbouncer`, or it does not start.
    #[must_use]
    pub fn pooler(&self) -> Pooler {
        let (kept, listener) = Self::prepared(&[]);
        let (folder, address) = (kept.folder.clone(), kept.address);
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=turnkit\n\
            [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n",
            self.address.port(),
            address.port()
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, configuration).expect("a file for PgBouncer");
        let paths = env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = env::split_paths(&paths).collect();
        folders.push("/usr/sbin".into());
        let program = folders.into_iter().map(|folder| folder.join("pgbouncer"));
        let program = program.into_iter().find(|program| program.exists());
        let program = program.expect("PgBouncer is not installed: apt-get install pgbouncer");
        let mut pooler = self.as_somebody(&program);
        pooler.arg("--quiet").arg(file);
        drop(listener);
        let keeper = Keeper::start(&folder, "KILL", &pooler, Stdio::null());
        let is_up = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(20));
            TcpStream::connect(address).is_ok()
        });
        assert!(is_up, "PgBouncer does not start");
        Pooler { address, _keeper: keeper }
    }

    /// A server whose cluster is still to be made, and what keeps its port until then.
    fn prepared(settings: &[&str]) -> (Self, TcpListener) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            env::temp_dir().join(format!("turnkit-postgres-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for PostgreSQL");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let options = settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]);
        let (options, programs) = (options.collect(), programs());
        let server = Self { address, folder, programs, options, keeper: None };
        if let Some(user) = unprivileged() {
            run(Command::new("chown").arg(user).arg(&server.folder));
        }
        (server, listener)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new database, and the URL of it.
    #[must_use]
    pub fn database(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("database_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://turnkit@{}/{database}?sslmode=disable", self.address)
    }

    /// Runs statements in a database, as somebody else would, and gives what they give: a line for each row, with `|` between columns.
    ///
    /// # Panics
    /// Where one of them fails.
    #[expect(clippy::must_use_candidate, reason = "most statements give nothing")]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = self.client("psql", database);
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        let output = run(psql.args(["-v", "ON_ERROR_STOP=1", "-c", statements]));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A session of somebody else's, which lasts until it is dropped.
    ///
    /// # Panics
    /// Where there can be none.
    #[must_use]
    pub fn session(&self, database: &str) -> Session {
        let mut psql = self.client("psql", database);
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut psql = psql.expect("psql");
        let told = BufReader::new(psql.stdout.take().expect("its output"));
        Session { psql, told }
    }

    /// What it has logged since it was started.
    ///
    /// # Panics
    /// Where that cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).expect("its log")
    }

    /// All that a database holds, as statements.
    #[must_use]
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let output = run(&mut self.client("pg_dump", database));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // These hold a random word.
        let lines = text.lines().filter(|line| !line.contains("restrict "));
        lines.flat_map(|line| [line.as_bytes(), b"\n"]).flatten().copied().collect()
    }

    /// Ends it at once, as a crash does: what was committed is there when it [starts again](Self::restart).
    pub fn kill(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.kill();
        }
    }

    /// Starts it again at the same address, with what it had.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn launch(&mut self) {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        server.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
        server.args(["-c", "max_connections=500"]).args(&self.options);
        let log = fs::File::create(self.folder.join("log")).expect("a file for what it logs");
        self.keeper = Some(Keeper::start(&self.folder, "QUIT", &server, log.into()));
        let is_up = (0..1_000).any(|_| {
            thread::sleep(Duration::from_millis(20));
            let mut ready = Command::new(self.programs.join("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
            ready.status().is_ok_and(|status| status.success())
        });
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert!(is_up, "PostgreSQL does not start:\n{log}");
    }

    /// One of its programs, of a user whom it takes.
    fn program(&self, name: &str) -> Command {
        self.as_somebody(&self.programs.join(name))
    }

    /// A program that refuses root.
    fn as_somebody(&self, path: &Path) -> Command {
        let Some(user) = unprivileged() else {
            return Command::new(path);
        };
        let mut command = Command::new("setpriv");
        let group = output(Command::new("id").args(["-g", user]));
        command.arg(format!("--reuid={user}")).arg(format!("--regid={}", group.trim()));
        command.arg("--clear-groups").arg("--").arg(path).current_dir(&self.folder);
        command
    }

    fn client(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()]);
        command.args(["-U", "turnkit", "-d", database]);
        command
    }
}

/// A PgBouncer before a [`PostgresServer`]. It goes when it is dropped.
#[derive(Debug)]
pub struct Pooler {
    address: SocketAddr,
    _keeper: Keeper,
}

impl Pooler {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A session of a [`PostgresServer`].
#[derive(Debug)]
pub struct Session {
    psql: Child,
    told: BufReader<ChildStdout>,
}

impl Session {
    /// Runs statements, and waits until they are done.
    pub fn send(&mut self, statements: &str) {
        let asked = self.psql.stdin.as_mut().expect("its input");
        writeln!(asked, "{statements}\n\\echo done").expect("it listens");
        let mut line = String::new();
        while line.trim_end() != "done" {
            line.clear();
            assert!(
                self.told.read_line(&mut line).expect("its output") > 0,
                "the session has ended"
            );
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.psql.stdin.take());
        // It ends by itself, and a test that fails already is not to fail by this.
        self.psql.wait().ok();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.keeper.is_none() {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// Where PostgreSQL's programs are: Debian keeps those of a server out of the path.
fn programs() -> PathBuf {
    let paths = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&paths).collect();
    for root in ["/usr/lib/postgresql", "/usr/local/opt", "/opt/homebrew/opt"] {
        let versions = fs::read_dir(root).into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path().join("bin")));
    }
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "psql"].iter().all(|program| folder.join(program).exists())
    };
    folders.into_iter().find(has_all).expect(
        "PostgreSQL is not installed: apt-get install postgresql (its programs are looked for in PATH and /usr/lib/postgresql)",
    )
}

/// The user to become, where this process is root's.
fn unprivileged() -> Option<&'static str> {
    if output(Command::new("id").arg("-u")).trim() != "0" {
        return None;
    }
    let has = |user: &&str| {
        Command::new("id").arg(user).output().is_ok_and(|output| output.status.success())
    };
    Some(["postgres", "nobody"].into_iter().find(has).expect("a user who is not root"))
}

fn output(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).expect("UTF-8")
}

fn run(command: &mut Command) -> Output {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    if !output.status.success() {
        let mut told = String::new();
        for text in [&output.stdout, &output.stderr] {
            write!(told, "\n{}", String::from_utf8_lossy(text)).expect("a string takes all");
        }
        panic!("{program} fails:{told}");
    }
    output
}
