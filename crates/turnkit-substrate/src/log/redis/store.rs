//! What is asked of Redis, and what it answers. Every change is one script, and may be asked again where its answer was lost.

use std::{
    collections::BTreeMap,
    io, str,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::{Client, Cmd, FromRedisValue, Script, ScriptInvocation, aio::PubSub};
use tokio::{runtime::Handle, time};
use turnkit_id::LogId;
use turnkit_wire::Event;
use uuid::Uuid;

use super::{
    answer::{Answer, Epochs, Origin, StoreError, number, parse_state},
    link::{Link, PATIENCE, PATIENCE_OF_RUNS, Question},
    name::Name,
};
use crate::{
    Clock, EventId, Limits, Scope,
    limits::millis,
    log::{
        Bound, Change, Content, Ending, Fingerprint, MAX_UNTAKEN, Opening, Page, Post, Slot,
        SlotState, State, Status, Usage, frame::FrameBuffer,
    },
};

/// How many bytes of frames a reader gets at once, more or less.
const PAGE: usize = 128 * 1024;

/// How many leases a script renews: all others wait for it, which must not be felt.
const RENEWED_AT_ONCE: usize = 256;

/// What a start came to.
pub(super) enum Begun {
    /// Bound at this time.
    Started(u64),
    Exists(Origin),
    Spent,
    LogChanged,
    Full(Bound),
}

/// What an id is bound to.
pub(super) enum Bond {
    Unknown,
    Retained(Origin),
    Spent,
}

/// What an append came to.
pub(super) enum Appended {
    Stored,
    /// The last event of the log is another one than the writer knows.
    At(u64),
    /// So many are stored, and the bound has no room for the next one.
    Full(Bound, u64),
    AskedBefore,
    Fenced,
}

/// What a take-over came to.
pub(super) enum Taken {
    Ours(EventId),
    ByAnother,
    /// There is nothing to take over (any more).
    Over,
}

/// What a reader found.
pub(super) enum Read {
    Page(Page),
    NothingYet,
    End,
}

/// Consecutive events, as they are to be stored. One that ends the log or changes its inbox is alone.
pub(super) struct Batch<'a> {
    pub(super) writer: Uuid,
    /// The id of the first one.
    pub(super) first: EventId,
    /// Counts the writer's calls: one that is asked again stores nothing again.
    pub(super) call: u64,
    pub(super) frames: &'a FrameBuffer,
    pub(super) ending: Option<Ending>,
    pub(super) change: Change<'a>,
}

/// What a renewal found out.
#[derive(Default)]
pub(super) struct Renewed {
    /// Those that are writers no more.
    pub(super) fenced: Vec<Name>,
    /// Those that have something in their inbox.
    pub(super) posted: Vec<Name>,
}

pub(super) struct Store {
    link: Link,
    prefix: String,
    limits: Limits,
    /// Of this node.
    clock: Arc<dyn Clock>,
    /// What retention goes by instead of the clock of Redis.
    retention_clock: Option<Arc<dyn Clock>>,
    lease: Duration,
}

/// What lies in Redis by itself.
impl Store {
    pub(super) fn new(
        client: Client,
        prefix: &str,
        limits: Limits,
        clock: Arc<dyn Clock>,
        retention_clock: Option<Arc<dyn Clock>>,
        lease: Duration,
    ) -> io::Result<Self> {
        // The braces keep all keys in one slot of a cluster.
        let prefix = format!("{{{prefix}}}:");
        Ok(Self { link: Link::new(client)?, prefix, limits, clock, retention_clock, lease })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The time of this node.
    pub(super) fn now(&self) -> u64 {
        self.clock.unix_ms()
    }

    /// The thread that waits for Redis; `None` while it ends.
    pub(super) fn thread(&self) -> Option<&Handle> {
        self.link.thread()
    }

    /// Does what all else does: runs a script that writes under the prefix and publishes there.
    pub(super) async fn try_out(&self, nonce: &str) -> Result<(), StoreError> {
        let answer = self.run(&SCRIPTS.check, None, |call| {
            call.arg(nonce);
        });
        let answer = answer.await?;
        if answer.word()? == "checked" { Ok(()) } else { Err(answer.unknown()) }
    }

    /// Runs that script, and hears what it publishes.
    pub(super) async fn try_out_and_listen(&self) -> Result<(), StoreError> {
        // First, because it waits for a Redis that is not there yet.
        self.try_out("first").await?;
        let nonce = Uuid::new_v4().to_string();
        let mut subscription = self.subscribe().await?;
        self.try_out(&nonce).await?;
        let mut messages = subscription.on_message();
        let heard = time::timeout(PATIENCE, async {
            while let Some(message) = messages.next().await {
                if message.get_payload::<String>().is_ok_and(|payload| payload.ends_with(&nonce)) {
                    return true;
                }
            }
            false
        });
        if heard.await == Ok(true) { Ok(()) } else { Err(StoreError::Deaf) }
    }

    /// What happens where memory runs out; `None` where Redis does not tell.
    pub(super) async fn eviction_policy(&self) -> Result<Option<String>, StoreError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let text: String = self.ask(info).await?;
        let policy = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
        Ok(policy.map(|policy| policy.trim().to_owned()))
    }

    /// What the log is called: the first one to ask says so.
    pub(super) async fn log_id(&self) -> Result<LogId, StoreError> {
        let fresh = LogId::from_u128(Uuid::new_v4().as_u128());
        let answer = self.run(&SCRIPTS.id, None, |call| {
            call.arg(fresh.as_str());
        });
        let answer = answer.await?;
        LogId::parse(answer.word()?).map_err(|_| answer.unknown())
    }

    /// The channel on which every node is woken.
    pub(super) async fn subscribe(&self) -> Result<PubSub, StoreError> {
        Ok(self.link.subscribe(&format!("{}wake", self.prefix)).await?)
    }

    pub(super) async fn usage(&self, scope: Option<&Scope>) -> Result<Usage, StoreError> {
        let key = match scope {
            Some(scope) => format!("{}use:{scope}", self.prefix),
            None => format!("{}use", self.prefix),
        };
        let mut fields = redis::cmd("HMGET");
        fields.arg(key).arg(&["executions", "bindings", "bytes"]);
        let [executions, bindings, bytes]: [Option<u64>; 3] = self.ask(fields).await?;
        let counted = Option::unwrap_or_default;
        Ok(Usage {
            executions: counted(executions),
            bindings: counted(bindings),
            bytes: counted(bytes),
        })
    }

    /// Drops some of what is over, and says how much that was.
    pub(super) async fn sweep(&self) -> Result<u64, StoreError> {
        let answer = self.run(&SCRIPTS.sweep, None, |_| {}).await?;
        answer.number(0)
    }
}

/// One execution.
impl Store {
    pub(super) async fn start(
        &self,
        name: &Name,
        writer: Uuid,
        epoch: u64,
        opening: &Opening,
        frame: &[u8],
    ) -> Result<Begun, StoreError> {
        let print = opening.fingerprint.map(|Fingerprint(bytes)| bytes);
        let print = print.as_ref().map_or(&[][..], |bytes| bytes);
        let answer = self.run(&SCRIPTS.start, Some(name), |call| {
            call.arg(writer.as_bytes()).arg(epoch).arg(print).arg(frame);
            call.arg(opening.log_id.as_ref().map_or("", LogId::as_str));
            call.arg(if opening.takes_input { YES } else { "" });
        });
        let answer = answer.await?;
        Ok(match answer.word()? {
            "started" => Begun::Started(answer.number(1)?),
            "exists" => Begun::Exists(answer.origin()?),
            "log changed" => Begun::LogChanged,
            "spent" => Begun::Spent,
            "full" => Begun::Full(self.bound(&answer)?),
            _ => return Err(answer.unknown()),
        })
    }

    pub(super) async fn find(&self, name: &Name) -> Result<Bond, StoreError> {
        let answer = self.run(&SCRIPTS.find, Some(name), |_| {}).await?;
        Ok(match answer.word()? {
            "unknown" => Bond::Unknown,
            "spent" => Bond::Spent,
            "retained" => Bond::Retained(answer.origin()?),
            _ => return Err(answer.unknown()),
        })
    }

    /// Makes the id a spent one, unless it runs; says whether it is.
    pub(super) async fn erase(&self, name: &Name) -> Result<bool, StoreError> {
        let answer = self.run(&SCRIPTS.erase, Some(name), |_| {}).await?;
        Ok(match answer.word()? {
            "spent" => true,
            "running" => false,
            _ => return Err(answer.unknown()),
        })
    }

    pub(super) async fn append(
        &self,
        name: &Name,
        batch: &Batch<'_>,
    ) -> Result<Appended, StoreError> {
        let ending = batch.ending.map_or("", |ending| State::Ended(ending).as_str());
        let append = self.prepare(&SCRIPTS.append, Some(name), |call| {
            call.arg(batch.writer.as_bytes()).arg(batch.first.epoch).arg(batch.first.seq);
            call.arg(batch.call).arg(ending);
            match batch.change {
                Change::None => call.arg("").arg(""),
                Change::Asks(id) => call.arg("asks").arg(question(id)),
                Change::Tells(slot) => call.arg("tells").arg(name_of(slot)),
                Change::Takes(id) => call.arg("takes").arg(input(id)),
            };
            for frame in batch.frames.frames() {
                call.arg(frame);
            }
        });
        let answer: Answer = self.link.ask(Question::Script(append), PATIENCE_OF_RUNS).await?;
        Ok(match answer.word()? {
            "stored" => Appended::Stored,
            "at" => Appended::At(answer.number(1)?),
            "full" => Appended::Full(self.bound(&answer)?, answer.number(2)?),
            "asked before" => Appended::AskedBefore,
            "fenced" => Appended::Fenced,
            _ => return Err(answer.unknown()),
        })
    }

    /// Becomes the writer of a running execution, unless it has another epoch by now, or `only_lost` and its lease holds.
    pub(super) async fn take_over(
        &self,
        name: &Name,
        writer: Uuid,
        epoch: u64,
        only_lost: bool,
    ) -> Result<Taken, StoreError> {
        let only = if only_lost { "lost" } else { "" };
        let answer = self.run(&SCRIPTS.take_over, Some(name), |call| {
            call.arg(writer.as_bytes()).arg(epoch).arg(only).arg(self.now());
        });
        let answer = answer.await?;
        Ok(match answer.word()? {
            "taken" => Taken::Ours(EventId { epoch: answer.number(1)?, seq: answer.number(2)? }),
            "taken by another" => Taken::ByAnother,
            "over" => Taken::Over,
            _ => return Err(answer.unknown()),
        })
    }

    /// What the log that was bound at this time has after event number `after`.
    pub(super) async fn read(
        &self,
        name: &Name,
        bound_at: u64,
        after: u64,
    ) -> Result<Read, StoreError> {
        let answer = self.run(&SCRIPTS.read, Some(name), |call| {
            call.arg(bound_at).arg(after).arg(PAGE);
        });
        let answer = answer.await?;
        Ok(match answer.word()? {
            "page" => {
                Read::Page(Page { last: answer.number(1)?, frames: answer.bytes(2)?.clone() })
            }
            "nothing yet" => Read::NothingYet,
            "end" => Read::End,
            "gone" => return Err(StoreError::Gone),
            _ => return Err(answer.unknown()),
        })
    }

    /// The epoch of a running execution's writer.
    pub(super) async fn running_epoch(&self, name: &Name) -> Result<Option<u64>, StoreError> {
        let [state, epoch] = self.fields(name, ["state", "epoch"]).await?;
        if state.as_deref() != Some("running") {
            return Ok(None);
        }
        Ok(Some(number(epoch)?))
    }

    /// Whether this writer can still append.
    pub(super) async fn is_writer(&self, name: &Name, writer: Uuid) -> Result<bool, StoreError> {
        let mut fields = redis::cmd("HMGET");
        fields.arg(self.execution(name)).arg(&["state", "writer"]);
        let [state, kept]: [Option<Bytes>; 2] = self.ask(fields).await?;
        Ok(state.as_deref() == Some(b"running") && kept.as_deref() == Some(writer.as_bytes()))
    }

    pub(super) async fn status(&self, name: &Name) -> Result<(Status, Epochs), StoreError> {
        let fields = ["state", "last", "started", "ended", "epochs", "takes_input"];
        let [state, last, started, ended, epochs, takes_input] = self.fields(name, fields).await?;
        let state = match state.as_deref() {
            None | Some("spent") => return Err(StoreError::Gone),
            Some(state) => parse_state(state)?,
        };
        let (seq, epochs) = (number(last)?, Epochs::parse(epochs)?);
        let last = EventId { epoch: epochs.of(seq), seq };
        let ended_at = ended.map(|ended| number(Some(ended))).transpose()?;
        let takes_input = takes_input.as_deref() == Some(YES);
        Ok((Status { state, last, started_at: number(started)?, ended_at, takes_input }, epochs))
    }
}

/// Inboxes.
impl Store {
    pub(super) async fn post(
        &self,
        name: &Name,
        slot: &Slot,
        event: &Event,
    ) -> Result<Result<Post, Bound>, StoreError> {
        let answer = self.run(&SCRIPTS.post, Some(name), |call| {
            call.arg(name_of(slot)).arg(event.as_json()).arg(MAX_UNTAKEN);
        });
        let answer = answer.await?;
        Ok(Ok(match answer.word()? {
            "set" => Post::Set,
            "occupied" => Post::Occupied,
            "unknown" => Post::Unknown,
            "crowded" => Post::Crowded,
            "ended" => Post::Ended,
            "full" => return Ok(Err(self.bound(&answer)?)),
            _ => return Err(answer.unknown()),
        }))
    }

    /// What was posted and is not appended yet, the oldest first.
    pub(super) async fn posted(&self, name: &Name) -> Result<Vec<(Slot, Event)>, StoreError> {
        let answer = self.run(&SCRIPTS.posted, Some(name), |_| {}).await?;
        let item = |bytes: &Bytes| {
            let line_feed = bytes.iter().position(|byte| *byte == b'\n')?;
            let slot = slot_of(str::from_utf8(&bytes[..line_feed]).ok()?)?;
            let json = bytes.slice(line_feed + 1..);
            let most = json.len();
            Some((slot, Event::from_bytes_within(json, most).ok()?))
        };
        answer.items().map(|bytes| item(bytes).ok_or_else(|| answer.unknown())).collect()
    }

    /// How a slot stands in the log that was bound at this time.
    pub(super) async fn slot(
        &self,
        name: &Name,
        bound_at: u64,
        slot: &Slot,
    ) -> Result<Option<SlotState>, StoreError> {
        let answer = self.run(&SCRIPTS.slot, Some(name), |call| {
            call.arg(bound_at).arg(name_of(slot));
        });
        let answer = answer.await?;
        Ok(match answer.word()? {
            "slot" => Some(SlotState {
                asked: answer.number(1)?,
                content: match answer.text(2)? {
                    "-" => Content::Nothing,
                    "p" => Content::Posted,
                    _ => Content::Appended(answer.number(2)?),
                },
            }),
            "none" => None,
            "gone" => return Err(StoreError::Gone),
            _ => return Err(answer.unknown()),
        })
    }

    /// The questions that wait for an answer in the log and the inputs that are not taken, by the numbers of their events. Where
    /// it is given, the log must have been bound at this time.
    pub(super) async fn open(
        &self,
        name: &Name,
        bound_at: Option<u64>,
    ) -> Result<BTreeMap<u64, Slot>, StoreError> {
        let bound_at = bound_at.map_or_else(String::new, |at| at.to_string());
        let answer = self.run(&SCRIPTS.open, Some(name), |call| {
            call.arg(bound_at);
        });
        let answer = answer.await?;
        match answer.word()? {
            "open" => {}
            "gone" => return Err(StoreError::Gone),
            _ => return Err(answer.unknown()),
        }
        let pair = |at| {
            let slot = slot_of(answer.text(at)?).ok_or_else(|| answer.unknown())?;
            Ok((answer.number(at + 1)?, slot))
        };
        (1..answer.items().len()).step_by(2).map(pair).collect()
    }
}

/// Leases.
impl Store {
    /// Renews the leases of these writers.
    pub(super) async fn renew(&self, writers: &[(Uuid, Name)]) -> Result<Renewed, StoreError> {
        let mut renewed = Renewed::default();
        for some in writers.chunks(RENEWED_AT_ONCE) {
            let answer = self.run(&SCRIPTS.renew, None, |call| {
                for (writer, name) in some {
                    call.arg(name.as_str()).arg(writer.as_bytes());
                }
            });
            let answer = answer.await?;
            for at in (0..answer.items().len()).step_by(2) {
                let told = match answer.text(at)? {
                    "fenced" => &mut renewed.fenced,
                    "posted" => &mut renewed.posted,
                    _ => return Err(answer.unknown()),
                };
                told.push(answer.name(at + 1)?);
            }
        }
        Ok(renewed)
    }

    /// Running executions whose lease is over.
    pub(super) async fn lost(&self) -> Result<Vec<Name>, StoreError> {
        self.run(&SCRIPTS.lost, None, |_| {}).await?.names()
    }
}

impl Store {
    fn execution(&self, name: &Name) -> String {
        format!("{}e:{}", self.prefix, name.as_str())
    }

    async fn fields<const N: usize>(
        &self,
        name: &Name,
        fields: [&str; N],
    ) -> Result<[Option<String>; N], StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.execution(name)).arg(&fields);
        self.ask(command).await
    }

    async fn run(
        &self,
        script: &'static Script,
        name: Option<&Name>,
        args: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<Answer, StoreError> {
        let call = self.prepare(script, name, args);
        Ok(self.link.ask(Question::Script(call), PATIENCE).await?)
    }

    async fn ask<T: FromRedisValue + Send + 'static>(&self, command: Cmd) -> Result<T, StoreError> {
        Ok(self.link.ask(Question::Command(command), PATIENCE).await?)
    }

    /// The script, with what all of them are told first.
    fn prepare(
        &self,
        script: &'static Script,
        name: Option<&Name>,
        args: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> ScriptInvocation<'static> {
        let limits = &self.limits;
        let mut call = script.prepare_invoke();
        call.key(format!("{}use", self.prefix)).arg(&self.prefix);
        let now = self.retention_clock.as_ref().map(|clock| clock.unix_ms().to_string());
        call.arg(name.map_or("", Name::as_str)).arg(now.unwrap_or_default());
        for duration in [limits.retention, limits.binding, self.lease] {
            call.arg(millis(duration));
        }
        call.arg(limits.events_per_execution).arg(limits.bytes_per_execution);
        call.arg(limits.bytes_per_scope).arg(limits.bytes_in_all);
        args(&mut call);
        call
    }

    fn bound(&self, answer: &Answer) -> Result<Bound, StoreError> {
        let limits = &self.limits;
        Ok(match answer.text(1)? {
            "events" => Bound::EventsPerExecution(limits.events_per_execution),
            "bytes" => Bound::BytesPerExecution(limits.bytes_per_execution),
            "scope" => Bound::BytesPerScope(limits.bytes_per_scope),
            "all" => Bound::BytesInAll(limits.bytes_in_all),
            _ => return Err(answer.unknown()),
        })
    }
}

/// What a script is told, and keeps, where something is so.
const YES: &str = "yes";

/// What a slot is called in Redis.
fn name_of(slot: &Slot) -> String {
    match slot {
        Slot::Interaction(id) => question(id),
        Slot::Input(id) => input(id),
    }
}

fn question(id: &str) -> String {
    format!("i{id}")
}

fn input(id: &str) -> String {
    format!("m{id}")
}

/// None for what no log has written.
fn slot_of(name: &str) -> Option<Slot> {
    match name.split_at_checked(1)? {
        ("i", id) => Some(Slot::Interaction(id.to_owned())),
        ("m", id) => Some(Slot::Input(id.to_owned())),
        _ => None,
    }
}

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(Scripts::new);

struct Scripts {
    check: Script,
    id: Script,
    start: Script,
    find: Script,
    erase: Script,
    append: Script,
    post: Script,
    posted: Script,
    slot: Script,
    open: Script,
    take_over: Script,
    read: Script,
    renew: Script,
    lost: Script,
    sweep: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/lib.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        ))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
            check: script!("check"),
            id: script!("id"),
            start: script!("start"),
            find: script!("find"),
            erase: script!("erase"),
            append: script!("append"),
            post: script!("post"),
            posted: script!("posted"),
            slot: script!("slot"),
            open: script!("open"),
            take_over: script!("take_over"),
            read: script!("read"),
            renew: script!("renew"),
            lost: script!("lost"),
            sweep: script!("sweep"),
        }
    }
}
