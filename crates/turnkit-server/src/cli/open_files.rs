//! How many connections a server may have: each is an open file, and so is each pipe of a program.

/// Raises the limit of this process to what it may be. Shells often start with 1,024, whatever the machine can do.
#[cfg(unix)]
pub(super) fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// There is no such limit.
#[cfg(not(unix))]
pub(super) fn raise_open_files() {}
