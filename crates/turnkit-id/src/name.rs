/// Whether `text` can be the name of an agent, or the code of a failure: 1 to 64 of `A-Za-z0-9._-`.
///
/// ```
/// assert!(turnkit_id::is_name("gpt-5.mini"));
/// assert!(!turnkit_id::is_name("two words"));
/// ```
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}
