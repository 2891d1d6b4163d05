//! The forms of request and answer.

/// What an endpoint speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Api {
    /// `POST {base}/chat/completions`, as OpenAI began it and nearly everybody serves it.
    #[default]
    ChatCompletions,
    /// `POST {base}/messages`, Anthropic's. The key is sent as `x-api-key`.
    Messages,
    /// `POST {base}/responses`, OpenAI's newer one. Nothing is stored there.
    Responses,
}

impl Api {
    /// Where requests go, below the base URL.
    pub(super) fn path(self) -> &'static [&'static str] {
        match self {
            Self::ChatCompletions => &["chat", "completions"],
            Self::Messages => &["messages"],
            Self::Responses => &["responses"],
        }
    }

    /// Members of a request that this client adds by itself, and which a server may not know.
    pub(super) fn own_options(self) -> &'static [&'static str] {
        match self {
            Self::ChatCompletions => &["stream_options"],
            Self::Messages => &[],
            Self::Responses => &["store"],
        }
    }
}
