//! The strict scanner: RFC 8259 to the letter, iterative, one pass over the bytes.
//!
//! Nesting is a stack of bits, so hostile depth costs neither stack nor heap. UTF-8 is checked where the first byte outside
//! ASCII is met, once for all that follows.

use core::ops::Range;

use super::{
    nesting::{Container, MAX_DEPTH, Nesting},
    stops::{InString, InUtf8String, Stops},
    string,
};
use crate::error::{DecodeError, DecodeErrorKind, Expected};

/// Where the members that matter stand in a verified object.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The inside of the `type` string.
    pub(crate) kind: Range<usize>,
    /// Whether `kind` is spelt with escapes.
    pub(crate) kind_escaped: bool,
    pub(crate) data: Option<Range<usize>>,
    /// Whether CR or LF stand between tokens.
    pub(crate) breaks: bool,
}

/// Verifies one event: an object with its `type`, and nothing but white space around it.
pub(crate) fn event(bytes: &[u8]) -> Result<Layout, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    scanner.event().map_err(|Fault| scanner.error())
}

/// Verifies one value that will stand inside an event; says whether CR or LF stand between its tokens.
pub(crate) fn value(bytes: &[u8]) -> Result<bool, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    let mut at = 0;
    match scanner.value(&mut at).and_then(|()| scanner.end(at)) {
        Ok(()) => Ok(scanner.breaks),
        Err(Fault) => Err(scanner.error()),
    }
}

/// What is wrong stands in the scanner: so small a result stays in a register.
struct Fault;

type Scan<T = ()> = Result<T, Fault>;

/// The position is handed from step to step, by reference where a step is inlined, so that it stays in a register too.
struct Scanner<'a> {
    bytes: &'a [u8],
    stops: Stops<InString>,
    /// Instead of `stops`, where all behind the first byte outside ASCII was found to be UTF-8.
    utf8: Option<Stops<InUtf8String>>,
    /// A string with escapes was met since this was last cleared.
    escaped: bool,
    breaks: bool,
    fault: (usize, DecodeErrorKind),
}

#[expect(
    clippy::inline_always,
    reason = "the steps of the one hot loop: a call for each token costs a third of the speed"
)]
impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let fault = (bytes.len(), DecodeErrorKind::Truncated);
        Scanner { bytes, stops: Stops::new(), utf8: None, escaped: false, breaks: false, fault }
    }

    #[cold]
    fn error(self) -> DecodeError {
        let (at, kind) = self.fault;
        DecodeError::new(at as u64, kind)
    }

    fn event(&mut self) -> Scan<Layout> {
        let mut at = 0;
        if self.token(&mut at)? != b'{' {
            return self.fail(at, DecodeErrorKind::NotAnObject);
        }
        at += 1;
        let mut members = Members::default();
        if self.token(&mut at)? != b'}' {
            self.members(&mut at, &mut members)?;
        }
        at += 1;
        self.end(at)?;
        match members.kind {
            Some((kind, kind_escaped)) => {
                Ok(Layout { kind, kind_escaped, data: members.data, breaks: self.breaks })
            }
            None => self.fail(at, DecodeErrorKind::MissingType),
        }
    }

    /// The members of the event's object, up to its closing brace.
    #[inline]
    fn members(&mut self, at: &mut usize, members: &mut Members) -> Scan {
        loop {
            self.member(at, members)?;
            match self.token(at)? {
                b',' => *at += 1,
                b'}' => return Ok(()),
                found => return self.unexpected(*at, found, Expected::CommaOrBrace),
            }
            self.token(at)?;
        }
    }

    #[inline]
    fn member(&mut self, at: &mut usize, members: &mut Members) -> Scan {
        let start = *at;
        self.escaped = false;
        let key = self.key(at)?;
        match self.name_of(key) {
            Name::Type if members.kind.is_some() => {
                self.fail(start, DecodeErrorKind::DuplicateMember("type"))
            }
            Name::Data if members.data.is_some() => {
                self.fail(start, DecodeErrorKind::DuplicateMember("data"))
            }
            Name::Type => {
                members.kind = Some(self.kind(at)?);
                Ok(())
            }
            Name::Data => {
                self.token(at)?;
                let start = *at;
                self.value(at)?;
                members.data = Some(start..*at);
                Ok(())
            }
            Name::Other => self.value(at),
        }
    }

    #[inline]
    fn name_of(&self, key: Range<usize>) -> Name {
        match &self.bytes[key] {
            b"type" => Name::Type,
            b"data" => Name::Data,
            raw if self.escaped => match string::decode(raw).as_str() {
                "type" => Name::Type,
                "data" => Name::Data,
                _ => Name::Other,
            },
            _ => Name::Other,
        }
    }

    #[inline]
    fn kind(&mut self, at: &mut usize) -> Scan<(Range<usize>, bool)> {
        if self.token(at)? != b'"' {
            return self.fail(*at, DecodeErrorKind::TypeNotAString);
        }
        let start = *at;
        self.escaped = false;
        self.string(at)?;
        let kind = start + 1..*at - 1;
        if kind.is_empty() {
            return self.fail(start, DecodeErrorKind::EmptyType);
        }
        Ok((kind, self.escaped))
    }

    /// A member's key and its colon. Where the key's inside stands.
    #[inline(always)]
    fn key(&mut self, at: &mut usize) -> Scan<Range<usize>> {
        let found = self.token(at)?;
        if found != b'"' {
            return self.unexpected(*at, found, Expected::Key);
        }
        let start = *at + 1;
        self.string(at)?;
        let key = start..*at - 1;
        let found = self.token(at)?;
        if found != b':' {
            return self.unexpected(*at, found, Expected::Colon);
        }
        *at += 1;
        Ok(key)
    }

    /// One value of any kind inside the event's object.
    fn value(&mut self, position: &mut usize) -> Scan {
        let mut at = *position;
        let mut open = Nesting::new();
        loop {
            match self.token(&mut at)? {
                b'"' => self.string(&mut at)?,
                b'{' => {
                    self.open(&mut at, &mut open, Container::Object)?;
                    if self.token(&mut at)? != b'}' {
                        self.key(&mut at)?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(&mut at, &mut open, Container::Array)?;
                    if self.token(&mut at)? != b']' {
                        continue;
                    }
                }
                found => at = self.scalar(at, found)?,
            }
            if self.close(&mut at, &mut open)? {
                *position = at;
                return Ok(());
            }
        }
    }

    #[inline(always)]
    fn open(&mut self, at: &mut usize, open: &mut Nesting, container: Container) -> Scan {
        if !open.push(container) {
            return self.fail(*at, DecodeErrorKind::TooDeep { limit: MAX_DEPTH });
        }
        *at += 1;
        Ok(())
    }

    /// After a value: closes what ends here. Whether nothing is open any more; otherwise the next value stands ahead.
    #[inline(always)]
    fn close(&mut self, at: &mut usize, open: &mut Nesting) -> Scan<bool> {
        while let Some(container) = open.innermost() {
            let found = self.token(at)?;
            match (container, found) {
                (Container::Object, b',') => {
                    *at += 1;
                    self.key(at)?;
                    return Ok(false);
                }
                (Container::Array, b',') => {
                    *at += 1;
                    return Ok(false);
                }
                (Container::Object, b'}') | (Container::Array, b']') => {
                    *at += 1;
                    open.pop();
                }
                (Container::Object, _) => {
                    return self.unexpected(*at, found, Expected::CommaOrBrace);
                }
                (Container::Array, _) => {
                    return self.unexpected(*at, found, Expected::CommaOrBracket);
                }
            }
        }
        Ok(true)
    }

    /// A string, from its opening quote on.
    #[inline(always)]
    fn string(&mut self, at: &mut usize) -> Scan {
        let stop = self.stops.next(self.bytes, *at + 1);
        let end =
            if self.bytes.get(stop) == Some(&b'"') { stop } else { self.string_over_stops(stop)? };
        *at = end + 1;
        Ok(())
    }

    /// The rest of a string with more in it than plain ASCII. Where it ends.
    fn string_over_stops(&mut self, mut at: usize) -> Scan<usize> {
        loop {
            match self.peek(at)? {
                b'"' => return Ok(at),
                b'\\' => {
                    self.escaped = true;
                    at = self.escape(at)?;
                }
                control @ 0..b' ' => {
                    return self.fail(at, DecodeErrorKind::ControlCharacter(control));
                }
                _ => self.check_utf8(at)?,
            }
            at = match &mut self.utf8 {
                Some(stops) => stops.next(self.bytes, at),
                None => self.stops.next(self.bytes, at),
            };
        }
    }

    fn escape(&mut self, at: usize) -> Scan<usize> {
        match self.peek(at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
            b'u' => {
                for digit in at + 2..at + 6 {
                    if !self.peek(digit)?.is_ascii_hexdigit() {
                        return self.fail(at, DecodeErrorKind::InvalidEscape);
                    }
                }
                Ok(at + 6)
            }
            _ => self.fail(at, DecodeErrorKind::InvalidEscape),
        }
    }

    fn check_utf8(&mut self, at: usize) -> Scan {
        if self.utf8.is_some() {
            return Ok(());
        }
        match core::str::from_utf8(&self.bytes[at..]) {
            Ok(_) => {
                self.utf8 = Some(Stops::new());
                Ok(())
            }
            Err(error) => self.fail(at + error.valid_up_to(), DecodeErrorKind::NotUtf8),
        }
    }

    fn scalar(&mut self, at: usize, found: u8) -> Scan<usize> {
        match found {
            b'-' | b'0'..=b'9' => self.number(at),
            b't' => self.literal(at, b"true"),
            b'f' => self.literal(at, b"false"),
            b'n' => self.literal(at, b"null"),
            _ => self.unexpected(at, found, Expected::Value),
        }
    }

    fn literal(&mut self, mut at: usize, word: &[u8]) -> Scan<usize> {
        for &expected in word {
            if self.peek(at)? != expected {
                return self.fail(at, DecodeErrorKind::InvalidLiteral);
            }
            at += 1;
        }
        Ok(at)
    }

    fn number(&mut self, mut at: usize) -> Scan<usize> {
        at += self.one_of(at, b"-");
        at = match self.one_of(at, b"0") {
            0 => self.digits(at)?,
            zero => at + zero,
        };
        if self.one_of(at, b".") == 1 {
            at = self.digits(at + 1)?;
        }
        if self.one_of(at, b"eE") == 1 {
            at += 1;
            at += self.one_of(at, b"+-");
            at = self.digits(at)?;
        }
        Ok(at)
    }

    /// How many bytes of one that may stand here.
    fn one_of(&self, at: usize, bytes: &[u8]) -> usize {
        usize::from(self.bytes.get(at).is_some_and(|byte| bytes.contains(byte)))
    }

    /// At least one digit.
    fn digits(&mut self, at: usize) -> Scan<usize> {
        if !self.peek(at)?.is_ascii_digit() {
            return self.fail(at, DecodeErrorKind::InvalidNumber);
        }
        Ok(at + self.bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count())
    }

    /// Nothing but white space until the end.
    #[inline]
    fn end(&mut self, mut at: usize) -> Scan {
        match self.token(&mut at) {
            Ok(_) => self.fail(at, DecodeErrorKind::TrailingBytes),
            Err(Fault) => Ok(()),
        }
    }

    /// The next byte that is not white space; it is not taken.
    #[inline(always)]
    fn token(&mut self, at: &mut usize) -> Scan<u8> {
        match self.peek(*at)? {
            found if found > b' ' => Ok(found),
            _ => {
                *at = self.skip_space(*at);
                self.peek(*at)
            }
        }
    }

    #[cold]
    fn skip_space(&mut self, mut at: usize) -> usize {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.bytes.get(at) {
            self.breaks |= matches!(byte, b'\r' | b'\n');
            at += 1;
        }
        at
    }

    /// The byte at `at`; behind the end the event is truncated.
    #[inline(always)]
    fn peek(&self, at: usize) -> Scan<u8> {
        self.bytes.get(at).copied().ok_or(Fault)
    }

    #[cold]
    fn unexpected<T>(&mut self, at: usize, found: u8, expected: Expected) -> Scan<T> {
        self.fail(at, DecodeErrorKind::Unexpected { found, expected })
    }

    #[cold]
    fn fail<T>(&mut self, at: usize, kind: DecodeErrorKind) -> Scan<T> {
        self.fault = (at, kind);
        Err(Fault)
    }
}

#[derive(Default)]
struct Members {
    kind: Option<(Range<usize>, bool)>,
    data: Option<Range<usize>>,
}

enum Name {
    Type,
    Data,
    Other,
}

#[cfg(test)]
mod tests;
