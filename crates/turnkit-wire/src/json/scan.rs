//! The strict scanner: RFC 8259 to the letter, iterative, one pass over the bytes.
//!
//! Nesting is a stack of bits, so hostile depth costs neither stack nor heap. UTF-8 is checked where the first byte outside
//! ASCII is met, once for all that follows.

use core::ops::Range;

use super::{stops::Stops, string};
use crate::error::{DecodeError, DecodeErrorKind, Expected};

/// Containers inside each other, the event's own object included (PROTOCOL 1.1).
pub(crate) const MAX_DEPTH: usize = 1024;

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
    match scanner.value().and_then(|()| scanner.end()) {
        Ok(()) => Ok(scanner.breaks),
        Err(Fault) => Err(scanner.error()),
    }
}

/// Why a scan stopped stands in the scanner: so small a result stays in registers.
struct Fault;

type Scan<T = ()> = Result<T, Fault>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    stops: Stops,
    breaks: bool,
    fault: DecodeErrorKind,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Scanner {
            bytes,
            at: 0,
            stops: Stops::new(),
            breaks: false,
            fault: DecodeErrorKind::Truncated,
        }
    }

    #[cold]
    fn error(self) -> DecodeError {
        DecodeError::new(self.at as u64, self.fault)
    }

    fn event(&mut self) -> Scan<Layout> {
        if self.token()? != b'{' {
            return self.fail(DecodeErrorKind::NotAnObject);
        }
        self.at += 1;
        let mut members = Members::default();
        if self.token()? == b'}' {
            self.at += 1;
        } else {
            self.members(&mut members)?;
        }
        self.end()?;
        let Some((kind, kind_escaped)) = members.kind else {
            return self.fail(DecodeErrorKind::MissingType);
        };
        Ok(Layout {
            kind,
            kind_escaped,
            data: members.data,
            breaks: self.breaks,
        })
    }

    #[inline]
    fn members(&mut self, members: &mut Members) -> Scan {
        loop {
            self.member(members)?;
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                found => return self.unexpected(found, Expected::CommaOrBrace),
            }
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn member(&mut self, members: &mut Members) -> Scan {
        self.token()?;
        let start = self.at;
        let (key, escaped) = self.key()?;
        match self.name_of(key, escaped) {
            Name::Type if members.kind.is_some() => {
                self.fail_at(start, DecodeErrorKind::DuplicateMember("type"))
            }
            Name::Data if members.data.is_some() => {
                self.fail_at(start, DecodeErrorKind::DuplicateMember("data"))
            }
            Name::Type => {
                members.kind = Some(self.kind()?);
                Ok(())
            }
            Name::Data => {
                self.token()?;
                let start = self.at;
                self.value()?;
                members.data = Some(start..self.at);
                Ok(())
            }
            Name::Other => self.value(),
        }
    }

    #[inline]
    fn name_of(&self, key: Range<usize>, escaped: bool) -> Name {
        match &self.bytes[key] {
            b"type" => Name::Type,
            b"data" => Name::Data,
            raw if escaped => match string::decode(raw).as_str() {
                "type" => Name::Type,
                "data" => Name::Data,
                _ => Name::Other,
            },
            _ => Name::Other,
        }
    }

    #[inline]
    fn kind(&mut self) -> Scan<(Range<usize>, bool)> {
        if self.token()? != b'"' {
            return self.fail(DecodeErrorKind::TypeNotAString);
        }
        let start = self.at;
        let escaped = self.string()?;
        let kind = start + 1..self.at - 1;
        if kind.is_empty() {
            return self.fail_at(start, DecodeErrorKind::EmptyType);
        }
        Ok((kind, escaped))
    }

    /// A member's key and its colon: where the key's inside stands, and whether it holds escapes.
    #[inline]
    fn key(&mut self) -> Scan<(Range<usize>, bool)> {
        let found = self.token()?;
        if found != b'"' {
            return self.unexpected(found, Expected::Key);
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let key = start..self.at - 1;
        let found = self.token()?;
        if found != b':' {
            return self.unexpected(found, Expected::Colon);
        }
        self.at += 1;
        Ok((key, escaped))
    }

    /// One value of any kind inside the event's object.
    fn value(&mut self) -> Scan {
        let mut open = Nesting::new();
        loop {
            match self.token()? {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.open(&mut open, Container::Object)?;
                    if self.token()? != b'}' {
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(&mut open, Container::Array)?;
                    if self.token()? != b']' {
                        continue;
                    }
                }
                found => self.scalar(found)?,
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    #[inline]
    fn open(&mut self, open: &mut Nesting, container: Container) -> Scan {
        if !open.push(container) {
            return self.fail(DecodeErrorKind::TooDeep { limit: MAX_DEPTH });
        }
        self.at += 1;
        Ok(())
    }

    /// After a value: closes what ends here. Whether nothing is open any more; otherwise the next value stands ahead.
    #[inline]
    fn close(&mut self, open: &mut Nesting) -> Scan<bool> {
        while let Some(container) = open.innermost() {
            let found = self.token()?;
            match (container, found) {
                (Container::Object, b',') => {
                    self.at += 1;
                    self.key()?;
                    return Ok(false);
                }
                (Container::Array, b',') => {
                    self.at += 1;
                    return Ok(false);
                }
                (Container::Object, b'}') | (Container::Array, b']') => {
                    self.at += 1;
                    open.pop();
                }
                (Container::Object, _) => return self.unexpected(found, Expected::CommaOrBrace),
                (Container::Array, _) => return self.unexpected(found, Expected::CommaOrBracket),
            }
        }
        Ok(true)
    }

    fn scalar(&mut self, found: u8) -> Scan {
        match found {
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.unexpected(found, Expected::Value),
        }
    }

    fn literal(&mut self, word: &[u8]) -> Scan {
        for &expected in word {
            if self.peek()? != expected {
                return self.fail(DecodeErrorKind::InvalidLiteral);
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scan {
        self.skip_one_of(b"-");
        if !self.skip_one_of(b"0") {
            self.digits()?;
        }
        if self.skip_one_of(b".") {
            self.digits()?;
        }
        if self.skip_one_of(b"eE") {
            self.skip_one_of(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn skip_one_of(&mut self, bytes: &[u8]) -> bool {
        let found = self
            .bytes
            .get(self.at)
            .is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(found);
        found
    }

    /// At least one digit.
    fn digits(&mut self) -> Scan {
        if !self.peek()?.is_ascii_digit() {
            return self.fail(DecodeErrorKind::InvalidNumber);
        }
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        Ok(())
    }

    /// A string, from its opening quote on. Whether it holds escapes.
    #[inline]
    fn string(&mut self) -> Scan<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at = self.stops.next(self.bytes, self.at);
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                control @ 0..b' ' => return self.fail(DecodeErrorKind::ControlCharacter(control)),
                _ => self.check_utf8()?,
            }
        }
        self.at += 1;
        Ok(escaped)
    }

    fn escape(&mut self) -> Scan {
        let start = self.at;
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek()?.is_ascii_hexdigit() {
                        return self.fail_at(start, DecodeErrorKind::InvalidEscape);
                    }
                    self.at += 1;
                }
            }
            _ => return self.fail_at(start, DecodeErrorKind::InvalidEscape),
        }
        Ok(())
    }

    #[cold]
    fn check_utf8(&mut self) -> Scan {
        match core::str::from_utf8(&self.bytes[self.at..]) {
            Ok(_) => {
                self.stops = Stops::of_utf8();
                Ok(())
            }
            Err(error) => self.fail_at(self.at + error.valid_up_to(), DecodeErrorKind::NotUtf8),
        }
    }

    /// Nothing but white space until the end.
    #[inline]
    fn end(&mut self) -> Scan {
        match self.token() {
            Ok(_) => self.fail(DecodeErrorKind::TrailingBytes),
            Err(Fault) => Ok(()),
        }
    }

    /// The next byte that is not white space; it is not consumed.
    #[inline]
    fn token(&mut self) -> Scan<u8> {
        match self.peek()? {
            found if found > b' ' => Ok(found),
            _ => self.token_after_space(),
        }
    }

    #[cold]
    fn token_after_space(&mut self) -> Scan<u8> {
        loop {
            match self.peek()? {
                b' ' | b'\t' => {}
                b'\r' | b'\n' => self.breaks = true,
                found => return Ok(found),
            }
            self.at += 1;
        }
    }

    /// The next byte; at the end the event is truncated.
    #[inline]
    fn peek(&self) -> Scan<u8> {
        self.bytes.get(self.at).copied().ok_or(Fault)
    }

    #[cold]
    fn unexpected<T>(&mut self, found: u8, expected: Expected) -> Scan<T> {
        self.fail(DecodeErrorKind::Unexpected { found, expected })
    }

    #[cold]
    fn fail_at<T>(&mut self, at: usize, kind: DecodeErrorKind) -> Scan<T> {
        self.at = at;
        self.fail(kind)
    }

    #[cold]
    fn fail<T>(&mut self, kind: DecodeErrorKind) -> Scan<T> {
        self.fault = kind;
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

#[derive(Clone, Copy, PartialEq)]
enum Container {
    Array,
    Object,
}

/// One bit for each open container inside the event's object; the innermost 64 stand in a word of their own.
struct Nesting {
    depth: usize,
    inner: u64,
    outer: [u64; MAX_DEPTH / 64],
}

impl Nesting {
    #[inline]
    fn new() -> Self {
        Nesting {
            depth: 1,
            inner: 0,
            outer: [0; MAX_DEPTH / 64],
        }
    }

    /// Whether there was room.
    #[inline]
    fn push(&mut self, container: Container) -> bool {
        if self.depth == MAX_DEPTH {
            return false;
        }
        if self.depth.is_multiple_of(64) {
            self.outer[self.depth / 64] = self.inner;
        }
        self.inner = self.inner << 1 | u64::from(container == Container::Object);
        self.depth += 1;
        true
    }

    #[inline]
    fn pop(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth.is_multiple_of(64) {
            self.inner = self.outer[self.depth / 64];
        }
    }

    #[inline]
    fn innermost(&self) -> Option<Container> {
        match (self.depth, self.inner & 1) {
            (1, _) => None,
            (_, 1) => Some(Container::Object),
            _ => Some(Container::Array),
        }
    }
}

#[cfg(test)]
mod tests;
