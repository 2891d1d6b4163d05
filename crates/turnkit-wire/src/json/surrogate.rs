//! Characters that are cut in two.
//!
//! JavaScript cuts strings between UTF-16 units. So an agent may end a delta with the escape of a high surrogate and begin the
//! next one with that of its low surrogate: put together as ECMAScript does, the two are one character.

/// The length of the escape of one UTF-16 unit: a backslash, `u` and four digits.
const ESCAPE: usize = 6;

/// The high surrogate that the inside of a JSON string ends with. Nothing can follow it there: it waits for its other half.
pub(super) fn high_at_end(json: &[u8]) -> Option<u16> {
    let (before, escape) = json.split_at(json.len().checked_sub(ESCAPE)?);
    let backslashes = before.iter().rev().take_while(|&&byte| byte == b'\\').count();
    unit(escape).filter(|unit| (0xd800..0xdc00).contains(unit) && backslashes.is_multiple_of(2))
}

/// The character of `high` and of the low surrogate that the inside of a JSON string begins with.
pub(super) fn join(high: u16, json: &[u8]) -> Option<char> {
    let low = unit(json.get(..ESCAPE)?)?;
    char::decode_utf16([high, low]).next()?.ok()
}

fn unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}
