//! The invariants of PROTOCOL 2.1 and 2.5 over every short sequence of answers, and over random long ones.

use std::sync::Arc;

use proptest::prelude::*;
use turnkit_id::ExecutionId;
use turnkit_wire::Event;

use super::{Machine, Step, Verdict};
use crate::{
    ClientLeft, FinalText, Persisted, Phase, TurnContext, TurnError, TurnIdentity,
    error::HookFault, turn::Settings,
};

/// One course of an attempt: everything that the machine may be told.
#[derive(Clone, Debug)]
struct Course {
    prefers_log: bool,
    resume_after: u64,
    client_left: ClientLeft,
    lookup: Lookup,
    at_lookup: Vec<Signal>,
    inputs: Vec<Input>,
    end: End,
    transform: bool,
    at_transform: Vec<Signal>,
    persist: Persist,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Cancel,
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lookup {
    Nothing,
    Saved,
    Fails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Text,
    Other,
    OwnError,
    ExecutionFailed,
    RunFailed,
    RunCompleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    DoneWithText,
    Fails,
    Lost,
    Signal(Signal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persist {
    Saved,
    AlreadySaved,
    Fails,
}

const INPUTS: [Input; 6] = [
    Input::Text,
    Input::Other,
    Input::OwnError,
    Input::ExecutionFailed,
    Input::RunFailed,
    Input::RunCompleted,
];
const ENDS: [End; 6] = [
    End::Done,
    End::DoneWithText,
    End::Fails,
    End::Lost,
    End::Signal(Signal::Cancel),
    End::Signal(Signal::Left),
];
const POLICIES: [ClientLeft; 3] = [ClientLeft::Continue, ClientLeft::Cancel, ClientLeft::Abandon];
const LOOKUPS: [Lookup; 3] = [Lookup::Nothing, Lookup::Saved, Lookup::Fails];
const PERSISTS: [Persist; 3] = [Persist::Saved, Persist::AlreadySaved, Persist::Fails];
const SIGNALS: [&[Signal]; 5] = [
    &[],
    &[Signal::Cancel],
    &[Signal::Left],
    &[Signal::Left, Signal::Cancel],
    &[Signal::Cancel, Signal::Left],
];

impl Input {
    /// The event, numbered so that order shows.
    fn event(self, n: usize) -> Event {
        let json = match self {
            Self::Text => format!(
                r#"{{"type":"message.part.updated","data":{{"part":{{"id":"p","type":"text"}},"delta":"{n}."}}}}"#
            ),
            Self::Other => format!(r#"{{"type":"other","data":{n}}}"#),
            Self::OwnError => {
                format!(r#"{{"type":"error","data":{{"message":"own {n}","code":"OWN"}}}}"#)
            }
            Self::ExecutionFailed => format!(
                r#"{{"type":"execution.failed","data":{{"message":"exec {n}","code":"EXEC"}}}}"#
            ),
            Self::RunFailed => format!(
                r#"{{"type":"session.run.failed","data":{{"message":"run {n}","code":"RUN"}}}}"#
            ),
            Self::RunCompleted => format!(r#"{{"type":"session.run.completed","data":{n}}}"#),
        };
        Event::from_json(json.as_bytes()).unwrap()
    }

    fn is_forwarded(self) -> bool {
        matches!(self, Self::Text | Self::Other | Self::ExecutionFailed)
    }
}

/// Phase, code, and whether to retry.
type Failure = (Phase, Option<String>, bool);

/// What the machine asked for, in order.
#[derive(Debug, Default)]
struct Trace {
    steps: Vec<String>,
    /// Every emitted line: as shown to `on_event`.
    lines: Vec<Event>,
    /// Those that the client got.
    sent: Vec<Event>,
    result: Option<Result<String, Failure>>,
    partial: Option<String>,
    replayed: bool,
    events: u64,
    overrun: Option<u64>,
}

fn context() -> TurnContext {
    TurnContext {
        identity: TurnIdentity {
            tenant_id: "t".into(),
            session_id: "s".into(),
            user_id: "u".into(),
            turn_index: 0,
        },
        execution_id: ExecutionId::derive("p", "s", 0).unwrap(),
        turn_id: None,
    }
}

fn fault() -> HookFault {
    HookFault::Failed("no".into())
}

fn signal(machine: &mut Machine, signal: Signal) {
    match signal {
        Signal::Cancel => machine.cancel(),
        Signal::Left => machine.client_left(),
    }
}

/// Plays `course`, as the driver would.
fn play(course: &Course) -> Trace {
    let settings = Settings {
        prefers_log: course.prefers_log,
        resume_after: course.resume_after,
        client_left: course.client_left,
        ..Settings::default()
    };
    let mut machine = Machine::new(Arc::new(context()), &settings, None);
    let mut trace = Trace::default();
    loop {
        let step = machine.next();
        trace.note(&step);
        match step {
            Step::Emit(line) => trace.emit(line.event, line.sent),
            Step::End => break,
            step => answer(&step, course, &mut machine, &mut trace),
        }
    }
    trace.replayed = machine.is_replayed();
    trace.events = machine.lines();
    trace.overrun = machine.overrun();
    let result = machine.into_result().map(FinalText::into_string);
    trace.result = Some(result.map_err(|error| (error.phase, error.code, error.retryable)));
    trace
}

/// Does `step` and tells the machine what came of it.
fn answer(step: &Step, course: &Course, machine: &mut Machine, trace: &mut Trace) {
    match step {
        Step::Lookup => {
            course.at_lookup.iter().for_each(|&s| signal(machine, s));
            machine.looked_up(match course.lookup {
                Lookup::Nothing => Ok(None),
                Lookup::Saved => Ok(Some("saved".to_owned().into())),
                Lookup::Fails => Err(fault()),
            });
        }
        Step::Produce => produce(course, machine, trace),
        Step::Transform => {
            course.at_transform.iter().for_each(|&s| signal(machine, s));
            let text = machine.raw_text().as_str().to_uppercase();
            machine.transformed(if course.transform { Ok(text) } else { Err(fault()) });
        }
        Step::TransformParts => {
            let parts = machine.parts().to_vec();
            assert!(machine.parts_transformed(Ok(parts)).is_none());
        }
        Step::Persist => {
            assert!(machine.final_text().is_some());
            machine.persisted(match course.persist {
                Persist::Saved => Ok(Persisted::Saved),
                Persist::AlreadySaved => Ok(Persisted::AlreadySaved),
                Persist::Fails => Err(fault()),
            });
        }
        Step::Complete => assert!(machine.final_text().is_some()),
        Step::Fail => {
            assert!(machine.failure().is_some());
            trace.partial = Some(machine.raw_text().as_str().to_owned());
        }
        Step::Emit(_) | Step::Cancel | Step::Release | Step::Close | Step::Flush | Step::End => {}
    }
}

/// Gives the machine all inputs, then the end, as long as it wants any.
fn produce(course: &Course, machine: &mut Machine, trace: &mut Trace) {
    for (n, input) in course.inputs.iter().enumerate() {
        let event = input.event(n);
        match machine.event(&event) {
            Verdict::Keep => {}
            verdict => {
                trace.steps.push("Forward".into());
                trace.emit(event, verdict == Verdict::Send);
            }
        }
    }
    match course.end {
        End::Signal(Signal::Cancel) => machine.cancel(),
        End::Signal(Signal::Left) => machine.client_left(),
        _ => {}
    }
    if machine.is_producing() {
        match course.end {
            End::DoneWithText => machine.done(Some("whole".into())),
            End::Fails => machine.producer_failed(TurnError::produce("GONE", "gone").retryable()),
            End::Lost if course.prefers_log => {
                machine.events_lost(TurnError::produce("LOST", "lost"));
            }
            End::Lost => machine.producer_failed(TurnError::produce("LOST", "lost")),
            End::Done | End::Signal(_) => machine.done(None),
        }
    }
    assert!(!machine.is_producing());
}

impl Trace {
    fn note(&mut self, step: &Step) {
        self.steps.push(match step {
            Step::Emit(line) => format!("Emit {}", line.event.kind()),
            step => format!("{step:?}"),
        });
    }

    fn emit(&mut self, event: Event, sent: bool) {
        if sent {
            self.sent.push(event.clone());
        }
        self.lines.push(event);
    }

    fn count(&self, step: &str) -> usize {
        self.steps.iter().filter(|seen| *seen == step).count()
    }

    fn kinds(&self) -> Vec<&str> {
        self.lines.iter().map(Event::kind).collect()
    }
}

/// How the attempt must end, said independently of the machine.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Replay,
    Abandoned,
    Completed(String),
    Failed { phase: Phase, code: &'static str, retryable: bool },
}

impl Course {
    fn is_interrupted(&self, signals: &[Signal]) -> Option<ClientLeft> {
        let left = signals.contains(&Signal::Left).then_some(self.client_left);
        if signals.contains(&Signal::Cancel) {
            Some(ClientLeft::Cancel)
        } else {
            left.filter(|policy| *policy != ClientLeft::Continue)
        }
    }

    fn reported(&self) -> Option<&'static str> {
        let has = |input| self.inputs.contains(&input);
        let first = self
            .inputs
            .iter()
            .find(|input| matches!(input, Input::ExecutionFailed | Input::RunFailed));
        match first {
            _ if has(Input::OwnError) => Some("OWN"),
            Some(Input::ExecutionFailed) => Some("EXEC"),
            Some(_) => Some("RUN"),
            None => None,
        }
    }

    fn text(&self) -> String {
        let parts = self.inputs.iter().enumerate().filter(|(_, input)| **input == Input::Text);
        let texts: Vec<String> = parts.map(|(n, _)| format!("{n}.")).collect();
        texts.concat()
    }

    /// The whole or partial text.
    fn raw(&self) -> String {
        if self.end == End::DoneWithText { "whole".into() } else { self.text() }
    }

    fn ending(&self) -> Ending {
        let failed = |phase, code, retryable| Ending::Failed { phase, code, retryable };
        let looked_up = match (self.is_interrupted(&self.at_lookup), self.lookup) {
            (Some(ClientLeft::Abandon), _) => Some(Ending::Abandoned),
            (_, Lookup::Saved) => Some(Ending::Replay),
            (_, Lookup::Fails) => Some(failed(Phase::Lookup, "hook_failed", true)),
            (Some(_), Lookup::Nothing) if !self.prefers_log => {
                Some(failed(Phase::Produce, "cancelled", false))
            }
            (_, Lookup::Nothing) => None,
        };
        if let Some(ending) = looked_up
            && (!self.prefers_log || self.looks_up_again())
        {
            return ending;
        }
        let interrupted = match self.end {
            End::Signal(signal) => self.is_interrupted(&[signal]),
            _ => None,
        };
        if interrupted == Some(ClientLeft::Abandon) {
            return Ending::Abandoned;
        }
        if let Some(code) = self.reported() {
            return failed(Phase::Produce, code, false);
        }
        if interrupted.is_some() {
            return failed(Phase::Produce, "cancelled", false);
        }
        if self.end == End::Fails {
            return failed(Phase::Produce, "GONE", true);
        }
        if self.end == End::Lost {
            return failed(Phase::Produce, "LOST", false);
        }
        if self.raw().is_empty() {
            return failed(Phase::Produce, "empty_answer", false);
        }
        if !self.transform {
            return failed(Phase::Transform, "hook_failed", true);
        }
        if self.persist == Persist::Fails {
            return failed(Phase::Persist, "hook_failed", true);
        }
        Ending::Completed(self.raw().to_uppercase())
    }

    /// What was forwarded before the ending.
    fn forwarded(&self) -> Vec<Event> {
        let inputs = self.inputs.iter().enumerate();
        inputs.filter(|(_, input)| input.is_forwarded()).map(|(n, input)| input.event(n)).collect()
    }

    /// Whether the producer is asked at all.
    fn is_asked(&self) -> bool {
        let goes_on =
            self.lookup == Lookup::Nothing && self.is_interrupted(&self.at_lookup).is_none();
        self.prefers_log || goes_on
    }

    /// Whether the producer loses its events, and a saved answer may stand for them.
    fn looks_up_again(&self) -> bool {
        self.prefers_log && self.end == End::Lost && self.reported().is_none()
    }

    /// How many of the lines are cursor units.
    fn units(&self) -> usize {
        let is_begun = match (self.is_interrupted(&self.at_lookup), self.lookup) {
            _ if self.prefers_log => true,
            (Some(ClientLeft::Abandon), _) | (_, Lookup::Saved) => false,
            _ => true,
        };
        let forwarded = if self.is_asked() { self.forwarded().len() } else { 0 };
        usize::from(is_begun) + forwarded
    }
}

const REPLAY: [&str; 4] =
    ["session.run.started", "message.part.updated", "result", "session.run.completed"];

fn check(course: &Course) {
    let trace = play(course);
    let ending = course.ending();
    check_beginning(course, &trace);
    check_ending(course, &trace, &ending);
    check_hooks(course, &trace, &ending);
    check_cursor(course, &trace, &ending);
}

/// Invariants 1 and 2.
fn check_beginning(course: &Course, trace: &Trace) {
    let looks_up = !course.prefers_log || course.looks_up_again();
    assert_eq!(trace.count("Lookup"), usize::from(looks_up), "{course:?}");
    let first = if course.prefers_log { "Emit session.run.started" } else { "Lookup" };
    assert_eq!(trace.steps[0], first, "{course:?}");
    assert_eq!(trace.count("Produce"), usize::from(course.is_asked()), "{course:?}");
    let units = course.units();
    if units > 0 {
        assert_eq!(trace.kinds()[0], "session.run.started", "{course:?}");
        let forwarded = if course.is_asked() { course.forwarded() } else { Vec::new() };
        assert_eq!(trace.lines[1..units], forwarded, "{course:?}");
    }
    let engine_made = &trace.kinds()[units..];
    let own = ["error", "session.run.failed", "session.run.completed"];
    let is_own = engine_made.iter().all(|kind| own.contains(kind));
    assert!(is_own || engine_made == REPLAY, "{course:?} {engine_made:?}");
}

/// Invariants 4, 5 and 9.
fn check_ending(course: &Course, trace: &Trace, ending: &Ending) {
    let kinds = trace.kinds();
    let (replayed, result) = (trace.replayed, trace.result.clone().unwrap());
    match ending {
        Ending::Replay => {
            let replay = &trace.lines[course.units()..];
            assert_eq!(kinds[course.units()..], REPLAY, "{course:?}");
            assert_eq!((replayed, result), (true, Ok("saved".into())));
            let says_so = |line: &Event| line.as_json().contains(r#""replayed":true"#);
            assert!(says_so(&replay[0]) && says_so(&replay[3]), "{course:?}");
        }
        Ending::Abandoned => {
            let endings = ["session.run.completed", "session.run.failed", "error"];
            assert!(kinds.iter().all(|kind| !endings.contains(kind)), "{course:?}");
            assert_eq!(result, Err((Phase::Produce, Some("abandoned".into()), false)));
        }
        Ending::Completed(text) => {
            assert_eq!((replayed, result), (false, Ok(text.clone())), "{course:?}");
            assert_eq!(kinds.last().unwrap() == &"session.run.completed", trace.overrun.is_none());
        }
        Ending::Failed { phase, code, retryable } => {
            let expected = (*phase, Some((*code).to_owned()), *retryable);
            assert_eq!(result, Err(expected), "{course:?}");
            check_failure(course, trace, code);
        }
    }
    let terminal = |kind: &&&str| ["session.run.completed", "session.run.failed"].contains(kind);
    let expected = usize::from(*ending != Ending::Abandoned);
    assert_eq!(kinds.iter().filter(terminal).count(), expected, "{course:?}");
    assert_eq!(trace.events, kinds.len() as u64, "{course:?}");
}

fn check_failure(course: &Course, trace: &Trace, code: &str) {
    let kinds = trace.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["error", "session.run.failed"], "{course:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "error").count(), 1, "{course:?}");
    let [error, failed] = &trace.lines[trace.lines.len() - 2..] else { unreachable!() };
    let own = course.inputs.iter().position(|input| *input == Input::OwnError);
    if let Some(n) = own.filter(|_| course.is_asked()) {
        assert_eq!(*error, Input::OwnError.event(n), "{course:?}");
    }
    let code = format!(r#""code":"{code}""#);
    assert!(error.as_json().contains(&code) && failed.as_json().contains(&code), "{course:?}");
}

/// Invariants 3, 4, 6 and 8.
fn check_hooks(course: &Course, trace: &Trace, ending: &Ending) {
    let steps = trace.steps.iter().map(String::as_str);
    let hooks: Vec<&str> = steps.filter(|step| *step != "Forward" && *step != "Produce").collect();
    let begun = if course.units() > 0 { &["Emit session.run.started"][..] } else { &[] };
    let beginning: Vec<&str> = if !course.prefers_log {
        ["Lookup"].iter().chain(begun).copied().collect()
    } else if course.looks_up_again() {
        vec!["Emit session.run.started", "Release", "Lookup"]
    } else {
        begun.to_vec()
    };
    let failed = ["Fail", "Emit error", "Emit session.run.failed", "Close", "Flush", "End"];
    let expected = match ending {
        Ending::Abandoned => vec!["End"],
        Ending::Replay => {
            vec![
                "Emit session.run.started",
                "Emit message.part.updated",
                "Emit result",
                "Emit session.run.completed",
                "Close",
                "Flush",
                "End",
            ]
        }
        Ending::Completed(_) => {
            let complete = (course.persist == Persist::Saved).then_some("Complete");
            let told: &[&str] = match trace.overrun {
                None => &["Emit session.run.completed"],
                Some(_) => &["Emit error", "Emit session.run.failed"],
            };
            let hooks = ["Release", "Transform", "Persist"].into_iter().chain(complete);
            hooks.chain(told.iter().copied()).chain(["Close", "Flush", "End"]).collect()
        }
        Ending::Failed { phase, .. } => {
            let before: &[&str] = match phase {
                Phase::Lookup => &[],
                Phase::Produce if course.is_cancelled() => &["Cancel", "Release"],
                Phase::Produce => &["Release"],
                Phase::Transform => &["Release", "Transform"],
                Phase::Persist => &["Release", "Transform", "Persist"],
            };
            before.iter().copied().chain(failed).collect()
        }
    };
    assert_eq!(hooks, [beginning, expected].concat(), "{course:?}");
    if let Ending::Failed { phase, .. } = ending {
        let partial = match phase {
            Phase::Persist => course.raw().to_uppercase(),
            // What came before a lookup that fails is not taken for an answer.
            Phase::Lookup => String::new(),
            _ if course.is_asked() => course.raw(),
            _ => String::new(),
        };
        assert_eq!(trace.partial.as_ref(), Some(&partial), "{course:?}");
    }
}

impl Course {
    fn is_cancelled(&self) -> bool {
        let signals = match self.end {
            End::Signal(ref signal) if self.is_asked() => std::slice::from_ref(signal),
            _ if self.prefers_log => &[],
            _ => &self.at_lookup,
        };
        self.is_interrupted(signals) == Some(ClientLeft::Cancel)
    }
}

/// PROTOCOL 2.5, and the row of 2.4 about a cursor beyond the end.
fn check_cursor(course: &Course, trace: &Trace, ending: &Ending) {
    let units = course.units();
    let cursor = usize::try_from(course.resume_after).unwrap();
    assert_eq!(trace.sent, trace.lines[cursor.min(units)..], "{course:?}");
    let beyond = matches!(ending, Ending::Completed(_)) && cursor > units;
    assert_eq!(trace.overrun, beyond.then_some(units as u64), "{course:?}");
    if beyond {
        let failed = trace.lines.last().unwrap().as_json();
        assert!(failed.contains(r#""retryable":true,"code":"invalid_cursor""#), "{failed}");
    }
}

/// Every sequence of at most `length` inputs.
fn sequences(length: usize) -> Vec<Vec<Input>> {
    let mut all = vec![Vec::new()];
    let mut longest = all.clone();
    for _ in 0..length {
        let longer =
            |sequence: &Vec<Input>| INPUTS.map(|input| [sequence.as_slice(), &[input]].concat());
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

fn quiet(inputs: Vec<Input>, end: End) -> Course {
    Course {
        prefers_log: false,
        resume_after: 0,
        client_left: ClientLeft::Continue,
        at_lookup: Vec::new(),
        lookup: Lookup::Nothing,
        inputs,
        end,
        at_transform: Vec::new(),
        transform: true,
        persist: Persist::Saved,
    }
}

#[test]
fn every_sequence_of_events_and_ends_keeps_the_invariants() {
    for inputs in sequences(3) {
        for end in ENDS {
            for (client_left, prefers_log) in
                POLICIES.into_iter().flat_map(|p| [false, true].map(|log| (p, log)))
            {
                check(&Course { prefers_log, client_left, ..quiet(inputs.clone(), end) });
            }
        }
    }
}

#[test]
fn every_answer_of_every_hook_under_every_cursor_keeps_the_invariants() {
    for inputs in sequences(1) {
        for (lookup, persist) in LOOKUPS.into_iter().flat_map(|l| PERSISTS.map(|p| (l, p))) {
            for (transform, resume_after) in
                [true, false].into_iter().flat_map(|t| (0..4).map(move |r| (t, r)))
            {
                for (end, prefers_log) in
                    ENDS.into_iter().flat_map(|e| [false, true].map(|l| (e, l)))
                {
                    let course = Course { prefers_log, ..quiet(inputs.clone(), end) };
                    check(&Course { resume_after, lookup, transform, persist, ..course });
                }
            }
        }
    }
}

#[test]
fn every_interrupt_at_every_moment_keeps_the_invariants() {
    for (client_left, lookup) in POLICIES.into_iter().flat_map(|p| LOOKUPS.map(|l| (p, l))) {
        for (at_lookup, at_transform) in SIGNALS.into_iter().flat_map(|l| SIGNALS.map(|t| (l, t))) {
            for (end, prefers_log) in ENDS.into_iter().flat_map(|e| [false, true].map(|l| (e, l))) {
                let course = Course { prefers_log, ..quiet(vec![Input::Text], end) };
                let (at_lookup, at_transform) = (at_lookup.to_vec(), at_transform.to_vec());
                check(&Course { client_left, lookup, at_lookup, at_transform, ..course });
            }
        }
    }
}

fn any_course() -> impl Strategy<Value = Course> {
    let signals = || prop::sample::select(SIGNALS.to_vec()).prop_map(<[Signal]>::to_vec);
    let answers = (
        prop::sample::select(LOOKUPS.to_vec()),
        prop::sample::select(ENDS.to_vec()),
        prop::sample::select(PERSISTS.to_vec()),
        prop::sample::select(POLICIES.to_vec()),
    );
    let inputs = prop::collection::vec(prop::sample::select(INPUTS.to_vec()), 0..20);
    let flags = (any::<bool>(), any::<bool>());
    (answers, inputs, signals(), signals(), flags, 0..25_u64).prop_map(
        |(
            (lookup, end, persist, client_left),
            inputs,
            at_lookup,
            at_transform,
            (transform, prefers_log),
            resume_after,
        )| Course {
            prefers_log,
            resume_after,
            client_left,
            lookup,
            at_lookup,
            inputs,
            end,
            transform,
            at_transform,
            persist,
        },
    )
}

proptest! {
    #[test]
    fn random_courses_keep_the_invariants(course in any_course()) {
        check(&course);
    }
}
