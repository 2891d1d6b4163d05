//! What was told of a text, in a few numbers: enough to know it again, to go on behind it, and to join it with others.

use alloc::borrow::Cow;

use memchr::memchr;

/// A text by length and digest: a polynomial over its bytes, modulo a prime. So texts can be put together and taken apart
/// without the texts.
///
/// It guards against accident. Whoever forges a collision is the agent whose own text is then told wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    hash: u64,
    length: u64,
}

/// 2^61 − 1.
const MODULUS: u64 = (1 << 61) - 1;
const BASE: u64 = 0x12d6_87a3_5bc1_94ef;

/// Powers of the base, for eight bytes at once.
const POWERS: [u64; 9] = {
    let mut powers = [1; 9];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = reduce(powers[at - 1] as u128 * BASE as u128);
        at += 1;
    }
    powers
};

#[expect(clippy::cast_possible_truncation, reason = "what is folded twice has 62 bits")]
const fn reduce(number: u128) -> u64 {
    let folded = (number & MODULUS as u128) + (number >> 61);
    let folded = ((folded & MODULUS as u128) + (folded >> 61)) as u64;
    if folded >= MODULUS { folded - MODULUS } else { folded }
}

fn power(mut exponent: u64) -> u64 {
    let (mut result, mut square) = (1, BASE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = reduce(u128::from(result) * u128::from(square));
        }
        square = reduce(u128::from(square) * u128::from(square));
        exponent >>= 1;
    }
    result
}

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::default();
        digest.push(bytes);
        digest
    }

    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let mut sum = u128::from(self.hash) * u128::from(POWERS[8]);
            for (byte, power) in eight.iter().zip(POWERS[..8].iter().rev()) {
                sum += (u128::from(*byte) + 1) * u128::from(*power);
            }
            self.hash = reduce(sum);
        }
        for byte in rest {
            self.hash = reduce(u128::from(self.hash) * u128::from(BASE) + u128::from(*byte) + 1);
        }
        self.length += bytes.len() as u64;
    }

    /// This text, and `next` behind it.
    fn followed_by(self, next: Self) -> Self {
        let shifted = u128::from(self.hash) * u128::from(power(next.length));
        Self { hash: reduce(shifted + u128::from(next.hash)), length: self.length + next.length }
    }

    /// This text without `head`, which it begins with.
    fn without(self, head: Self) -> Self {
        let length = self.length - head.length;
        let shifted = reduce(u128::from(head.hash) * u128::from(power(length)));
        Self { hash: reduce(u128::from(self.hash) + u128::from(MODULUS - shifted)), length }
    }

    fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// What was told of one text: the insides of JSON strings, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    all: Digest,
    /// Up to the last character that is no white space.
    solid: Digest,
    /// The white space before the first character that is none.
    lead: Digest,
    lead_breaks: u64,
    tail_breaks: u64,
    /// The escape of a high surrogate stands at the end: half a character, until its other half comes. It is not in the digests.
    high: Option<u16>,
}

impl Told {
    pub(crate) fn of(raw: &[u8]) -> Self {
        let mut told = Self::default();
        told.append(raw);
        told
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.high.is_none()
    }

    /// Whether there is nothing but white space.
    pub(crate) fn is_blank(&self) -> bool {
        self.solid.is_empty() && self.high.is_none()
    }

    /// Takes more of the text, as it is spelt in JSON.
    #[inline]
    pub(crate) fn append(&mut self, mut raw: &[u8]) {
        while let Some(escape) = memchr(b'\\', raw) {
            self.run(&raw[..escape]);
            let (unit, length) = unescape(&raw[escape..]);
            self.unit(unit);
            raw = raw.get(escape + length..).unwrap_or_default();
        }
        self.run(raw);
    }

    /// A run without escapes.
    #[inline]
    fn run(&mut self, run: &[u8]) {
        if run.is_empty() {
            return;
        }
        self.settle();
        // It is verified UTF-8; the default is never taken.
        let text = core::str::from_utf8(run).unwrap_or_default();
        if text.as_bytes().last().is_some_and(u8::is_ascii_graphic) && !self.solid.is_empty() {
            self.all.push(run);
            self.solid = self.all;
            self.tail_breaks = 0;
            return;
        }
        let mut rest = text;
        if self.solid.is_empty() {
            let solid = text.trim_start();
            self.space(&text[..text.len() - solid.len()]);
            self.lead = self.all;
            rest = solid;
        }
        let solid = rest.trim_end();
        if !solid.is_empty() {
            self.all.push(solid.as_bytes());
            self.solid = self.all;
            self.tail_breaks = 0;
        }
        self.space(&rest[solid.len()..]);
    }

    fn space(&mut self, space: &str) {
        let breaks = space.bytes().rev().take_while(|&byte| byte == b'\n').count();
        if self.all.length == self.lead_breaks {
            self.lead_breaks += space.bytes().take_while(|&byte| byte == b'\n').count() as u64;
        }
        self.tail_breaks =
            if breaks == space.len() { self.tail_breaks + breaks as u64 } else { breaks as u64 };
        self.all.push(space.as_bytes());
        if self.solid.is_empty() {
            self.lead = self.all;
        }
    }

    /// One UTF-16 unit that was spelt as an escape.
    fn unit(&mut self, unit: u16) {
        let before = self.high.take();
        let pair = before.and_then(|high| char::decode_utf16([high, unit]).next()?.ok());
        let alone = char::from_u32(u32::from(unit));
        match (before, pair, alone) {
            (_, Some(character), _) => self.character(character),
            (before, None, character) => {
                if let Some(high) = before {
                    self.lone(high);
                }
                match character {
                    Some(character) => self.character(character),
                    None if (0xd800..0xdc00).contains(&unit) => self.high = Some(unit),
                    None => self.lone(unit),
                }
            }
        }
    }

    fn character(&mut self, character: char) {
        let mut bytes = [0; 4];
        let text = character.encode_utf8(&mut bytes);
        if character.is_whitespace() {
            self.space(text);
        } else {
            self.all.push(text.as_bytes());
            self.solid = self.all;
            self.tail_breaks = 0;
        }
    }

    /// Half a character that stays one, as three bytes that no whole one has.
    fn lone(&mut self, unit: u16) {
        self.all.push(&lone_bytes(unit));
        self.solid = self.all;
        self.tail_breaks = 0;
    }

    /// A half at the end gets no other half any more.
    fn settle(&mut self) {
        if let Some(high) = self.high.take() {
            self.lone(high);
        }
    }

    /// What `raw` says beyond this text, spelt as JSON: nothing where it says the same, `None` where it is another text.
    pub(crate) fn rest_of<'a>(&self, raw: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let at = place_behind(self.all, raw)?;
        let rest = &raw[at..];
        let Some(high) = self.high else {
            return Some(Cow::Borrowed(rest));
        };
        if rest.first() == Some(&b'\\') {
            return (unescape(rest).0 == high).then(|| Cow::Borrowed(&rest[6..]));
        }
        // The half that was told is the first one of a character that is spelt whole here.
        let character = core::str::from_utf8(rest).ok()?.chars().next()?;
        let [first, low] = *character.encode_utf16(&mut [0; 2]) else { return None };
        (first == high).then(|| {
            let spelt = alloc::format!("\\u{low:04x}").into_bytes();
            Cow::Owned([&spelt[..], &rest[character.len_utf8()..]].concat())
        })
    }

    fn settled(mut self) -> Self {
        self.settle();
        self
    }
}

/// Where `raw` goes on behind the text of `head`, if it begins with it.
pub(crate) fn place_behind(head: Digest, raw: &[u8]) -> Option<usize> {
    let mut seen = Digest::default();
    let mut at = 0;
    while seen.length < head.length {
        let left = usize::try_from(head.length - seen.length).unwrap_or(usize::MAX);
        let run = &raw[at..];
        let run = &run[..memchr(b'\\', run).unwrap_or(run.len()).min(left)];
        if !run.is_empty() {
            seen.push(run);
            at += run.len();
            continue;
        }
        let (character, length) =
            unescape_character(raw.get(at..).filter(|rest| !rest.is_empty())?);
        seen.push(&character.0[..character.1]);
        at += length;
    }
    (seen == head).then_some(at)
}

/// Texts that are put together, and what of it can be compared (PROTOCOL 2.3).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Joined {
    /// From the first to the last character that is no white space.
    solid: Digest,
    lead: Digest,
    tail: Digest,
    tail_breaks: u64,
    any: bool,
}

impl Joined {
    /// Puts `text` behind, which is not blank: after a blank line where one is wanted.
    pub(crate) fn push(&mut self, text: &Told, blank_line: bool) {
        let text = text.settled();
        let solid = text.solid.without(text.lead);
        let tail = text.all.without(text.solid);
        if self.any {
            let missing = if blank_line {
                2u64.saturating_sub(self.tail_breaks + text.lead_breaks)
            } else {
                0
            };
            let breaks = Digest::of(&b"\n\n"[..usize::try_from(missing).unwrap_or_default()]);
            let between = self.tail.followed_by(breaks).followed_by(text.lead);
            self.solid = self.solid.followed_by(between).followed_by(solid);
        } else {
            self.any = true;
            self.lead = text.lead;
            self.solid = solid;
        }
        self.tail = tail;
        self.tail_breaks = text.tail_breaks;
    }

    /// Whether it is `text`, but for white space at either end.
    pub(crate) fn is(&self, text: &Told) -> bool {
        let text = text.settled();
        self.solid == text.solid.without(text.lead)
    }

    /// What `raw`, which is `text`, says behind it.
    pub(crate) fn rest_of<'a>(&self, raw: &'a [u8], text: &Told) -> Option<&'a [u8]> {
        let whole = self.lead.followed_by(self.solid).followed_by(self.tail);
        // As it was told, or with the white space at its ends as `raw` has it.
        let trimmed = text.settled().lead.followed_by(self.solid);
        let at = place_behind(whole, raw).or_else(|| place_behind(trimmed, raw))?;
        Some(&raw[at..])
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.any
    }
}

/// The UTF-16 unit of the escape that `raw` begins with, and the escape's length.
fn unescape(raw: &[u8]) -> (u16, usize) {
    let short = match raw.get(1) {
        Some(b'u') => {
            let digits = raw.get(2..6).and_then(|digits| core::str::from_utf8(digits).ok());
            let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
            return (unit.unwrap_or(0xfffd), 6);
        }
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(&itself) => itself,
        None => return (0xfffd, 1),
    };
    (u16::from(short), 2)
}

/// The bytes of the character whose escape, or pair of escapes, `raw` begins with, and how long that is.
fn unescape_character(raw: &[u8]) -> (([u8; 4], usize), usize) {
    let (unit, length) = unescape(raw);
    let mut bytes = [0; 4];
    let low =
        raw.get(length..).filter(|rest| rest.starts_with(b"\\u")).map(|rest| unescape(rest).0);
    let pair = low.and_then(|low| char::decode_utf16([unit, low]).next()?.ok());
    let is_pair = pair.is_some_and(|character| u32::from(character) > 0xffff);
    let character = if is_pair { pair } else { char::from_u32(u32::from(unit)) };
    if let Some(character) = character {
        let size = character.encode_utf8(&mut bytes).len();
        return ((bytes, size), if is_pair { 12 } else { length });
    }
    bytes[..3].copy_from_slice(&lone_bytes(unit));
    ((bytes, 3), length)
}

/// Half a character in the form of UTF-8.
fn lone_bytes(unit: u16) -> [u8; 3] {
    let [high, low] = unit.to_be_bytes();
    [0xe0 | high >> 4, 0x80 | (high & 15) << 2 | low >> 6, 0x80 | low & 63]
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn spell(text: &str) -> Vec<u8> {
        let json = serde_json::to_string(text).unwrap();
        json.as_bytes()[1..json.len() - 1].to_vec()
    }

    /// Every unit as an escape.
    fn spell_out(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| alloc::format!("\\u{unit:04x}").into_bytes()).collect()
    }

    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just('\n'),
            Just(' '),
            Just('\u{a0}'),
            Just('"'),
            Just('\\'),
            Just('é'),
            Just('😀'),
            any::<char>(),
            Just('a'),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(String::from_iter)
    }

    fn joined(texts: &[&str], blank_line: bool) -> Joined {
        let mut joined = Joined::default();
        for text in texts.iter().filter(|text| !text.trim().is_empty()) {
            joined.push(&Told::of(&spell(text)), blank_line);
        }
        joined
    }

    #[test]
    fn a_blank_line_is_put_between_texts_and_breaks_that_are_there_count_towards_it() {
        let is = |texts: &[&str], text: &str| joined(texts, true).is(&Told::of(&spell(text)));
        assert!(is(&["One.", "Two."], "One.\n\nTwo."));
        assert!(is(&["One.\n", "Two."], "One.\n\nTwo."));
        assert!(is(&["One.\n", "\nTwo."], "One.\n\nTwo."));
        assert!(is(&["One.\n\n\n", " Two."], "One.\n\n\n Two."));
        assert!(is(&["One. ", "Two."], " One. \n\nTwo.\n"));
        assert!(is(&["One.", " \n", "Two."], "One.\n\nTwo."));
        assert!(!is(&["One.", "Two."], "One.\nTwo."));
        assert!(joined(&["One. ", "Two."], false).is(&Told::of(b"One. Two.")));
    }

    #[test]
    fn a_half_of_a_character_is_completed_by_whatever_spells_the_other() {
        let half = Told::of(br"a\ud83d");
        assert_eq!(half.rest_of(r"a😀b".as_bytes()).as_deref(), Some(&br"\ude00b"[..]));
        assert_eq!(half.rest_of(br"a\ud83d\ude00b").as_deref(), Some(&br"\ude00b"[..]));
        assert_eq!(half.rest_of(br"a\ud83d").as_deref(), Some(&b""[..]));
        assert_eq!(half.rest_of(br"a\ud83c\ude00"), None);
        assert_eq!(half.rest_of(b"a"), None);
        assert_eq!(half.rest_of(b"ab"), None);
        assert_eq!(Told::of(br"\ud83dx").rest_of(br"\ud83dxy").as_deref(), Some(&b"y"[..]));
    }

    proptest! {
        #[test]
        fn a_text_is_known_again_however_it_is_cut_and_spelt(a in any_text(), b in any_text(), cut in 0_usize..99) {
            let whole = String::from_iter([&*a, &*b]);
            let mut pieces = Told::default();
            let units = spell_out(&a);
            let cut = 6 * (cut % (units.len() / 6 + 1));
            pieces.append(&units[..cut]);
            pieces.append(&units[cut..]);
            prop_assert_eq!(pieces.rest_of(&spell(&whole)).map(Cow::into_owned), Some(spell(&b)));
            prop_assert_eq!(Told::of(&spell(&a)).rest_of(&spell_out(&whole)).map(Cow::into_owned), Some(spell_out(&b)));
            prop_assert_eq!(pieces.is_blank(), a.trim().is_empty());
            let longer = Told::of(&spell(&whole));
            prop_assert_eq!(longer.rest_of(&spell(&a)).is_some(), b.is_empty());
        }

        #[test]
        fn joined_digests_are_those_of_the_joined_text(texts in proptest::collection::vec(any_text(), 1..5), lines: bool) {
            let kept: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
            let mut text = String::new();
            for next in &kept {
                if lines && !text.is_empty() {
                    let there = text.len() - text.trim_end_matches('\n').len() + next.len() - next.trim_start_matches('\n').len();
                    text.extend(core::iter::repeat_n('\n', 2_usize.saturating_sub(there)));
                }
                text.push_str(next);
            }
            let joined = joined(&kept, lines);
            prop_assert_eq!(joined.is_empty(), kept.is_empty());
            prop_assert!(joined.is(&Told::of(&spell(&text))));
            prop_assert!(joined.is(&Told::of(&spell_out(text.trim()))));
            let longer = String::from_iter([text.trim_start(), "x"]);
            let raw = spell(&longer);
            prop_assert!(kept.is_empty() || joined.rest_of(&raw, &Told::of(&raw)).is_some());
            let other = String::from_iter([text.trim(), "y"]);
            prop_assert!(!joined.is(&Told::of(&spell(&other))));
        }
    }
}
