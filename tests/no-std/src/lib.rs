//! Links `turnkit-wire`, `turnkit-id` and `turnkit-ui` without std.
//!
//! This library brings the panic handler that std would bring. A std anywhere in the graph brings a second one, and the
//! build fails: duplicate lang item `panic_impl`.
#![no_std]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

use linked_list_allocator::LockedHeap;
use turnkit_id::ExecutionId;
use turnkit_ui::{AgUi, AiSdk, Chunks, Encoder, ui_message};
use turnkit_wire::{Event, lifecycle, ndjson};

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The bytes of a turn's first line and of its execution id: enough to pull the codec and the derivation into the library.
pub extern "C" fn turnkit_no_std_proof(turn_index: u64) -> usize {
    let line = lifecycle::run_completed("session", None, turn_index > 0);
    let id = ExecutionId::derive("project", "session", turn_index);
    let event = decoded(&line);
    let told = event.as_ref().map_or(0, told);
    let line = event.map_or(0, |event| event.as_line().len());
    line + told + id.map_or(0, |id| id.as_str().len())
}

/// The bytes of an event's chunks, and of the message that they make.
fn told(event: &Event) -> usize {
    let mut chunks = Chunks::new();
    AiSdk::new("id").event(event, &mut chunks);
    AgUi::new("thread", "run", "id").event(event, &mut chunks);
    chunks.len() + ui_message(AiSdk::new("id"), [event]).len()
}

fn decoded(event: &Event) -> Option<Event> {
    let mut decoder = ndjson::Decoder::new();
    decoder.push(event.line().clone());
    decoder.next_event()?.ok()
}
