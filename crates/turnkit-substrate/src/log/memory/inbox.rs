use std::collections::{BTreeMap, VecDeque};

use turnkit_wire::Event;

use crate::log::{Change, Content, MAX_UNTAKEN, Post, SLOT, Slot, SlotState};

/// The inbox of one execution. It lives under the same lock as the journal, so an event and what it does here are one step.
#[derive(Default)]
pub(super) struct Inbox {
    slots: BTreeMap<Slot, SlotState>,
    /// What is not appended yet, the oldest first.
    posted: VecDeque<(Slot, Event)>,
    /// The questions that wait for an answer in the log, by the number of the event that asked.
    pending: BTreeMap<u64, String>,
    /// The inputs in the log that are not taken, by the number of their event.
    untaken: BTreeMap<u64, String>,
    bytes: u64,
}

impl Inbox {
    /// What it is charged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn slot(&self, slot: &Slot) -> Option<SlotState> {
        self.slots.get(slot).copied()
    }

    pub(super) fn pending(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    pub(super) fn untaken(&self) -> Vec<String> {
        self.untaken.values().cloned().collect()
    }

    pub(super) fn posted(&self) -> Vec<(Slot, Event)> {
        self.posted.iter().cloned().collect()
    }

    /// Sets a slot, if nothing is in it.
    pub(super) fn post(&mut self, slot: &Slot, event: &Event) -> Post {
        let asked = match (self.slots.get(slot), slot) {
            (Some(SlotState { asked, content: Content::Nothing }), _) => *asked,
            (Some(_), _) => return Post::Occupied,
            (None, Slot::Interaction(_)) => return Post::Unknown,
            (None, Slot::Input(_)) => {
                let on_the_way = |(slot, _): &&(Slot, Event)| matches!(slot, Slot::Input(_));
                let on_the_way = self.posted.iter().filter(on_the_way).count();
                if self.untaken.len() + on_the_way >= MAX_UNTAKEN {
                    return Post::Crowded;
                }
                0
            }
        };
        self.bytes += post_cost(slot, event);
        self.slots.insert(slot.clone(), SlotState { asked, content: Content::Posted });
        self.posted.push_back((slot.clone(), event.clone()));
        Post::Set
    }

    /// Whether a question can be asked: its id is new.
    pub(super) fn is_new(&self, id: &str) -> bool {
        !self.slots.contains_key(&Slot::Interaction(id.to_owned()))
    }

    /// Does what the event of number `seq` says. Gives how many bytes are free by that.
    pub(super) fn apply(&mut self, change: Change<'_>, seq: u64) -> u64 {
        match change {
            Change::None => {}
            Change::Asks(id) => {
                self.bytes += ask_cost(id);
                let state = SlotState { asked: seq, content: Content::Nothing };
                self.slots.insert(Slot::Interaction(id.to_owned()), state);
                self.pending.insert(seq, id.to_owned());
            }
            Change::Tells(slot) => {
                if let Some(state) = self.slots.get_mut(slot) {
                    state.content = Content::Appended(seq);
                    self.pending.remove(&state.asked);
                }
                if let Slot::Input(id) = slot {
                    self.untaken.insert(seq, id.clone());
                }
                let at = self.posted.iter().position(|(posted, _)| posted == slot);
                let told = at.and_then(|at| self.posted.remove(at));
                return told.map_or(0, |(_, event)| self.free(event_cost(&event)));
            }
            Change::Takes(id) => self.untaken.retain(|_, untaken| untaken != id),
        }
        0
    }

    /// The execution has ended: nothing is pending any more, and what is not appended never will be. Gives how many bytes are
    /// free by that.
    pub(super) fn close(&mut self) -> u64 {
        self.pending.clear();
        self.untaken.clear();
        let posted = std::mem::take(&mut self.posted);
        self.free(posted.iter().map(|(_, event)| event_cost(event)).sum())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn free(&mut self, bytes: u64) -> u64 {
        self.bytes -= bytes;
        bytes
    }
}

/// What a question is charged besides its event.
pub(super) fn ask_cost(id: &str) -> u64 {
    SLOT + id.len() as u64
}

/// What a post is charged until it is appended, and an input's slot for as long as the log is there.
pub(super) fn post_cost(slot: &Slot, event: &Event) -> u64 {
    let slot = if let Slot::Input(id) = slot { ask_cost(id) } else { 0 };
    slot + event_cost(event)
}

fn event_cost(event: &Event) -> u64 {
    event.as_line().len() as u64
}
