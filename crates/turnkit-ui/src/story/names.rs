//! Ids: known again by their digest, and given to chunks so that no two parts have one.

use alloc::{boxed::Box, collections::BTreeSet, format};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use turnkit_wire::view::Text;

/// An id of one kind of thing, however long and however spelt: 128 bits of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// Where there is no id, that is one as well.
    pub(super) fn of(tag: u8, id: Option<Text<'_>>) -> Self {
        let hash = Sha256::new_with_prefix([tag, u8::from(id.is_some())]);
        Self::end(hash.chain_update(id.map(|id| id.to_str()).unwrap_or_default().as_bytes()))
    }

    fn end(hash: Sha256) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }
}

/// The names that were given.
#[derive(Default)]
pub(super) struct Names(BTreeSet<Key>);

/// A longer id is named by its hash, so that what is kept is bounded.
const MAX_NAME: usize = 1024;

/// Names beyond these are not told apart from each other.
const MAX_NAMES: usize = 65_536;

impl Names {
    /// A name for what has the id `raw`, as JSON spells it: the id, or where that is taken `#2`, `#3` … behind it. `openings`
    /// counts the names that its owner was given.
    pub(super) fn give(&mut self, raw: &[u8], openings: &mut u32) -> Box<[u8]> {
        let hashed;
        let raw = if raw.len() > MAX_NAME {
            let Key(key) = Key::end(Sha256::new_with_prefix(raw));
            hashed = format!("h:{}", BASE64_URL_SAFE_NO_PAD.encode(key)).into_bytes();
            &hashed
        } else {
            raw
        };
        loop {
            *openings = openings.saturating_add(1);
            let name: Box<[u8]> = match *openings {
                1 => raw.into(),
                again => [raw, format!("#{again}").as_bytes()].concat().into(),
            };
            let is_full = self.0.len() >= MAX_NAMES;
            if is_full || self.0.insert(Key::end(Sha256::new_with_prefix(&name))) {
                return name;
            }
        }
    }
}
