//! What a program finds around it.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::Command;

/// The variables of a program: an allow list, and values of the operator's own.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    passed: Vec<OsString>,
    set: Values,
}

impl Environment {
    pub(super) fn pass(&mut self, name: OsString) {
        self.passed.push(name);
    }

    pub(super) fn set(&mut self, name: OsString, value: OsString) {
        self.set.0.push((name, value));
    }

    /// As they are now; what was set outweighs what is passed.
    pub(super) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        let passed = self.passed.iter().filter_map(|name| {
            let value = env::var_os(name)?;
            Some((name.clone(), value))
        });
        passed.chain(self.set.0.iter().cloned())
    }

    /// Values that no reader may see: of all variables but those that every program gets. A short one is a word.
    pub(super) fn secrets(&self) -> Vec<String> {
        let is_common = |name: &OsString| Command::PASSED.iter().any(|passed| name == passed);
        let secret = self.variables().filter(|(name, _)| !is_common(name));
        let values = secret.filter_map(|(_, value)| value.into_string().ok());
        values.filter(|value| value.len() >= 8).collect()
    }

    fn path(&self) -> OsString {
        let paths = self.variables().filter(|(name, _)| name == "PATH");
        paths.last().unwrap_or_default().1
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self { passed: Command::PASSED.map(OsString::from).to_vec(), set: Values::default() }
    }
}

/// Values may be secrets: only their names are printed.
#[derive(Clone, Default)]
struct Values(Vec<(OsString, OsString)>);

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// The file that `program` names: a path where it has a slash, and otherwise the first executable of this name in the
/// program's `PATH`.
pub(super) fn locate(
    program: &OsStr,
    directory: Option<&Path>,
    environment: &Environment,
) -> io::Result<PathBuf> {
    let path = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return executable(directory.unwrap_or(Path::new("")).join(path));
    }
    let mut first_error = None;
    for directory in env::split_paths(&environment.path()) {
        match executable(directory.join(path)) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let missing = || io::Error::new(io::ErrorKind::NotFound, "PATH has no program of this name");
    Err(first_error.unwrap_or_else(missing))
}

fn executable(path: PathBuf) -> io::Result<PathBuf> {
    let file = fs::metadata(&path)?;
    let is_executable = file.is_file() && file.permissions().mode() & 0o111 != 0;
    let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "it is no executable file");
    is_executable.then_some(path).ok_or_else(refused)
}
