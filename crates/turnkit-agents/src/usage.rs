//! The tokens of an answer, as Anthropic counts them.

use serde_json::Value;
use turnkit_wire::write::TokenUsage;

use crate::lenient::number;

/// The counts of a message, as far as they are known.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
}

impl Usage {
    /// Takes the counts that are there.
    pub(crate) fn learn(&mut self, usage: &Value) {
        for (known, name) in [
            (&mut self.input, "input_tokens"),
            (&mut self.output, "output_tokens"),
            (&mut self.cache_read, "cache_read_input_tokens"),
            (&mut self.cache_written, "cache_creation_input_tokens"),
        ] {
            *known = usage.get(name).and_then(number).or(*known);
        }
    }

    /// In the terms of PROTOCOL 1.1, where what a cache gave is part of the input; here it is counted beside it.
    pub(crate) fn tokens(self) -> Option<TokenUsage> {
        let cached = self
            .cache_read
            .unwrap_or_default()
            .saturating_add(self.cache_written.unwrap_or_default());
        let usage = TokenUsage::new(self.input?.saturating_add(cached), self.output?);
        Some(usage.cached_input(self.cache_read))
    }
}
