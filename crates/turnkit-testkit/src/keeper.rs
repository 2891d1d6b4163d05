//! Who keeps a server of a test: it ends with the test, however that ends, and its folder goes with it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ends the server when it is told to keep its folder, or when nobody is left to tell it: then the folder goes too.
const SCRIPT: &str = r#"folder=$1; signal=$2; shift 2
"$@" & server=$!
read -r told; kill -"$signal" $server; wait $server
[ "$told" = keep ] || rm -r "$folder""#;

/// A shell beside a server's process. Dropped, it ends the server at once and removes the folder.
#[derive(Debug)]
pub(crate) struct Keeper(Child);

impl Keeper {
    /// Starts `server`, of the folder `folder`, which `signal` is to end without any goodbye.
    pub(crate) fn start(folder: &Path, signal: &str, server: &Command, log: Stdio) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "sh"]).arg(folder).arg(signal);
        shell.arg(server.get_program()).args(server.get_args());
        let keeper = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn();
        Self(keeper.expect("a shell"))
    }

    /// Ends the server, and leaves its folder.
    pub(crate) fn kill(mut self) {
        let told = self.0.stdin.take().map(|mut told| told.write_all(b"keep\n"));
        assert!(told.is_some_and(|told| told.is_ok()), "the keeper of a server listens");
        self.0.wait().expect("the keeper of a server ends");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself, and a test that fails already is not to fail by this.
        self.0.wait().ok();
    }
}
