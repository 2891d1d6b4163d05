//! Reading one execution, whatever the substrate does: no panic; no event is handed on twice or out of order; nothing runs again
//! once a stream was answered; an end is final; and a substrate that only fails is given up in the end.
#![no_main]

use std::{collections::HashSet, time::Duration};

use libfuzzer_sys::fuzz_target;
use turnkit_sandbox::{
    Retry,
    resume::{Answer, Connect, End, Intent, Resume, Step, Verdict},
};

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let intents = [Intent::Run, Intent::Attach, Intent::AttachOrBind, Intent::Join];
    let mut reader = Reader::new(intents[usize::from(first % 4)]);
    for happening in rest.chunks(3) {
        reader.happens(happening);
        reader.checks();
    }
    reader.comes_to_an_end();
});

struct Reader {
    resume: Resume,
    now: Duration,
    may_run: bool,
    ended: Option<End>,
    /// The ids of the events that were handed on.
    handed_on: HashSet<String>,
    /// Whether the log's first id was `<epoch>-<seq>`; only then the ids tell an order.
    ordered: Option<bool>,
    last_place: Option<u64>,
}

impl Reader {
    fn new(intent: Intent) -> Self {
        let now = Duration::from_secs(100);
        Reader {
            resume: Resume::new(intent, Retry::BEFORE_ANSWER, Retry::AFTER_ANSWER, now),
            now,
            may_run: intent == Intent::Run,
            ended: None,
            handed_on: HashSet::new(),
            ordered: None,
            last_place: None,
        }
    }

    /// One byte says what, two more say more about it. What the driver would not report in this state does not happen.
    fn happens(&mut self, happening: &[u8]) {
        let byte = |at: usize| happening.get(at).copied().unwrap_or_default();
        let spread = f64::from(byte(1)) / 255.0;
        let (connects, reads) = match self.resume.step() {
            Step::Connect(_) => (true, false),
            Step::Read => (false, true),
            Step::WaitUntil(_) => (false, false),
            Step::AskWhetherDue => return self.resume.due(byte(1) % 2 == 0, self.now, spread),
            Step::Bind => return self.resume.bound(byte(1) % 2 == 0),
            Step::End(_) => (true, true),
        };
        if byte(0) == 0xff {
            self.resume.begun(self.now);
            self.may_run = false;
            return;
        }
        match byte(0) % 16 {
            0..8 | 12 | 14 if !reads => {}
            8..12 if !connects => {}
            13 if !connects && !reads => {}
            0..8 => self.frame(byte(0) / 16, byte(1), byte(2)),
            8 => self.answered(Answer::Stream, spread),
            9 => self.answered(Answer::NothingMore, spread),
            10 if byte(1) % 2 == 0 => self.answered(Answer::Lost, spread),
            10 => self.answered(Answer::Unusable, spread),
            11 => {
                let status = 200 + u16::from(byte(1)) * 2;
                let retry_after = Some(Duration::from_secs(u64::from(byte(2)).pow(3)));
                self.answered(Answer::Refused { status, retry_after }, spread);
            }
            12 => self.resume.closed(self.now, spread),
            13 => self.resume.failed(self.now, spread),
            14 => self.resume.server_wait(Duration::from_millis(u64::from(byte(1)).pow(4))),
            _ if byte(1) == 0xff => self.resume.unreadable(),
            _ => {
                self.now += Duration::from_millis(u64::from(byte(1)).pow(2));
                self.resume.tick(self.now);
            }
        }
    }

    fn answered(&mut self, answer: Answer, spread: f64) {
        self.resume.answered(answer, self.now, spread);
        self.may_run &= answer != Answer::Stream;
    }

    fn frame(&mut self, shape: u8, high: u8, low: u8) {
        const KINDS: [&str; 8] = [
            "message.part.updated",
            "result",
            "heartbeat",
            "execution.started",
            "done",
            "error",
            "execution.completed",
            "execution.failed",
        ];
        // Mostly the next few, so that something is read.
        let seq = u64::from(low % 32);
        let id = match shape % 8 {
            0..4 => format!("{}-{seq}", high / 64),
            4 => seq.to_string(),
            5 => format!("{seq:x}"),
            6 => String::from_utf8_lossy(&[high, low]).into_owned(),
            _ => String::new(),
        };
        let kind = KINDS[usize::from(high % 16).min(KINDS.len() - 1)];
        let ended = self.ended.is_some();
        if is_usable(&id) {
            self.ordered.get_or_insert(place(&id).is_some());
        }
        let verdict = self.resume.frame(Some(&id).filter(|id| !id.is_empty()).map(String::as_str), kind);
        assert!(!ended || verdict == Verdict::End);
        match verdict {
            Verdict::Forward if is_usable(&id) => self.handed_on(id),
            Verdict::End => assert!(matches!(self.resume.step(), Step::End(_))),
            Verdict::Forward | Verdict::Skip => {}
        }
    }

    fn handed_on(&mut self, id: String) {
        if self.ordered == Some(true) {
            let place = place(&id).expect("a log that leaves its shape has a gap");
            assert!(self.last_place.is_none_or(|last| last < place), "{id} comes after {:?}", self.last_place);
            self.last_place = Some(place);
        }
        assert!(self.handed_on.insert(id), "an event was handed on twice");
    }

    fn checks(&mut self) {
        let end = match self.resume.step() {
            Step::Connect(Connect::Run) => {
                assert!(self.may_run, "a second run");
                None
            }
            Step::Connect(Connect::Attach { cursor }) => {
                assert!(cursor == "0" || is_usable(cursor));
                None
            }
            Step::Read | Step::WaitUntil(_) | Step::AskWhetherDue | Step::Bind => None,
            Step::End(end) => Some(end.clone()),
        };
        assert!(self.ended.is_none() || self.ended == end, "an end was left");
        self.ended = end;
    }

    /// From now on everything fails.
    fn comes_to_an_end(&mut self) {
        for _ in 0..10_000 {
            match self.resume.step() {
                Step::End(_) => return,
                Step::WaitUntil(until) => {
                    self.now = self.now.max(until);
                    self.resume.tick(self.now);
                    assert!(matches!(self.resume.step(), Step::Connect(_)), "a wait that does not end");
                }
                Step::Connect(_) | Step::Read => self.resume.failed(self.now, 0.5),
                Step::AskWhetherDue => self.resume.due(false, self.now, 0.5),
                Step::Bind => self.resume.bound(false),
            }
            self.checks();
        }
        panic!("tries for ever");
    }
}

/// The seq of `<epoch>-<seq>`, which goes on over epochs.
fn place(id: &str) -> Option<u64> {
    let (epoch, seq) = id.split_once('-')?;
    epoch.parse::<u64>().ok()?;
    seq.parse().ok()
}

/// What a header carries unchanged.
fn is_usable(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte > b' ' && byte != 0x7f)
}
