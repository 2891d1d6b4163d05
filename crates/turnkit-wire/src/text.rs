//! Text from elsewhere (an error's message, a header, a program's output), made fit for a client or a log (PROTOCOL 2.4).
//!
//! ```
//! use turnkit_wire::text;
//!
//! assert_eq!(text::printable("disk\u{1b}[2J full\n"), "disk\\u{1b}[2J full\\n");
//! assert_eq!(text::excerpt("out of memory", 7), "out of…");
//! ```

use alloc::{borrow::Cow, string::String};

/// The most characters of a message or code that a layer makes or passes on (PROTOCOL 2.4).
pub const MAX_MESSAGE: usize = 500;

/// The most characters of a peer's code that are passed on.
pub const MAX_CODE: usize = 100;

/// `text` without raw control characters (Unicode's category Cc): each is spelt as Rust spells it, `\n` or `\u{1b}`. So it
/// cannot forge a line of a log, or speak to a terminal. What has none is not copied.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    excerpt(text, usize::MAX)
}

/// A message as a client may read it: [`printable`], and at most [`MAX_MESSAGE`] characters.
#[must_use]
pub fn message(text: &str) -> Cow<'_, str> {
    excerpt(text, MAX_MESSAGE)
}

/// [`printable`], and at most `max` characters in all: of a longer text the last one is `…`, and no escape is cut in two.
///
/// Asked again with the same `max`, it changes nothing.
#[must_use]
pub fn excerpt(text: &str, max: usize) -> Cow<'_, str> {
    let fits = text.len() <= max || text.chars().nth(max).is_none();
    if fits && !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    let mut left = max;
    // Where the ellipsis goes if what comes next does not fit: behind all that is shown, or in the place of the last of it.
    let mut cut = 0;
    for character in text.chars() {
        let before = shown.len();
        if left > 0 {
            cut = before;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        let width = shown[before..].chars().count();
        if width > left {
            shown.truncate(cut);
            shown.extend((max > 0).then_some('…'));
            break;
        }
        left -= width;
    }
    Cow::Owned(shown)
}

/// The longest beginning of `text` that has at most `bytes` bytes and ends between characters.
///
/// ```
/// assert_eq!(turnkit_wire::text::head("naïve", 3), "na");
/// ```
#[must_use]
pub fn head(text: &str, bytes: usize) -> &str {
    let most = bytes.min(text.len());
    let end = (0..=most).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or_default()]
}

/// What a peer has said, as far as it has said something: [`excerpt`] without the white space around it, and none of a blank text.
#[must_use]
pub fn said(text: &str, max: usize) -> Option<Cow<'_, str>> {
    let text = text.trim();
    (!text.is_empty()).then(|| excerpt(text, max))
}

#[cfg(test)]
mod tests {
    use std::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_escapes_and_says_so() {
        assert_eq!(excerpt("häuser", 6), "häuser");
        assert_eq!(excerpt("häuser", 5), "häus…");
        assert_eq!(excerpt("ab\n\n", 6), "ab\\n\\n");
        assert_eq!(excerpt("ab\n\n", 5), "ab\\n…");
        assert_eq!(excerpt("ab\n\n", 4), "ab…");
        assert_eq!(excerpt("abc", 1), "…");
        assert_eq!(excerpt("abc", 0), "");
        assert_eq!(message(&"é".repeat(500)), "é".repeat(500));
        assert_eq!(message(&"é".repeat(501)), format!("{}…", "é".repeat(499)));
    }

    #[test]
    fn control_characters_of_both_sets_are_spelt() {
        let spelt = printable("\0\t\r\u{7f}\u{85}\u{9b}31m");
        assert_eq!(spelt, "\\u{0}\\t\\r\\u{7f}\\u{85}\\u{9b}31m");
    }

    #[test]
    fn a_blank_says_nothing() {
        assert_eq!(said(" \n\t", 10), None);
        assert_eq!(said(" not now\n", 10).as_deref(), Some("not now"));
    }

    #[test]
    fn a_text_that_is_fit_is_not_copied() {
        assert!(matches!(printable("naïve “text”"), Cow::Borrowed(_)));
    }

    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![any::<char>(), Just('\n'), Just('\u{1b}'), Just('a')];
        proptest::collection::vec(piece, 0..40).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn whatever_comes_is_shown_without_control_characters_and_within_the_limit(
            text in any_text(), max in 0_usize..40,
        ) {
            let shown = excerpt(&text, max);
            prop_assert!(!shown.contains(char::is_control));
            prop_assert!(shown.chars().count() <= max);
            prop_assert_eq!(&*excerpt(&shown, max), &*shown);
            let whole = printable(&text);
            if whole.chars().count() <= max {
                prop_assert_eq!(&shown, &whole);
            } else if max > 0 {
                let head = shown.strip_suffix('…');
                prop_assert!(head.is_some_and(|head| whole.starts_with(head)), "{}", shown);
            }
        }
    }
}
