//! Reading what others send: JSON that is nearly JSON, texts of which a character comes in two halves, and the words of an
//! error wherever they stand.

mod error;
mod halves;
mod json;

pub(crate) use self::{
    error::{is_nothing, words},
    json::{number, read},
};
#[cfg(feature = "openai")]
pub(crate) use self::{halves::Halves, json::Depth};
