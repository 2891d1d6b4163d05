//! How an answer ends: the table of reasons.

use turnkit_wire::write::FinishReason;

/// Why an answer ended, as its server says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// Nothing is missing.
    Whole(Reason),
    /// It is good as far as it goes.
    Cut(Reason),
    /// It failed, by this name.
    Failed(String),
}

/// [`FinishReason`], with an order: what says more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Stop,
    ToolCalls,
    Length,
    Filtered,
}

impl Ending {
    /// What a server's own word means; none where it says that there is no end yet.
    pub(crate) fn of(word: &str) -> Option<Self> {
        let mut name = word.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        // Gemini's names, where a gateway passes them on in full.
        if let Some(short) = name.strip_prefix("finish_reason_") {
            name = short.to_owned();
        }
        Some(match name.as_str() {
            "" | "null" | "none" | "in_progress" => return None,
            "stop" | "stop_sequence" | "stop_token" | "stop_string" | "stop_str" | "end"
            | "end_turn" | "end_of_turn" | "end_of_text" | "eos" | "eos_token" | "eot"
            | "complete" | "completed" | "done" | "finish" | "finished" | "normal" | "success"
            | "succeeded" => Self::Whole(Reason::Stop),
            "tool_calls" | "tool_call" | "tool_use" | "function_call" | "function_calls" => {
                Self::Whole(Reason::ToolCalls)
            }
            "length"
            | "max_length"
            | "max_tokens"
            | "max_token"
            | "max_output_tokens"
            | "max_completion_tokens"
            | "max_new_tokens"
            | "token_limit"
            | "model_length"
            | "context_length"
            | "context_window"
            | "model_context_window_exceeded"
            | "limit" => Self::Cut(Reason::Length),
            "content_filter" | "content_filtered" | "safety" | "recitation"
            | "prohibited_content" | "blocklist" | "spii" | "sensitive" | "language" => {
                Self::Cut(Reason::Filtered)
            }
            _ => Self::Failed(word.trim().to_owned()),
        })
    }

    /// In the words of PROTOCOL 1.1.
    pub(crate) fn finish_reason(&self) -> FinishReason {
        match self {
            Self::Whole(reason) | Self::Cut(reason) => match reason {
                Reason::Stop => FinishReason::Stop,
                Reason::ToolCalls => FinishReason::ToolCalls,
                Reason::Length => FinishReason::Length,
                Reason::Filtered => FinishReason::ContentFilter,
            },
            Self::Failed(_) => FinishReason::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_known_in_any_case() {
        let whole = Some(Ending::Whole(Reason::Stop));
        for word in ["stop", "STOP", " Stop ", "eos_token", "end-turn", "FINISH_REASON_STOP"] {
            assert_eq!(Ending::of(word), whole, "{word}");
        }
        assert_eq!(Ending::of("MAX_TOKENS"), Some(Ending::Cut(Reason::Length)));
        assert_eq!(Ending::of("Content_Filter"), Some(Ending::Cut(Reason::Filtered)));
        assert_eq!(Ending::of("Network_Error"), Some(Ending::Failed("Network_Error".to_owned())));
        for none in ["", " ", "null", "None"] {
            assert_eq!(Ending::of(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_worse_is_greater() {
        let whole = Ending::Whole(Reason::ToolCalls);
        assert!(Ending::Whole(Reason::Stop) < whole);
        assert!(whole < Ending::Cut(Reason::Length));
        assert!(Ending::Cut(Reason::Filtered) < Ending::Failed(String::new()));
    }
}
