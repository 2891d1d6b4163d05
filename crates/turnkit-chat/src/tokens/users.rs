//! Whose tokens the server takes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, str};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::Principal;
use crate::store::Digest;

/// A shorter token can be guessed.
const MIN_TOKEN: usize = 8;
const MAX_TOKEN: usize = 512;
/// Bytes of a tenant's or a user's name: a tenant's is part of execution ids (PROTOCOL 1.4).
const MAX_NAME: usize = 128;
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Users and their bearer tokens, of which only the SHA-256 is kept. A clone is the same users: what is
/// [replaced](Users::replace) in one is replaced in all.
///
/// A file has one token a line, with its tenant and its user, between spaces or tabs; empty lines and what follows a `#` at
/// a line's beginning do not count. A token is 8 to 512 visible ASCII characters, or `sha256:` and the 64 hexadecimal digits
/// of its SHA-256. A user may have several tokens.
///
/// ```
/// use turnkit_chat::tokens::Users;
///
/// let users: Users = "# token                   tenant  user\n\
///                     kQ2vX9tL0pW8sB5nR7cJ3mZ1  acme    ann\n".parse()?;
/// # drop(users);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Users {
    known: Arc<RwLock<Arc<[Known]>>>,
}

#[derive(Clone)]
struct Known {
    digest: Digest,
    principal: Principal,
}

impl Users {
    /// Reads a file. One that others than its owner can read is used, with a warning in the log.
    ///
    /// # Errors
    /// [`UsersError`]: the file cannot be read, or the line that is wrong and why, never with a token.
    pub fn load(path: &Path) -> Result<Users, UsersError> {
        let unreadable = |source| UsersError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        warn_if_shared(path, &file);
        let mut text = String::new();
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            return Err(UsersError::TooLong);
        }
        text.parse()
    }

    /// Takes the tokens of `others` in place of its own. From then on a token that is not among them opens nothing, and ends
    /// its sign-ins; a response that is being sent goes on.
    pub fn replace(&self, others: &Users) {
        let known = others.known();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Whose token it is. Each known one is compared, in constant time: how long it takes says nothing about any.
    pub(crate) fn of_token(&self, token: &[u8]) -> Option<(Principal, Digest)> {
        let digest = digest(token);
        Some((self.of_digest(&digest)?, digest))
    }

    /// Whose token has this digest.
    pub(crate) fn of_digest(&self, digest: &Digest) -> Option<Principal> {
        let known = self.known();
        let found = known.iter().fold(None, |found, known| {
            if bool::from(known.digest.ct_eq(digest)) { Some(&known.principal) } else { found }
        });
        found.cloned()
    }

    fn known(&self) -> Arc<[Known]> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) fn digest(secret: &[u8]) -> Digest {
    Sha256::digest(secret).into()
}

impl FromStr for Users {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Users, UsersError> {
        let (mut known, mut seen) = (Vec::new(), HashSet::new());
        // Some editors begin a file by a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = entry(line).map_err(|why| UsersError::Line { at, why })?;
            if !seen.insert(entry.digest) {
                return Err(UsersError::Line { at, why: "this token stands in a line before" });
            }
            known.push(entry);
        }
        if known.is_empty() {
            return Err(UsersError::None);
        }
        Ok(Users { known: Arc::new(RwLock::new(known.into())) })
    }
}

/// Without the tokens' digests.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("tokens", &self.known().len()).finish_non_exhaustive()
    }
}

/// Why there are no [`Users`]. Never holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("read the tokens in {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is over 4 MiB.
    #[error("read the tokens: the file is over {MAX_FILE} bytes")]
    TooLong,
    /// A line is not what it should be.
    #[error("read the tokens: line {at}: {why}")]
    Line {
        /// Which one, counted from 1.
        at: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no token in the file.
    #[error("read the tokens: there is none; a line holds a token, its tenant and its user")]
    None,
}

fn entry(line: &str) -> Result<Known, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let (Some(token), Some(tenant), Some(user), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("it must hold a token, its tenant and its user, and no more");
    };
    if tenant.len() > MAX_NAME || user.len() > MAX_NAME {
        return Err("the names of tenant and user must have at most 128 bytes");
    }
    if line.contains(|c: char| c.is_control() && c != '\t') {
        return Err("it must hold no control characters");
    }
    let (tenant_id, user_id) = (tenant.to_owned(), user.to_owned());
    Ok(Known { digest: digest_of(token)?, principal: Principal { tenant_id, user_id } })
}

fn digest_of(token: &str) -> Result<Digest, &'static str> {
    if let Some(hex) = token.strip_prefix("sha256:") {
        return from_hex(hex).ok_or("sha256: must be followed by 64 hexadecimal digits");
    }
    let has_length = (MIN_TOKEN..=MAX_TOKEN).contains(&token.len());
    if !has_length || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token must be 8 to 512 visible ASCII characters");
    }
    Ok(digest(token.as_bytes()))
}

fn from_hex(hex: &str) -> Option<Digest> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().filter(|pair| pair[0] != b'+').map_while(byte).collect();
    if rest.is_empty() { bytes.try_into().ok() } else { None }
}

#[cfg(unix)]
fn warn_if_shared(path: &Path, file: &File) {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = file.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(%path, "others than its owner may use the file of tokens: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_shared(_: &Path, _: &File) {}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "# who may come in\n\ntoken-of-ann acme ann\n  \ttoken-of-bob\tacme   bob  \n";

    fn why(text: &str) -> String {
        text.parse::<Users>().unwrap_err().to_string()
    }

    #[test]
    fn a_token_is_that_of_its_user() {
        let users: Users = FILE.parse().unwrap();
        let (principal, digest) = users.of_token(b"token-of-bob").unwrap();
        assert_eq!((&*principal.tenant_id, &*principal.user_id), ("acme", "bob"));
        assert_eq!(users.of_digest(&digest), Some(principal));
        for other in ["token-of-bo", "token-of-bobb", "", "TOKEN-OF-BOB"] {
            assert!(users.of_token(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_file() {
        for file in [FILE, "token-of-bob acme bob\r\n"] {
            let users: Users = format!("\u{feff}{file}").parse().unwrap();
            assert!(users.of_token(b"token-of-bob").is_some());
        }
        assert!(why(&format!("{FILE}\u{feff}token-of-eve a e")).contains("line 5: "));
    }

    #[test]
    fn what_is_replaced_in_one_is_replaced_in_all() {
        let users: Users = FILE.parse().unwrap();
        users.clone().replace(&"token-of-bob acme robert".parse().unwrap());
        assert_eq!(users.of_token(b"token-of-bob").unwrap().0.user_id, "robert");
        assert!(users.of_token(b"token-of-ann").is_none());
        users.replace(&users);
        assert!(users.of_token(b"token-of-bob").is_some());
    }

    #[test]
    fn the_digest_of_a_token_serves_as_well_as_the_token() {
        let digest = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b t u";
        let users: Users = digest.parse().unwrap();
        assert!(users.of_token(b"secret").is_some());
        assert!(users.of_token(digest.as_bytes()).is_none());
    }

    #[test]
    fn a_line_that_is_wrong_is_named_without_its_token() {
        for line in [
            "very-secret",
            "very-secret t",
            "very-secret t u v",
            "sha256:very-secret t u",
            "short t u",
        ] {
            let why = why(&format!("{FILE}{line}"));
            assert!(why.contains("line 5: ") && !why.contains("secret"), "{why}");
        }
        for hex in ["+f".repeat(32), "f".repeat(63), "f".repeat(65), "é".repeat(32)] {
            assert!(why(&format!("sha256:{hex} t u")).contains("64 hexadecimal digits"), "{hex}");
        }
        assert!(why("token-of-ann a b\ntoken-of-ann a c").contains("line 2: this token stands"));
        assert!(why("# none\n").contains("there is none"));
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let users: Users = FILE.parse().unwrap();
        assert_eq!(format!("{users:?}"), "Users { tokens: 2, .. }");
    }
}
