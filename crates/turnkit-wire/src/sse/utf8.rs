//! Decoding UTF-8 piece by piece, as the WHATWG Encoding Standard does: each maximal invalid part becomes one U+FFFD.

use alloc::vec::Vec;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The start of a character whose rest is still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8 {
    pending: [u8; 4],
    length: usize,
    /// Whether anything was replaced since [`Utf8::finish`].
    lossy: bool,
}

impl Utf8 {
    /// Whether nothing is pending and nothing was replaced: ASCII can then be taken as it is.
    #[inline]
    pub(crate) fn is_clean(&self) -> bool {
        self.length == 0 && !self.lossy
    }

    /// Appends what `piece` decodes to.
    pub(crate) fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.length > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return;
            };
            if self.complete(byte, out) {
                piece = rest;
            }
        }
        if piece.is_ascii() {
            return out.extend_from_slice(piece);
        }
        self.push_mixed(piece, out);
    }

    /// The end of the text: an unfinished character is invalid. Whether anything was.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        if self.length > 0 {
            self.replace(out);
        }
        core::mem::take(&mut self.lossy)
    }

    fn push_mixed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut chunks = piece.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.extend_from_slice(chunk.valid().as_bytes());
            match chunk.invalid() {
                [] => {}
                unfinished if chunks.peek().is_none() && is_unfinished(unfinished) => {
                    self.keep(unfinished);
                }
                _ => self.replace(out),
            }
        }
    }

    fn keep(&mut self, unfinished: &[u8]) {
        self.pending[..unfinished.len()].copy_from_slice(unfinished);
        self.length = unfinished.len();
    }

    /// Tries `byte` as the next of the pending character. Whether it was consumed.
    fn complete(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        self.pending[self.length] = byte;
        let candidate = &self.pending[..=self.length];
        if core::str::from_utf8(candidate).is_ok() {
            out.extend_from_slice(candidate);
            self.length = 0;
            return true;
        }
        if is_unfinished(candidate) {
            self.length += 1;
            return true;
        }
        self.replace(out);
        false
    }

    fn replace(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(REPLACEMENT);
        self.length = 0;
        self.lossy = true;
    }
}

/// Whether more bytes could still make `bytes` one character.
fn is_unfinished(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes)
        .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn every_cut_decodes_as_the_whole() {
        for text in [
            &b"a\xff b"[..],
            b"\xe2\x82\xac\xe2\x82",
            b"\xf0\x9f\x98\x80\xf0\x9f\x98",
            b"\xed\xa0\x80\xc0\xaf",
            b"\xf0\x90\xe2\x82\xacx",
        ] {
            for cut in 0..=text.len() {
                let (mut utf8, mut out) = (Utf8::default(), Vec::new());
                utf8.push(&text[..cut], &mut out);
                utf8.push(&text[cut..], &mut out);
                let lossy = utf8.finish(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8_lossy(text));
                assert_eq!(lossy, core::str::from_utf8(text).is_err());
            }
        }
    }
}
