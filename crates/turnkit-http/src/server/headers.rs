//! Headers that mean one thing, once.

use http::{HeaderMap, header::AUTHORIZATION};

use super::ApiError;

/// The value of a header that may be there once, `None` where it is not. An empty one is `Some("")`.
///
/// # Errors
/// 400 `invalid_request` with the header as its `field`: it is there twice, so that two readers could take different ones, or
/// it holds something else than visible ASCII, spaces and tabs.
pub fn single_header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let (Ok(value), None) = (value.to_str(), values.next()) else {
        let message = format!("the header {name} must be there once, in visible ASCII");
        return Err(ApiError::invalid_request(message).field(name));
    };
    Ok(Some(value))
}

/// The token of the one `Authorization: Bearer` (RFC 6750, 2.1). Two such headers are none.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let is_one = values.next().is_none();
    (is_one && scheme.eq_ignore_ascii_case(b"Bearer ")).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn with(headers: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let pair = |&(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        headers.iter().map(pair).collect()
    }

    #[test]
    fn a_bearer_token_stands_in_one_header() {
        let token = |values: &[&'static str]| {
            let headers: Vec<_> =
                values.iter().map(|value| ("authorization", value.as_bytes())).collect();
            bearer_token(&with(&headers)).map(<[u8]>::to_vec)
        };
        assert_eq!(token(&["Bearer abc"]), Some(b"abc".to_vec()));
        assert_eq!(token(&["bearer  abc "]), Some(b"abc".to_vec()));
        assert_eq!(token(&["Bearer abc", "Bearer abc"]), None);
        for value in ["", "Bearer", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(token(&[value]), None, "{value}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_or_unreadable_is_told_by_its_name() {
        let headers =
            with(&[("x-one", b"1"), ("x-two", b"1"), ("x-two", b"1"), ("x-odd", b"\xff")]);
        assert_eq!(single_header(&headers, "X-One"), Ok(Some("1")));
        assert_eq!(single_header(&headers, "X-None"), Ok(None));
        for name in ["X-Two", "X-Odd"] {
            let refused = single_header(&headers, name).unwrap_err();
            let message = format!("the header {name} must be there once, in visible ASCII");
            assert_eq!(refused, ApiError::invalid_request(message).field(name));
        }
    }
}
