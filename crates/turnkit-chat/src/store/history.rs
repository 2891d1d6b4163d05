//! How much of what was said before a turn goes with its run (PROTOCOL 4.2): one rule for every store.

use super::{HistoryLimits, json_len, said_in};
use crate::{Answer, PartKind, Said};

/// What goes with a run of what was said before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// What was said, the oldest first.
    pub said: Vec<Said>,
    /// What the limits left out.
    pub omitted: Omitted,
    /// The session of the agent's own that the turn goes on with. See [`HistoryBuilder::build`].
    pub agent_session: Option<String>,
}

/// What the limits on a history left out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// Whole turns.
    pub turns: u64,
    /// Bytes of text: that of those turns, and what was cut of a turn that was too big.
    pub bytes: u64,
}

impl Omitted {
    /// Whether nothing was left out.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Omitted::default()
    }
}

/// Makes a [`History`] out of whole turns, the newest first. For stores.
///
/// ```
/// use turnkit_chat::Answer;
/// use turnkit_chat::store::{HistoryBuilder, HistoryLimits, Omitted, said_in};
///
/// let mut history = HistoryBuilder::new(HistoryLimits { turns: 1, ..HistoryLimits::default() });
/// history.take(said_in("And half of it?", &Answer::new("21.")));
/// assert!(history.is_full());
/// history.omit(Omitted { turns: 7, bytes: 1_234 });
/// let history = history.build(None);
/// assert_eq!((history.said.len(), history.omitted.turns), (2, 7));
/// ```
#[derive(Debug)]
pub struct HistoryBuilder {
    limits: HistoryLimits,
    left: usize,
    turns: u32,
    is_full: bool,
    newest_first: Vec<Said>,
    omitted: Omitted,
}

/// JSON that a turn which is cut may take, at least: of a smaller rest nothing could be made use of.
const MIN_SHARE: usize = 512;

impl HistoryBuilder {
    /// An empty one.
    #[must_use]
    pub fn new(limits: HistoryLimits) -> HistoryBuilder {
        HistoryBuilder {
            limits,
            left: limits.bytes,
            turns: 0,
            is_full: limits.turns == 0,
            newest_first: Vec::new(),
            omitted: Omitted::default(),
        }
    }

    /// Whether all turns that are older are left out. They need not be read, and [`omit`](Self::omit) takes their count.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The next older turn whose whole answer is saved, as [`said_in`](super::said_in) tells it; one that tells nothing is passed over. One
    /// that does not fit and takes more than half of the limit is cut, and those before it go on; any other that does not fit is left out,
    /// with all before it.
    pub fn take(&mut self, mut turn: Vec<Said>) {
        if turn.is_empty() {
            return;
        }
        let bytes = text_len(&turn);
        if self.is_full {
            return self.omit(Omitted { turns: 1, bytes });
        }
        let size = turn.iter().map(json_len).sum::<usize>();
        let (half, quarter) = (self.limits.bytes / 2, self.limits.bytes / 4);
        if size > self.left {
            let share = half.min(self.left);
            if size <= half || self.left < quarter || share < MIN_SHARE {
                self.is_full = true;
                return self.omit(Omitted { turns: 1, bytes });
            }
            cut(&mut turn, share);
            self.omitted.bytes += bytes.saturating_sub(text_len(&turn));
        }
        self.left = self.left.saturating_sub(turn.iter().map(json_len).sum());
        self.newest_first.extend(turn.into_iter().rev());
        self.turns += 1;
        self.is_full = self.turns == self.limits.turns;
    }

    /// Counts so many turns with an answer that is not blank, and so much text in all, as left out.
    pub fn omit(&mut self, left_out: Omitted) {
        self.omitted.turns += left_out.turns;
        self.omitted.bytes += left_out.bytes;
    }

    /// What was taken. `agent_session` is what the answer before the turn told as its agent's session
    /// ([`Summary::agent_session_id`](turnkit::Summary::agent_session_id)), where that answer is whole, it is the same agent that is
    /// asked now, and no other turn has gone on from it with that agent.
    #[must_use]
    pub fn build(self, agent_session: Option<String>) -> History {
        let HistoryBuilder { newest_first, omitted, .. } = self;
        History { said: newest_first.into_iter().rev().collect(), omitted, agent_session }
    }
}

/// Bytes of what a turn adds to the history of those after it, as [`said_in`] tells it. `None` where it adds nothing.
pub(crate) fn said_bytes(message: &str, answer: &Answer) -> Option<u64> {
    if !answer.parts.iter().any(|part| part.kind() == PartKind::Input) {
        // One message and one answer, counted without a copy of them.
        let is_blank = answer.text.trim().is_empty();
        return (!is_blank).then(|| (message.len() + answer.text.len()) as u64);
    }
    let said = said_in(message, answer);
    (!said.is_empty()).then(|| text_len(&said))
}

/// Bytes of the text of what was said in a turn.
fn text_len(turn: &[Said]) -> u64 {
    turn.iter().map(|said| said.content.len() as u64).sum()
}

/// Cuts what was said in a turn so that its JSON takes at most `share` bytes: the longest of it, all to the same length.
fn cut(turn: &mut [Said], share: usize) {
    let frames: usize = turn.iter().map(|said| json_len(said) - string_len(&said.content)).sum();
    let mut room = share.saturating_sub(frames);
    let mut shortest_first: Vec<&mut Said> = turn.iter_mut().collect();
    shortest_first.sort_by_key(|said| string_len(&said.content));
    let count = shortest_first.len();
    for (at, said) in shortest_first.into_iter().enumerate() {
        cut_text(&mut said.content, room / (count - at));
        room = room.saturating_sub(string_len(&said.content));
    }
}

/// Cuts a text, between characters and with a note that says so, so that its JSON takes at most `room` bytes.
fn cut_text(text: &mut String, room: usize) {
    if string_len(text) <= room {
        return;
    }
    let note = |left_out: usize| format!("\n[{left_out} bytes of this message were left out]");
    // The note of all that there is has no fewer digits than that of a part.
    let mut used = string_len(&note(text.len()));
    let fits = |(_, char): &(usize, char)| {
        used += match char {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            char => char.len_utf8(),
        };
        used > room
    };
    let end = text.char_indices().find(fits).map_or(text.len(), |(at, _)| at);
    let left_out = text.len() - end;
    text.truncate(end);
    text.push_str(&note(left_out));
}

/// Bytes of a text's JSON.
pub(super) fn string_len(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX / 4, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize, newest_first: &[(String, String)]) -> History {
        let mut history = HistoryBuilder::new(HistoryLimits { turns: 50, bytes });
        for (asked, answer) in newest_first {
            history.take(said_in(asked, &Answer::new(answer.as_str())));
        }
        history.build(None)
    }

    fn turn(asked: &str, answer: &str) -> (String, String) {
        (asked.to_owned(), answer.to_owned())
    }

    #[test]
    fn a_turn_that_is_too_big_is_cut_and_those_before_it_stay() {
        let paste = "\"\u{1F980}\n".repeat(60_000);
        let turns = [turn("and?", "so"), turn(&paste, "read"), turn("one", "1")];
        let limit = 256 * 1024;
        let History { said, omitted, .. } = of(limit, &turns);
        let contents: Vec<_> = said.iter().map(|said| &*said.content).collect();
        let [first, answer, cut, read, and, so] = *contents else { panic!("{}", said.len()) };
        assert_eq!([first, answer, read, and, so], ["one", "1", "read", "and?", "so"]);
        let (kept, note) = cut.rsplit_once("\n[").unwrap();
        let left_out = paste.len() - kept.len();
        assert!(paste.starts_with(kept) && kept.len() > 70_000, "{}", kept.len());
        assert_eq!(note, format!("{left_out} bytes of this message were left out]"));
        assert_eq!(omitted.turns, 0);
        assert_eq!(omitted.bytes, (paste.len() - cut.len()) as u64);
        let json: usize = said.iter().map(json_len).sum();
        assert!(json <= limit && said.iter().map(json_len).max() <= Some(limit / 2), "{json}");
    }

    #[test]
    fn two_texts_that_are_too_big_are_cut_alike_and_a_small_rest_takes_none() {
        let long = "x".repeat(10_000);
        let History { said, omitted, .. } = of(4_096, &[turn(&long, &long), turn(&long, &long)]);
        let lengths: Vec<_> = said.iter().map(|said| said.content.len()).collect();
        // The second is cut to what the first has left.
        assert_eq!(lengths.len(), 4);
        assert!(lengths.iter().all(|length| (900..1_024).contains(length)), "{lengths:?}");
        assert_eq!(
            (omitted.turns, omitted.bytes),
            (0, 40_000 - lengths.iter().sum::<usize>() as u64)
        );
        let none = of(600, &[turn(&long, &long)]);
        assert_eq!((none.said.len(), none.omitted), (0, Omitted { turns: 1, bytes: 20_000 }));
    }

    #[test]
    fn what_does_not_fit_and_is_not_too_big_ends_the_history() {
        let third = "y".repeat(300);
        let turns = [turn("a", &third), turn("b", &third), turn("c", &third), turn("d", "e")];
        let History { said, omitted, .. } = of(1_000, &turns);
        assert_eq!(
            said.iter().map(|said| &*said.content).collect::<Vec<_>>(),
            ["b", &*third, "a", &*third]
        );
        assert_eq!(omitted, Omitted { turns: 2, bytes: 303 });
    }
}
