//! The agent that asks an OpenAI-compatible endpoint.
