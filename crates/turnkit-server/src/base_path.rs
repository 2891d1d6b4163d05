//! The path of a host that a server serves under.

use std::str::FromStr;

/// Bytes that one may have.
const MAX: usize = 256;

/// The path that everything of a [`Server`](crate::Server) lies under: none, or one such as `/chat` or `/tools/chat`, without a slash
/// at its end. Sign-ins hold for it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// The path; empty where there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no [`BasePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be a path such as /chat: a slash before each name of A-Z a-z 0-9 . _ ~ -, at most {MAX} bytes"
)]
pub struct InvalidBasePath;

impl FromStr for BasePath {
    type Err = InvalidBasePath;

    fn from_str(text: &str) -> Result<BasePath, InvalidBasePath> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(BasePath::default());
        }
        // What a browser, a proxy or a cookie would read otherwise has no place in it.
        let is_name = |name: &str| {
            let mut bytes = name.bytes();
            let is_plain =
                bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte));
            is_plain && !matches!(name, "" | "." | "..")
        };
        let names = path.strip_prefix('/').ok_or(InvalidBasePath)?;
        if path.len() > MAX || !names.split('/').all(is_name) {
            return Err(InvalidBasePath);
        }
        Ok(BasePath(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_read_in_one_way_by_everybody() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("/chat", "/chat"),
            ("/chat/", "/chat"),
            ("/tools/my-chat_1.0~", "/tools/my-chat_1.0~"),
        ] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path, "{text}");
        }
        let long = format!("/{}", "x".repeat(MAX));
        for text in [
            "chat",
            "//",
            "//evil.example",
            "/a//b",
            "/a/../b",
            "/.",
            "/a b",
            "/a;Path=x",
            "/a?b",
            "/a%2Fb",
            "/ä",
            "/{a}",
            "/*",
            &long,
        ] {
            assert_eq!(text.parse::<BasePath>(), Err(InvalidBasePath), "{text}");
        }
    }
}
