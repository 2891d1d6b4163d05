//! Agents that are ready to run: a demo, any program, agent CLIs, any model behind an API.
//!
//! ```
//! use turnkit_agents::demo::Demo;
//! use turnkit_substrate::Substrate;
//!
//! let substrate = Substrate::builder().agent("default", Demo::new()).build()?;
//! # Ok::<(), turnkit_substrate::BuildError>(())
//! ```
//!
//! # In scope
//! [`demo`], which needs no key and no network; `command` (feature `command`, on Unix), a program for every run, which prints
//! events, text, the lines of a known tool or the Agent Client Protocol; `openai` (feature `openai`), which asks a model: any
//! server of `/chat/completions`, Anthropic's API or OpenAI's newer one (PROTOCOL 3.4). And `producer` (feature `producer`): any
//! agent as a producer of turns without a substrate, and any producer as an agent.
//!
//! # Out of scope
//! The trait itself and its contract (`turnkit-agent`), and keeping what an agent says (`turnkit-substrate`).

#[cfg(all(feature = "command", unix))]
pub mod command;
pub mod demo;
#[cfg(any(feature = "command", feature = "openai"))]
mod ending;
#[cfg(any(feature = "command", feature = "openai"))]
mod lenient;
#[cfg(feature = "openai")]
pub mod openai;
#[cfg(feature = "producer")]
pub mod producer;
#[cfg(any(feature = "command", feature = "openai"))]
mod usage;

/// Whole milliseconds of `duration`; a longer time than a `u64` holds counts as the longest.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
