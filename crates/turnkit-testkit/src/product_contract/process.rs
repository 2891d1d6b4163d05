//! A process of the product, which is gone when its test is.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{Launch, Product};

/// So much is shown of what a process has written.
const SHOWN: usize = 4 * 1024;

/// A process of the product, and all that it has started.
pub(super) struct Process {
    child: Child,
    /// A shell that kills the process's group once its standard input ends, as it does when this process is gone.
    keeper: Child,
    pub(super) address: SocketAddr,
    log: PathBuf,
}

/// Where it runs: the data directory, and beside it what its processes write.
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) substrate_url: &'a str,
    pub(super) substrate_token: &'a str,
}

impl Process {
    /// Starts one, which may not listen yet.
    pub(super) fn start(product: &Product, at: &Place<'_>) -> Self {
        let address = free_address();
        let directory = at.folder.join("data");
        fs::create_dir_all(&directory).expect("a directory for the product");
        let log = at.folder.join(format!("log-{}", address.port()));
        let output = File::create(&log).expect("a file for what the product writes");
        let mut command = (product.command)(&Launch {
            directory: &directory,
            substrate_url: at.substrate_url,
            substrate_token: at.substrate_token,
            port: address.port(),
        });
        let errors = output.try_clone().expect("a second handle of the file");
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("failed to start the product by {command:?}: {error}"),
        };
        let keeper = Command::new("sh")
            .args(["-c", r#"read -r _; kill -9 "-$1""#, "sh", &child.id().to_string()])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self { child, keeper, address, log }
    }

    /// SIGTERM, to the process itself.
    pub(super) fn terminate(&self) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.is_ok_and(|told| told.success()), "the product runs and can be told to end");
    }

    /// How it has ended; none while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// The end of what it has written.
    pub(super) fn last_words(&self) -> String {
        let written = fs::read(&self.log).unwrap_or_default();
        let from = written.len().saturating_sub(SHOWN);
        String::from_utf8_lossy(&written[from..]).into_owned()
    }
}

/// SIGKILL to all of it: nothing of it cleans up.
impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // A test that fails already is not to fail by this.
        self.keeper.wait().ok();
        self.child.wait().ok();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
