//! What others put into a running execution for its runner: answers to its questions, and inputs (PROTOCOL 3.6).

use turnkit_wire::{Event, interaction};

/// A place in an execution's inbox, which takes one event, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The answer to the question of this id. The slot is made with the question.
    Interaction(String),
    /// The input of this id. The slot is made with the input.
    Input(String),
}

impl Slot {
    /// The id of the question or of the input.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Interaction(id) | Self::Input(id) => id,
        }
    }

    /// The slot that an `interaction.answered` or an `input` is for. `None` for any other event, and for an id that is none.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let is_id = |id: &String| interaction::is_id(id);
        let answered = interaction::Answered::of(event).and_then(|view| view.id());
        let input = interaction::Input::of(event).and_then(|view| view.id());
        let interaction = answered.map(|id| id.to_str().into_owned()).filter(is_id);
        let input = input.map(|id| id.to_str().into_owned()).filter(is_id);
        interaction.map(Self::Interaction).or_else(|| input.map(Self::Input))
    }
}

/// How a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The number of the event that asked; 0 for an input.
    pub asked: u64,
    /// What came into it.
    pub content: Content,
}

/// What came into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: a question is pending.
    Nothing,
    /// An event that its runner has not appended yet. It never will where the execution has ended.
    Posted,
    /// The event of this number.
    Appended(u64),
}

/// What a post came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// It is in the slot now.
    Set,
    /// Something was in the slot before, and stays.
    Occupied,
    /// No question of this id was asked.
    Unknown,
    /// As many inputs as there may be are not taken yet.
    Crowded,
    /// The execution runs no more.
    Ended,
}

/// What an append does to the inbox, in the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Nothing.
    None,
    /// The event asks the question of this id: it is pending from now on.
    Asks(&'a str),
    /// The event is what was posted into this slot first, and is not appended yet.
    Tells(&'a Slot),
    /// The event says that the agent has the input of this id.
    Takes(&'a str),
}

/// How many inputs an execution can have that are not taken yet.
pub const MAX_UNTAKEN: usize = 16;

/// What a slot is charged besides its id, and besides what is posted into it until that is appended.
pub(super) const SLOT: u64 = 128;
