//! Whether the file is still there that was opened.
//!
//! SQLite goes on with a file that was deleted, moved or replaced under it, and its commits succeed: nobody ever finds again what was
//! written. So a store looks, before it commits and before it reads, whether its path still leads to its file.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file of a store, as it was opened.
pub(super) struct FileWatch {
    path: PathBuf,
    opened: Identity,
}

/// Device and inode.
#[cfg(unix)]
type Identity = (u64, u64);

/// The system does not let an open file be deleted, moved or replaced.
#[cfg(not(unix))]
type Identity = ();

/// What has become of the file.
#[derive(Debug, thiserror::Error)]
#[error("use {}: {what} while it was open; put it back, or start again", .path.display())]
pub(super) struct Gone {
    path: PathBuf,
    what: &'static str,
}

impl FileWatch {
    /// To be made while the file is opened.
    pub(super) fn new(path: &Path) -> io::Result<FileWatch> {
        Ok(FileWatch { path: path.to_owned(), opened: identity(path)? })
    }

    /// Refuses a path that no longer leads to the file. What cannot be told counts as unchanged.
    pub(super) fn check(&self) -> Result<(), Gone> {
        let what = match identity(&self.path) {
            Ok(found) if found != self.opened => "it was replaced",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "it was deleted or moved",
            Ok(_) | Err(_) => return Ok(()),
        };
        Err(Gone { path: self.path.clone(), what })
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(drop)
}
