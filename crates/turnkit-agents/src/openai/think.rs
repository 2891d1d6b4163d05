//! `<think>…</think>` at the beginning of an answer is reasoning: some servers leave a model's own marks in its text.

use super::answer::Kind;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How much white space may stand before the mark, in bytes.
const MAX_BLANK: usize = 1_024;

/// Where in an answer its text is. What may be the beginning of a mark is held.
pub(super) enum Think {
    /// Nothing but white space and perhaps the beginning of the mark has come.
    Start(String),
    /// Behind the mark. Whether something of the reasoning was told.
    Inside { held: String, is_told: bool },
    /// Behind the end mark, as long as nothing but white space has come.
    Behind,
    /// The answer itself.
    Text,
}

impl Default for Think {
    fn default() -> Self {
        Self::Start(String::new())
    }
}

impl Think {
    /// Takes more of the content, and tells what is text and what is reasoning. Nothing empty is told.
    pub(super) fn push(&mut self, content: &str, tell: &mut impl FnMut(Kind, &str)) {
        let mut tell = |kind: Kind, text: &str| {
            if !text.is_empty() {
                tell(kind, text);
            }
        };
        let mut rest = content.to_owned();
        loop {
            match std::mem::replace(self, Self::Text) {
                Self::Text => return tell(Kind::Text, &rest),
                Self::Behind => {
                    let text = rest.trim_start();
                    if text.is_empty() {
                        *self = Self::Behind;
                    } else {
                        tell(Kind::Text, text);
                    }
                    return;
                }
                Self::Start(held) => {
                    let held = held + &rest;
                    let begun = held.trim_start();
                    if let Some(inside) = begun.strip_prefix(OPEN) {
                        inside.clone_into(&mut rest);
                        *self = Self::Inside { held: String::new(), is_told: false };
                    } else if OPEN.starts_with(begun) && held.len() <= MAX_BLANK {
                        *self = Self::Start(held);
                        return;
                    } else {
                        return tell(Kind::Text, &held);
                    }
                }
                Self::Inside { held, is_told } => {
                    let held = held + &rest;
                    // White space around the marks is theirs.
                    let inside = if is_told { held.as_str() } else { held.trim_start() };
                    if let Some((thought, behind)) = inside.split_once(CLOSE) {
                        tell(Kind::Reasoning, thought.trim_end());
                        behind.clone_into(&mut rest);
                        *self = Self::Behind;
                        continue;
                    }
                    let sure = inside.len() - undecided(inside);
                    tell(Kind::Reasoning, &inside[..sure]);
                    *self = Self::Inside {
                        held: inside[sure..].to_owned(),
                        is_told: is_told || sure > 0,
                    };
                    return;
                }
            }
        }
    }

    /// Tells what is held: no mark comes any more.
    pub(super) fn finish(&mut self, tell: &mut impl FnMut(Kind, &str)) {
        let (kind, held) = match std::mem::replace(self, Self::Text) {
            Self::Start(held) => (Kind::Text, held),
            Self::Inside { held, is_told } => {
                // The reasoning may still go on behind what came in between.
                *self = Self::Inside { held: String::new(), is_told };
                (Kind::Reasoning, held)
            }
            still @ (Self::Behind | Self::Text) => {
                *self = still;
                return;
            }
        };
        if !held.is_empty() {
            tell(kind, &held);
        }
    }
}

/// How much at the end may be the beginning of the end mark, with white space before it.
fn undecided(text: &str) -> usize {
    let begun = (1..CLOSE.len()).rev().find(|length| text.ends_with(&CLOSE[..*length]));
    let before = &text[..text.len() - begun.unwrap_or_default()];
    let sure = before.trim_end();
    // A long blank is told: it is not worth the memory.
    if before.len() - sure.len() > MAX_BLANK {
        text.len() - before.len()
    } else {
        text.len() - sure.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reasoning and text.
    fn read(pieces: &[&str]) -> [String; 2] {
        let (mut think, mut read) = (Think::default(), [String::new(), String::new()]);
        let mut tell = |kind: Kind, text: &str| {
            assert!(!text.is_empty());
            read[usize::from(kind == Kind::Text)].push_str(text);
        };
        for piece in pieces {
            think.push(piece, &mut tell);
        }
        think.finish(&mut tell);
        read
    }

    #[test]
    fn marks_are_found_wherever_the_text_is_cut() {
        let cases = [
            ("<think>a b\n</think>\n\nc <think>d</think>", ["a b", "c <think>d</think>"]),
            ("\n <think>\na < b </thin> c</think>d", ["a < b </thin> c", "d"]),
            ("<think></think>x", ["", "x"]),
            ("<think>never closed", ["never closed", ""]),
            ("a <think>b</think>", ["", "a <think>b</think>"]),
            ("<thi", ["", "<thi"]),
            ("\n\n", ["", "\n\n"]),
            ("<thinker>", ["", "<thinker>"]),
            ("<think>é</think>é", ["é", "é"]),
        ];
        for (content, expected) in cases {
            assert_eq!(read(&[content]), expected, "{content:?}");
            let singles: Vec<_> = content.split("").collect();
            assert_eq!(read(&singles), expected, "{content:?}");
        }
    }
}
