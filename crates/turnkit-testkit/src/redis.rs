//! A Redis of one's own.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::keeper::Keeper;

/// A `redis-server` on a free port of the loopback, in a folder of its own. It goes with this process, or when it is dropped.
///
/// It keeps nothing on disk but by [`save`](Self::save) or where [`restart`](Self::restart) comes after
/// [`start_durable`](Self::start_durable) or [`start_lazy`](Self::start_lazy).
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    folder: PathBuf,
    /// When what is written to its file is to reach the disk, as `appendfsync` says; none where it has no file.
    fsync: Option<&'static str>,
    /// The port on which the nodes of its cluster meet, where it is one.
    cluster_port: Option<u16>,
    /// None while it is killed.
    keeper: Option<Keeper>,
}

impl RedisServer {
    /// A server that forgets everything when it is killed.
    ///
    /// # Panics
    /// Where there is no `redis-server`, or it does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::with(None, false)
    }

    /// The node of a cluster, which has no slot yet.
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn start_clustered() -> Self {
        Self::with(None, true)
    }

    /// A server that writes each change to disk before it answers.
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn start_durable() -> Self {
        Self::with(Some("always"), false)
    }

    /// A server that writes each change to its file before it answers, and to the disk each second (`appendfsync everysec`).
    ///
    /// # Panics
    /// As for [`start`](Self::start).
    #[must_use]
    pub fn start_lazy() -> Self {
        Self::with(Some("everysec"), false)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Kills it as the kernel does where memory runs out.
    pub fn kill(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.kill();
        }
    }

    /// Starts it again at the same address, with what it had on disk.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// How long its file of changes is.
    ///
    /// # Panics
    /// Where it has none, since it was not started as one that does.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.changes().metadata().expect("a file of changes").len()
    }

    /// Starts it again with what it had when its file was so long: what came later is lost, as by a crash of its machine.
    ///
    /// # Panics
    /// As for [`written`](Self::written).
    pub fn restart_without_tail(&mut self, written: u64) {
        self.kill();
        self.changes().set_len(written).expect("a shorter file");
        self.launch();
    }

    /// The file that changes are appended to: the one of the newest rewrite.
    fn changes(&self) -> fs::File {
        let folder = fs::read_dir(self.folder.join("appendonlydir")).expect("a folder of changes");
        let files = folder.map(|file| file.expect("a file").path());
        let newest = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max();
        let path = newest.expect("a file of changes");
        fs::File::options().write(true).open(path).expect("a file of changes")
    }

    /// Writes all there is to disk.
    pub fn save(&self) {
        assert_eq!(self.command("SAVE"), "+OK\r\n");
    }

    /// Makes this node and `other` nodes of one cluster.
    ///
    /// # Panics
    /// Where they are none.
    pub fn meet(&self, other: &Self) {
        let (port, cluster_port) =
            (other.address.port(), other.cluster_port.expect("a node of a cluster"));
        let met =
            self.command(&format!("CLUSTER MEET {} {port} {cluster_port}", other.address.ip()));
        assert_eq!(met, "+OK\r\n");
    }

    /// Sends a command without arguments that hold spaces, and gives the raw answer.
    #[must_use]
    pub fn command(&self, command: &str) -> String {
        ask(self.address, command).expect("redis-server answers")
    }

    fn with(fsync: Option<&'static str>, is_clustered: bool) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "turnkit-redis-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder for redis-server");
        let cluster_port = is_clustered.then(|| free_address().port());
        let mut server =
            Self { address: free_address(), folder, fsync, cluster_port, keeper: None };
        server.launch();
        server
    }

    fn launch(&mut self) {
        let append_only = if self.fsync.is_some() { "yes" } else { "no" };
        let cluster = self.cluster_port.map(|port| {
            [
                "--cluster-enabled".to_owned(),
                "yes".to_owned(),
                "--cluster-port".to_owned(),
                port.to_string(),
            ]
        });
        let mut server = Command::new("redis-server");
        server.args([
            "--port",
            &self.address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ]);
        server.args(["--appendonly", append_only]);
        server.args(["--appendfsync", self.fsync.unwrap_or("no")]);
        server.args(cluster.into_iter().flatten()).arg("--dir").arg(&self.folder);
        self.keeper = Some(Keeper::start(&self.folder, "KILL", &server, Stdio::null()));
        let is_up = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(10));
            ask(self.address, "PING").is_ok_and(|answer| answer == "+PONG\r\n")
        });
        assert!(
            is_up,
            "redis-server does not start: is it installed (apt-get install redis-server)?"
        );
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.keeper.is_none() {
            fs::remove_dir_all(&self.folder).ok();
        }
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

fn ask(address: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = vec![0; 64 * 1024];
    let length = stream.read(&mut answer)?;
    answer.truncate(length);
    String::from_utf8(answer).map_err(io::Error::other)
}
