//! Whose a data directory is. Its open turns run at one substrate, so only servers of that substrate may share it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// The file that is locked; it stays empty.
const FILE: &str = "substrate.lock";

/// A share of a data directory, or all of it; given up when dropped, however the process ends.
#[derive(Debug)]
pub(crate) struct Tenure {
    _lock: File,
}

impl Tenure {
    /// The directory with nobody beside: for a server whose substrate no other process can reach. `None` where it is in use.
    pub(crate) fn alone(data_dir: &Path) -> io::Result<Option<Tenure>> {
        Tenure::take(data_dir, File::try_lock)
    }

    /// The directory beside other servers of the same substrate. `None` where a server has it alone.
    pub(crate) fn shared(data_dir: &Path) -> io::Result<Option<Tenure>> {
        Tenure::take(data_dir, File::try_lock_shared)
    }

    fn take(
        data_dir: &Path,
        lock: impl FnOnce(&File) -> Result<(), TryLockError>,
    ) -> io::Result<Option<Tenure>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(data_dir.join(FILE))?;
        match lock(&file) {
            Ok(()) => Ok(Some(Tenure { _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_directory_alone_has_nobody_beside() {
        let directory = tempfile::tempdir().unwrap();
        let alone = Tenure::alone(directory.path()).unwrap();
        assert!(alone.is_some());
        assert!(Tenure::alone(directory.path()).unwrap().is_none());
        assert!(Tenure::shared(directory.path()).unwrap().is_none());
        drop(alone);
        let shared = Tenure::shared(directory.path()).unwrap();
        assert!(shared.is_some() && Tenure::shared(directory.path()).unwrap().is_some());
        assert!(Tenure::alone(directory.path()).unwrap().is_none());
    }
}
