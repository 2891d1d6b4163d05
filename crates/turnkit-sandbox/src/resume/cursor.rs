//! Where a reader stands in an execution's log, and what the next id says about it (PROTOCOL 3.1, 4.1).

use std::{
    cmp::Ordering,
    collections::{HashSet, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
};

/// The longest id that is sent back in a header, in bytes.
const MAX_ID: usize = 1024;

/// How many bytes of opaque ids are remembered: 100,000 of 40 bytes.
const MAX_REMEMBERED: usize = 4 << 20;

/// The id of the last event consumed.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    last: String,
    order: Order,
}

/// Where an id stands against the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It follows the cursor, which has moved to it.
    Next,
    /// The event of this id was consumed before.
    Consumed,
    /// Events are missing between the cursor and this id, or the log is not the one that was read before.
    Gap,
}

impl Cursor {
    /// The id to come back with; none before the first id.
    pub(super) fn last(&self) -> Option<&str> {
        (!self.last.is_empty()).then_some(&self.last)
    }

    /// Whether `id` can name a place to come back to: what a header carries unchanged.
    pub(super) fn is_usable(id: &str) -> bool {
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte > b' ' && byte != 0x7f)
    }

    /// Places `id`, and moves to it where it is the next one.
    pub(super) fn advance(&mut self, id: &str) -> Place {
        let place = self.order.advance(id);
        if place == Place::Next {
            self.last.clear();
            self.last.push_str(id);
        }
        place
    }
}

/// What is known of an execution's ids, by their shape.
#[derive(Debug, Default)]
enum Order {
    #[default]
    Unknown,
    Epoch(EpochOrder),
    /// All numbers of this range were read, one by one.
    Integers(RangeInclusive<u64>),
    Opaque(Remembered),
}

impl Order {
    fn advance(&mut self, id: &str) -> Place {
        match (self, Shape::of(id)) {
            (Self::Epoch(order), Shape::Epoch { epoch, seq }) => order.advance(epoch, seq),
            (Self::Epoch(_), _) => Place::Gap,
            (Self::Integers(read), Shape::Integer(found)) => advance_integer(read, found),
            (Self::Opaque(remembered), shape) => remembered.advance(id, shape),
            (unknown @ Self::Unknown, shape) => unknown.begin(id, shape),
            (integers @ Self::Integers(_), shape) => integers.become_opaque(id, shape),
        }
    }

    fn begin(&mut self, id: &str, shape: Shape) -> Place {
        *self = match shape {
            // The log counts from 1, so what begins later has lost its head.
            Shape::Epoch { seq, .. } if seq > 1 => return Place::Gap,
            Shape::Epoch { epoch, seq } => Self::Epoch(EpochOrder::new(epoch, seq)),
            Shape::Integer(at) => Self::Integers(at..=at),
            Shape::Opaque => Self::Opaque(Remembered::default()),
        };
        match self {
            Self::Opaque(remembered) => remembered.advance(id, shape),
            _ => Place::Next,
        }
    }

    /// Digits only by chance: a hexadecimal id now and then is.
    fn become_opaque(&mut self, id: &str, shape: Shape) -> Place {
        let mut remembered = Remembered::default();
        if let Self::Integers(read) = self {
            remembered.numbers = Some(read.clone());
        }
        let place = remembered.advance(id, shape);
        *self = Self::Opaque(remembered);
        place
    }
}

fn advance_integer(read: &mut RangeInclusive<u64>, found: u64) -> Place {
    let (first, last) = (*read.start(), *read.end());
    if found <= last {
        return Place::Consumed;
    }
    if found - last > 1 {
        return Place::Gap;
    }
    *read = first..=found;
    Place::Next
}

/// The shape of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Epoch { epoch: u64, seq: u64 },
    Integer(u64),
    Opaque,
}

impl Shape {
    fn of(id: &str) -> Self {
        // An id is short: a loop finds its hyphen sooner than a search that is made for long texts.
        let shape = match id.bytes().position(|byte| byte == b'-') {
            Some(at) => {
                let epoch = digits(&id[..at]).zip(digits(&id[at + 1..]));
                epoch.map(|(epoch, seq)| Self::Epoch { epoch, seq })
            }
            None => digits(id).map(Self::Integer),
        };
        shape.unwrap_or(Self::Opaque)
    }
}

/// Digits and nothing else: `u64::from_str` would take a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text)?.parse().ok()
}

/// The place in a log of `<epoch>-<seq>`.
#[derive(Debug)]
struct EpochOrder {
    epoch: u64,
    /// The first `seq` read under this epoch: smaller ones belong to earlier epochs.
    first: u64,
    seq: u64,
}

impl EpochOrder {
    fn new(epoch: u64, seq: u64) -> Self {
        Self { epoch, first: seq, seq }
    }

    fn advance(&mut self, epoch: u64, seq: u64) -> Place {
        if self.is_consumed(epoch, seq) {
            return Place::Consumed;
        }
        if epoch < self.epoch || self.seq.checked_add(1) != Some(seq) {
            return Place::Gap;
        }
        if epoch > self.epoch {
            *self = Self::new(epoch, seq);
        }
        self.seq = seq;
        Place::Next
    }

    fn is_consumed(&self, epoch: u64, seq: u64) -> bool {
        match epoch.cmp(&self.epoch) {
            Ordering::Less => seq < self.first,
            Ordering::Equal => (self.first..=self.seq).contains(&seq),
            Ordering::Greater => false,
        }
    }
}

/// The opaque ids that were consumed, as far back as memory allows.
#[derive(Debug, Default)]
struct Remembered {
    /// The numbers that were read before an id was none.
    numbers: Option<RangeInclusive<u64>>,
    ids: HashSet<Arc<str>>,
    oldest_first: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Remembered {
    fn advance(&mut self, id: &str, shape: Shape) -> Place {
        if self.ids.contains(id) || self.was_number(shape) {
            return Place::Consumed;
        }
        self.remember(id.into());
        self.forget();
        Place::Next
    }

    fn was_number(&self, shape: Shape) -> bool {
        match (&self.numbers, shape) {
            (Some(read), Shape::Integer(number)) => read.contains(&number),
            _ => false,
        }
    }

    fn remember(&mut self, id: Arc<str>) {
        self.bytes += id.len();
        self.ids.insert(Arc::clone(&id));
        self.oldest_first.push_back(id);
    }

    fn forget(&mut self) {
        while self.bytes > MAX_REMEMBERED {
            let Some(oldest) = self.oldest_first.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place::*, *};

    fn places(ids: &[&str]) -> Vec<Place> {
        let mut cursor = Cursor::default();
        ids.iter().map(|id| cursor.advance(id)).collect()
    }

    #[test]
    fn a_seq_goes_up_by_one_within_an_epoch() {
        assert_eq!(places(&["7-1", "7-2", "7-3"]), [Next, Next, Next]);
        assert_eq!(places(&["7-1", "7-3"]), [Next, Gap]);
        assert_eq!(
            places(&["7-1", "7-2", "7-1", "7-2", "7-3"]),
            [Next, Next, Consumed, Consumed, Next]
        );
    }

    #[test]
    fn a_log_that_does_not_begin_with_its_first_event_has_a_gap() {
        assert_eq!(places(&["7-2"]), [Gap]);
        assert_eq!(places(&["7-0", "7-1"]), [Next, Next]);
    }

    #[test]
    fn a_new_epoch_goes_on_with_the_next_seq_or_is_a_gap() {
        assert_eq!(places(&["7-1", "7-2", "9-3", "9-4"]), [Next; 4]);
        assert_eq!(places(&["7-1", "7-2", "9-2"]), [Next, Next, Gap]);
        assert_eq!(places(&["7-1", "7-2", "9-1"]), [Next, Next, Gap]);
        assert_eq!(places(&["7-1", "7-2", "9-4"]), [Next, Next, Gap]);
    }

    #[test]
    fn an_earlier_epoch_is_a_replay_below_the_take_over_and_a_fork_above_it() {
        let read = ["7-1", "7-2", "9-3", "9-4"];
        let last = |id| *places(&[&read[..], &[id]].concat()).last().unwrap();
        assert_eq!(last("7-2"), Consumed);
        assert_eq!(last("7-3"), Gap);
        assert_eq!(last("7-5"), Gap);
        assert_eq!(last("9-2"), Gap);
    }

    #[test]
    fn integers_are_checked_for_gaps_wherever_they_begin() {
        assert_eq!(places(&["41", "42", "41", "43", "45"]), [Next, Next, Consumed, Next, Gap]);
        assert_eq!(places(&["0", "1"]), [Next, Next]);
    }

    #[test]
    fn opaque_ids_are_not_checked_for_gaps_but_dropped_when_repeated() {
        assert_eq!(
            places(&["a", "c", "b", "c", "a", "d"]),
            [Next, Next, Next, Consumed, Consumed, Next]
        );
        assert_eq!(places(&["12", "1f", "12", "99", "2a"]), [Next, Next, Consumed, Next, Next]);
    }

    #[test]
    fn an_id_that_turns_out_opaque_forgets_none_of_the_numbers_before_it() {
        assert_eq!(
            places(&["7", "8", "9", "a", "7", "8", "9", "a", "b", "10"]),
            [Next, Next, Next, Next, Consumed, Consumed, Consumed, Consumed, Next, Next]
        );
    }

    #[test]
    fn a_log_that_leaves_its_shape_has_a_gap() {
        assert_eq!(places(&["7-1", "2"]), [Next, Gap]);
        assert_eq!(places(&["7-1", "x"]), [Next, Gap]);
    }

    #[test]
    fn numbers_at_their_limit_are_neither_wrapped_nor_signed() {
        let max = u64::MAX.to_string();
        assert_eq!(places(&[&max, &max, "0"]), [Next, Consumed, Consumed]);
        assert_eq!(Shape::of("18446744073709551616"), Shape::Opaque);
        assert_eq!(Shape::of("+1"), Shape::Opaque);
        assert_eq!(Shape::of("1-"), Shape::Opaque);
        assert_eq!(Shape::of("1-2-3"), Shape::Opaque);
    }

    #[test]
    fn the_cursor_stays_where_it_was_on_a_gap_or_a_repeat() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.last(), None);
        for id in ["7-1", "7-2", "7-1", "7-9"] {
            cursor.advance(id);
        }
        assert_eq!(cursor.last(), Some("7-2"));
    }

    #[test]
    fn only_what_a_header_carries_unchanged_is_a_cursor() {
        for id in ["", " 1", "1 ", "a b", "a\tb", "a\u{7f}", &"x".repeat(MAX_ID + 1)] {
            assert!(!Cursor::is_usable(id), "{id:?}");
        }
        for id in ["0", "7-1", "ü", &"x".repeat(MAX_ID)] {
            assert!(Cursor::is_usable(id), "{id:?}");
        }
    }

    #[test]
    fn memory_of_opaque_ids_is_bounded_and_keeps_the_newest() {
        let mut remembered = Remembered::default();
        let id = |n: usize| format!("{n:01000x}-");
        for n in 0..5000 {
            assert_eq!(remembered.advance(&id(n), Shape::Opaque), Next);
        }
        assert!(remembered.bytes <= MAX_REMEMBERED);
        let held: usize = remembered.oldest_first.iter().map(|id| id.len()).sum();
        assert_eq!((remembered.bytes, remembered.ids.len()), (held, remembered.oldest_first.len()));
        assert_eq!(remembered.advance(&id(4999), Shape::Opaque), Consumed);
        assert_eq!(remembered.advance(&id(0), Shape::Opaque), Next);
    }
}
