//! JSON objects from peers.

use serde::Deserialize;

/// Reads one JSON object into `T`. An array is refused: serde would take the members' values in their order.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, NotAnObject> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotAnObject { line: 1, column: 1 });
    }
    serde_json::from_slice(json)
        .map_err(|error| NotAnObject { line: error.line(), column: error.column() })
}

/// Where it stopped to be one; never what stands there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotAnObject {
    pub(crate) line: usize,
    pub(crate) column: usize,
}
