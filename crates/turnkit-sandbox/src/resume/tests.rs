use proptest::prelude::*;

use super::*;

const MIDDLE: f64 = 0.5;

/// One reader, told what happens and asked what it would do.
struct Scenario {
    resume: Resume,
    now: Duration,
}

impl Scenario {
    fn new(intent: Intent) -> Self {
        let now = Duration::from_secs(100);
        let resume = Resume::new(intent, Retry::BEFORE_ANSWER, Retry::AFTER_ANSWER, now);
        Self { resume, now }
    }

    fn run() -> Self {
        Self::new(Intent::Run)
    }

    /// A run that was answered by a stream.
    fn open() -> Self {
        Self::run().stream()
    }

    fn stream(self) -> Self {
        self.answered(Answer::Stream).steps(Step::Read)
    }

    fn refused(self, status: u16) -> Self {
        self.answered(Answer::Refused { status, retry_after: None })
    }

    fn refused_for(self, status: u16, secs: u64) -> Self {
        let retry_after = Some(Duration::from_secs(secs));
        self.answered(Answer::Refused { status, retry_after })
    }

    fn answered(mut self, answer: Answer) -> Self {
        self.resume.answered(answer, self.now, MIDDLE);
        self
    }

    fn frame(mut self, id: &str, kind: &str, expected: Verdict) -> Self {
        let id = Some(id).filter(|id| !id.is_empty());
        assert_eq!(self.resume.frame(id, Class::of(kind.as_bytes())), expected, "{id:?} {kind}");
        self
    }

    fn forwards(self, id: &str) -> Self {
        self.frame(id, "message.part.updated", Verdict::Forward)
    }

    fn skips(self, id: &str) -> Self {
        self.frame(id, "message.part.updated", Verdict::Skip)
    }

    fn lost(self) -> Self {
        self.answered(Answer::Lost)
    }

    fn due(self, is_due: bool) -> Self {
        let mut asked = self.steps(Step::AskWhetherDue);
        asked.resume.due(is_due, asked.now, MIDDLE);
        asked
    }

    fn bound(self, is_there: bool) -> Self {
        let mut binding = self.steps(Step::Bind);
        binding.resume.bound(is_there);
        binding
    }

    fn begun(mut self) -> Self {
        self.resume.begun(self.now);
        self
    }

    fn closed(mut self) -> Self {
        self.resume.closed(self.now, MIDDLE);
        self
    }

    fn failed(mut self) -> Self {
        self.resume.failed(self.now, MIDDLE);
        self
    }

    fn later(mut self, secs: u64) -> Self {
        self.now += Duration::from_secs(secs);
        self
    }

    fn retry_field(mut self, millis: u64) -> Self {
        self.resume.server_wait(Duration::from_millis(millis));
        self
    }

    fn steps(self, expected: Step<'_>) -> Self {
        assert_eq!(self.resume.step(), expected);
        self
    }

    fn runs(self) -> Self {
        self.steps(Step::Connect(Connect::Run))
    }

    fn attaches(self, cursor: &str) -> Self {
        self.steps(Step::Connect(Connect::Attach { cursor }))
    }

    /// Waits for that long and no less, then the time has come.
    fn waits(mut self, secs: f64) -> Self {
        let until = self.now + Duration::from_secs_f64(secs);
        self.resume.tick(until.saturating_sub(Duration::from_nanos(1)));
        self = self.steps(Step::WaitUntil(until));
        self.resume.tick(until);
        self.now = until;
        self
    }

    fn ends(self, end: &End) {
        assert_eq!(self.resume.step(), Step::End(end));
    }

    fn gives_up(self, reason: GiveUp) {
        self.ends(&End::GivenUp(reason));
    }
}

#[test]
fn an_undisturbed_run_is_read_to_its_end() {
    Scenario::run()
        .runs()
        .stream()
        .frame("7-1", "execution.started", Verdict::Skip)
        .forwards("7-2")
        .forwards("7-3")
        .frame("7-4", "execution.completed", Verdict::End)
        .ends(&End::Completed);
}

#[test]
fn each_terminal_event_ends_the_reading_with_or_without_an_id() {
    let table = [
        ("execution.completed", End::Completed),
        ("done", End::Completed),
        ("execution.failed", End::Failed),
        ("execution.cancelled", End::Cancelled),
    ];
    for (kind, end) in table {
        for id in ["7-1", ""] {
            Scenario::open().frame(id, kind, Verdict::End).ends(&end);
        }
    }
}

#[test]
fn events_about_the_stream_are_not_handed_on_and_all_others_are() {
    let about_the_stream = [
        "connection.established",
        "heartbeat",
        "history.replay.start",
        "history.replay.end",
        "execution.started",
    ];
    for kind in about_the_stream {
        Scenario::open().frame("7-1", kind, Verdict::Skip).failed().waits(1.0).attaches("7-1");
    }
    for kind in
        ["error", "result", "heartbeats", "execution.paused", "session.run.failed", "Done", "x"]
    {
        Scenario::open().frame("7-1", kind, Verdict::Forward).steps(Step::Read);
    }
}

#[test]
fn before_an_answer_the_run_is_sent_again_as_it_was() {
    Scenario::run()
        .failed()
        .waits(0.25)
        .runs()
        .refused(503)
        .waits(0.5)
        .runs()
        .failed()
        .waits(1.0)
        .runs()
        .stream();
}

#[test]
fn a_refusal_that_passes_is_retried_and_any_other_ends_a_run() {
    for status in [408, 425, 429, 502, 503, 504] {
        Scenario::run().refused(status).waits(0.25).runs();
    }
    for status in [400, 401, 403, 404, 405, 409, 410, 413, 422, 500, 501, 505, 511] {
        Scenario::run().refused(status).gives_up(GiveUp::Refused);
    }
    Scenario::run().answered(Answer::Unusable).gives_up(GiveUp::Refused);
}

#[test]
fn an_attach_is_retried_on_any_server_error_since_it_runs_nothing() {
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 529] {
        Scenario::new(Intent::Attach).attaches("0").refused(status).waits(0.25).attaches("0");
        Scenario::open().closed().waits(1.0).refused(status).waits(1.5).attaches("0");
    }
    for status in [400, 401, 403, 404, 409, 410] {
        Scenario::new(Intent::Attach).refused(status).gives_up(GiveUp::Refused);
        Scenario::open().closed().waits(1.0).refused(status).gives_up(GiveUp::Refused);
    }
}

#[test]
fn a_lost_execution_ends_a_run_and_an_attach() {
    for intent in [Intent::Run, Intent::Attach] {
        Scenario::new(intent).lost().gives_up(GiveUp::Refused);
        let answered = Scenario::new(intent).stream().forwards("7-1");
        answered.closed().waits(1.0).lost().gives_up(GiveUp::Refused);
    }
}

#[test]
fn who_drives_a_turn_on_binds_a_lost_execution_before_it_ends() {
    let driving = || Scenario::new(Intent::AttachOrBind).attaches("0");
    driving().lost().bound(false).gives_up(GiveUp::Refused);
    driving()
        .stream()
        .forwards("7-1")
        .closed()
        .waits(1.0)
        .lost()
        .bound(false)
        .gives_up(GiveUp::Refused);
    // Accepted in between.
    let accepted = driving().lost().bound(true).attaches("0");
    accepted.stream().frame("7-1", "execution.completed", Verdict::End).ends(&End::Completed);
    // Nobody binds for ever.
    driving().lost().bound(true).lost().gives_up(GiveUp::Refused);
    driving().refused(403).gives_up(GiveUp::Refused);
}

#[test]
fn who_comes_before_the_run_was_accepted_asks_again_as_long_as_it_is_due() {
    let mut early = Scenario::new(Intent::Join);
    for wait in [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0] {
        early = early.attaches("0").lost().due(true).waits(wait);
    }
    early.stream().forwards("7-1");
}

#[test]
fn a_run_that_is_due_no_longer_is_looked_for_once_more() {
    let joined = || Scenario::new(Intent::Join).lost().due(false).waits(0.025).attaches("0");
    joined().stream().forwards("7-1");
    joined().lost().gives_up(GiveUp::Refused);
}

#[test]
fn a_log_that_was_there_and_is_lost_is_not_waited_for() {
    for kind in ["execution.started", "message.part.updated"] {
        let mut joined = Scenario::new(Intent::Join).stream();
        joined.resume.frame(Some("7-1"), Class::of(kind.as_bytes()));
        joined.closed().waits(1.0).attaches("7-1").lost().gives_up(GiveUp::Refused);
    }
    Scenario::new(Intent::Join).refused(403).gives_up(GiveUp::Refused);
}

#[test]
fn a_run_that_is_known_to_have_begun_is_never_sent_again() {
    Scenario::run().begun().attaches("0").stream().forwards("7-1");
    Scenario::run().failed().begun().attaches("0").refused(500).waits(0.25).attaches("0");
    // It drives the turn still.
    Scenario::run()
        .failed()
        .waits(0.25)
        .begun()
        .attaches("0")
        .lost()
        .bound(false)
        .gives_up(GiveUp::Refused);
}

#[test]
fn a_run_that_was_answered_and_an_attach_do_not_heed_who_else_has_begun() {
    Scenario::open().begun().steps(Step::Read);
    Scenario::open().forwards("7-1").closed().begun().waits(1.0).attaches("7-1");
    Scenario::new(Intent::Join).lost().begun().due(true);
    let mut refused = Scenario::run().refused(403);
    refused.resume.begun(refused.now);
    refused.gives_up(GiveUp::Refused);
}

#[test]
fn a_retry_after_is_waited_for_where_it_is_longer() {
    Scenario::run().refused_for(429, 7).waits(7.0).runs().refused_for(503, 0).waits(0.5);
    Scenario::open().closed().waits(1.0).refused_for(503, 20).waits(20.0).attaches("0");
}

#[test]
fn a_retry_after_beyond_the_time_that_is_left_ends_it_at_once() {
    Scenario::run()
        .refused_for(503, 900)
        .waits(900.0)
        .refused_for(503, 1)
        .gives_up(GiveUp::Exhausted);
    Scenario::run().refused_for(503, 901).gives_up(GiveUp::Exhausted);
    Scenario::run().refused_for(503, u64::MAX).gives_up(GiveUp::Exhausted);
    Scenario::open().closed().waits(1.0).refused_for(503, 900).gives_up(GiveUp::Exhausted);
}

#[test]
fn a_run_that_is_never_answered_is_given_up_within_fifteen_minutes() {
    let mut scenario = Scenario::run();
    let began = scenario.now;
    for tries in 1.. {
        scenario = scenario.failed();
        let Step::WaitUntil(until) = scenario.resume.step() else {
            assert_eq!(tries, 22);
            break;
        };
        assert!(until <= began + Duration::from_secs(900));
        scenario.now = until;
        scenario.resume.tick(until);
    }
    scenario.gives_up(GiveUp::Exhausted);
}

#[test]
fn the_fifteen_minutes_count_from_the_start_and_after_an_answer_from_the_first_failure() {
    Scenario::run().later(899).failed().waits(0.25).later(1).failed().gives_up(GiveUp::Exhausted);
    let lost = Scenario::open().later(3600).closed().waits(1.0);
    lost.later(800).failed().waits(1.5).later(100).failed().gives_up(GiveUp::Exhausted);
}

#[test]
fn an_answer_ends_the_row_of_failures_before_it() {
    Scenario::run().failed().waits(0.25).failed().waits(0.5).stream().closed().waits(1.0);
}

#[test]
fn after_an_answer_it_only_ever_attaches() {
    Scenario::open().failed().waits(1.0).attaches("0").failed().waits(1.5).attaches("0").stream();
    Scenario::open()
        .forwards("7-1")
        .failed()
        .waits(1.0)
        .attaches("7-1")
        .refused(503)
        .waits(1.5)
        .attaches("7-1");
}

#[test]
fn ten_attempts_in_a_row_and_no_more() {
    let mut scenario = Scenario::open().forwards("7-1").closed();
    for attempt in 0..10 {
        let wait = Retry::AFTER_ANSWER.wait(attempt, MIDDLE).as_secs_f64();
        scenario = scenario.waits(wait).attaches("7-1").stream().closed();
    }
    scenario.gives_up(GiveUp::Exhausted);
}

#[test]
fn a_new_event_ends_the_row_and_nothing_else_does() {
    let after_two_failures =
        || Scenario::open().forwards("7-1").closed().waits(1.0).failed().waits(1.5).stream();
    after_two_failures().forwards("7-2").closed().waits(1.0);
    after_two_failures().frame("7-2", "heartbeat", Verdict::Skip).closed().waits(1.0);
    after_two_failures().closed().waits(2.25);
    after_two_failures().skips("7-1").closed().waits(2.25);
    after_two_failures().frame("", "heartbeat", Verdict::Skip).closed().waits(2.25);
}

#[test]
fn the_streams_own_retry_field_replaces_the_first_wait() {
    Scenario::open().retry_field(3000).closed().waits(3.0).failed().waits(4.5);
    Scenario::open().retry_field(0).closed().waits(0.0).attaches("0");
    Scenario::open().retry_field(u64::MAX).closed().waits(30.0).failed().waits(30.0);
}

#[test]
fn a_result_and_then_the_end_of_the_stream_is_an_end() {
    let result = || Scenario::open().frame("7-1", "result", Verdict::Forward);
    result().closed().ends(&End::Completed);
    result().frame("", "heartbeat", Verdict::Skip).closed().ends(&End::Completed);
}

#[test]
fn any_other_end_is_a_drop() {
    let result = || Scenario::open().frame("7-1", "result", Verdict::Forward);
    Scenario::open().forwards("7-1").closed().waits(1.0).attaches("7-1");
    result().failed().waits(1.0).attaches("7-1");
    result().forwards("7-2").closed().waits(1.0).attaches("7-2");
}

#[test]
fn nothing_more_after_the_cursor_is_an_end_only_after_a_result() {
    let dropped = |scenario: Scenario| scenario.failed().waits(1.0).answered(Answer::NothingMore);
    let result = || Scenario::open().frame("7-1", "result", Verdict::Forward);
    dropped(result()).ends(&End::Completed);
    dropped(result().forwards("7-2")).ends(&End::Completed);
    dropped(Scenario::open().forwards("7-1")).gives_up(GiveUp::Unterminated);
    Scenario::run().answered(Answer::NothingMore).gives_up(GiveUp::Unterminated);
}

#[test]
fn what_was_consumed_is_dropped_when_it_comes_again() {
    Scenario::open()
        .forwards("7-1")
        .forwards("7-2")
        .skips("7-2")
        .failed()
        .waits(1.0)
        .attaches("7-2")
        .stream()
        .skips("7-1")
        .skips("7-2")
        .forwards("7-3")
        .forwards("9-4");
}

#[test]
fn a_gap_ends_the_reading_and_names_both_ids() {
    let gap = |after: Option<&str>, found: &str| {
        let (after, found) = (after.map(Box::from), found.into());
        GiveUp::Gap(Gap { after, found })
    };
    let dropped = Scenario::open().forwards("7-1").failed().waits(1.0).stream();
    dropped.frame("7-3", "x", Verdict::End).gives_up(gap(Some("7-1"), "7-3"));
    Scenario::open().frame("7-2", "x", Verdict::End).gives_up(gap(None, "7-2"));
    let numbers = Scenario::open().forwards("5");
    numbers.frame("7", "done", Verdict::End).gives_up(gap(Some("5"), "7"));
}

#[test]
fn a_loss_after_an_event_without_an_id_is_the_end() {
    Scenario::open().forwards("").failed().gives_up(GiveUp::Unresumable);
    Scenario::open().forwards("7-1").forwards("").closed().gives_up(GiveUp::Unresumable);
    Scenario::open().forwards("not a header\u{1}").failed().gives_up(GiveUp::Unresumable);
}

#[test]
fn an_event_without_an_id_does_no_harm_where_one_with_an_id_follows() {
    Scenario::open().forwards("").forwards("").forwards("7-1").failed().waits(1.0).attaches("7-1");
    Scenario::open().frame("", "result", Verdict::Forward).closed().ends(&End::Completed);
}

#[test]
fn what_can_not_be_read_is_not_asked_for_again() {
    let mut scenario = Scenario::open();
    scenario.resume.unreadable();
    scenario.gives_up(GiveUp::Unreadable);
}

/// What one connection does, to a reader of a log of known events.
#[derive(Clone, Debug)]
enum Fault {
    /// No answer.
    Lost,
    /// A refusal that passes.
    Busy,
    /// A stream that is cut after so many frames.
    Cut(usize),
    /// One that begins so many events too early, then is cut.
    Repeat(usize, usize),
    /// One that leaves out so many events.
    Skip(usize),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Lost),
        Just(Fault::Busy),
        (0..8_usize).prop_map(Fault::Cut),
        (0..8_usize, 0..12_usize).prop_map(|(early, cut)| Fault::Repeat(early, cut)),
        (1..3_usize).prop_map(Fault::Skip),
    ]
}

/// A log whose ids begin a new epoch now and then.
fn log(events: usize, epochs: &[bool]) -> Vec<String> {
    let begins = |seq: &usize| epochs.get(*seq).copied().unwrap_or_default();
    let epoch = |seq| (0..=seq).filter(begins).count() + 1;
    (0..events).map(|seq| format!("{}-{}", epoch(seq), seq + 1)).collect()
}

struct Reader {
    resume: Resume,
    now: Duration,
    read: Vec<String>,
}

impl Reader {
    fn new() -> Self {
        let eager = |policy: Retry| Retry { attempts: 1000, within: Duration::MAX, ..policy };
        let (before, after) = (eager(Retry::BEFORE_ANSWER), eager(Retry::AFTER_ANSWER));
        let resume = Resume::new(Intent::Run, before, after, Duration::ZERO);
        Self { resume, now: Duration::ZERO, read: Vec::new() }
    }

    /// The place in `log` that the request asks for, once it is sent.
    fn asks(&mut self, log: &[String]) -> Option<usize> {
        if let Step::WaitUntil(until) = self.resume.step() {
            assert!((self.now..=self.now + Duration::from_secs(72)).contains(&until));
            self.now = until;
            self.resume.tick(until);
        }
        match self.resume.step() {
            Step::Connect(Connect::Run | Connect::Attach { cursor: "0" }) => Some(0),
            Step::Connect(Connect::Attach { cursor }) => {
                Some(log.iter().position(|id| id == cursor).unwrap() + 1)
            }
            step => {
                assert!(matches!(step, Step::End(_)), "{step:?}");
                None
            }
        }
    }

    fn meets(&mut self, fault: &Fault, from: usize, log: &[String]) {
        let (skip, until) = match *fault {
            Fault::Lost => return self.resume.failed(self.now, MIDDLE),
            Fault::Busy => {
                let answer = Answer::Refused { status: 503, retry_after: None };
                return self.resume.answered(answer, self.now, MIDDLE);
            }
            Fault::Cut(frames) => (from, from + frames),
            Fault::Repeat(early, frames) => (from.saturating_sub(early), from + frames),
            Fault::Skip(events) => (from + events, log.len()),
        };
        self.resume.answered(Answer::Stream, self.now, MIDDLE);
        for id in log.iter().take(until).skip(skip) {
            self.takes(id, id == &log[log.len() - 1]);
        }
        if self.resume.step() == Step::Read {
            self.resume.failed(self.now, MIDDLE);
        }
    }

    fn takes(&mut self, id: &str, is_last: bool) {
        let kind = if is_last { "execution.completed" } else { "x" };
        if self.resume.step() == Step::Read
            && self.resume.frame(Some(id), Class::of(kind.as_bytes())) == Verdict::Forward
        {
            self.read.push(id.to_owned());
        }
    }
}

proptest! {
    /// Whatever happens to its connections, a reader has read the log from its first event on, each event once, and
    /// ends completed only after the last.
    #[test]
    fn what_is_read_is_always_the_beginning_of_the_log(
        events in 1..40_usize,
        epochs in prop::collection::vec(prop::bool::weighted(0.1), 40),
        faults in prop::collection::vec(fault(), 0..60),
    ) {
        let log = log(events, &epochs);
        let mut reader = Reader::new();
        for fault in faults.iter().chain([&Fault::Cut(events)]) {
            let Some(from) = reader.asks(&log) else { break };
            reader.meets(fault, from, &log);
        }
        prop_assert_eq!(&reader.read[..], &log[..reader.read.len()]);
        let completed = reader.resume.step() == Step::End(&End::Completed);
        prop_assert_eq!(completed, reader.read.len() == events - 1 && completed);
        let gap = matches!(reader.resume.step(), Step::End(End::GivenUp(GiveUp::Gap(_))));
        let skips = faults.iter().any(|fault| matches!(fault, Fault::Skip(_)));
        prop_assert!(completed || gap && skips, "{:?}", reader.resume.step());
    }

    /// No sequence of inputs, sensible or not, panics, runs again after an answer, or leaves an end.
    #[test]
    fn no_input_brings_a_reader_out_of_its_states(
        inputs in prop::collection::vec((0..8_u8, "[0-9]{0,3}-?[0-9]{0,2}", any::<u16>(), any::<f64>()), 0..100),
    ) {
        let mut resume = Resume::new(Intent::Run, Retry::BEFORE_ANSWER, Retry::AFTER_ANSWER, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut answered = false;
        for (input, id, number, spread) in inputs {
            let ended = matches!(resume.step(), Step::End(_));
            prop_assert!(!answered || resume.step() != Step::Connect(Connect::Run));
            match input {
                0 => resume.answered(Answer::Stream, now, spread),
                1 => {
                    let retry_after = Some(Duration::from_millis(number.into()));
                    resume.answered(Answer::Refused { status: number, retry_after }, now, spread);
                }
                2 => resume.answered(Answer::NothingMore, now, spread),
                3 => resume.closed(now, spread),
                4 => resume.failed(now, spread),
                5 => resume.server_wait(Duration::from_millis(number.into())),
                6 => now += Duration::from_millis(number.into()),
                _ => {
                    let verdict = resume.frame(Some(&id), Class::Other);
                    prop_assert!(!ended || verdict == Verdict::End);
                }
            }
            answered |= input == 0;
            resume.tick(now);
            prop_assert!(!ended || matches!(resume.step(), Step::End(_)), "left an end by {}", input);
        }
    }
}
