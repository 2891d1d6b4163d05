//! What an encoder is.

use turnkit_wire::Event;

use crate::Chunks;

/// Tells one turn to a front end: events in the order of the turn's body in, chunks out.
///
/// It is a *reader* of the body, like any client, and deterministic: which chunks are counted, and what stands in them, depends on
/// the events alone. So any worker that reads the same turn from its first event can serve the rest of a response. What it holds
/// is bounded: lengths and digests in the place of texts.
pub trait Encoder {
    /// Tells what an event says beyond the events before it. After the turn's end it tells nothing more.
    fn event(&mut self, event: &Event, out: &mut Chunks);

    /// As [`Encoder::event`], for an `interaction` that waits for its answer now. It makes the same number of chunks.
    fn pending(&mut self, interaction: &Event, out: &mut Chunks);

    /// Ends the response at an `interaction` that was told and waits for its answer: the client is to answer it. What it writes is
    /// not counted. Nothing happens where the event is no question that can be answered.
    fn pause(&mut self, interaction: &Event, out: &mut Chunks);

    /// Begins the response that goes on behind an `interaction`.
    fn resume(&mut self, out: &mut Chunks);
}
