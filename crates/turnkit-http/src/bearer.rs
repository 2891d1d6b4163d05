/// Whether `text` can be sent as a bearer token: visible ASCII, and not empty.
///
/// RFC 6750 (2.1) allows fewer characters; tokens that are in use have others as well.
#[must_use]
#[cfg_attr(
    not(feature = "server"),
    expect(unreachable_pub, reason = "the servers' module exports it")
)]
pub fn is_bearer_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
