//! One contender, one input, one way to cut it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use super::input::{Input, Size};

/// What is done with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Only read: the limit.
    Limit,
    /// SSE to frames.
    Parse,
    /// SSE to frames to verified events to NDJSON lines.
    Hop,
    /// NDJSON to events.
    Decode,
}

impl Path {
    pub(crate) const ALL: [Path; 4] = [Path::Limit, Path::Parse, Path::Hop, Path::Decode];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Path::Limit => "read only",
            Path::Parse => "SSE parse",
            Path::Hop => "SSE to NDJSON",
            Path::Decode => "NDJSON decode",
        }
    }
}

/// An implementation: takes the chunks of one stream, gives the number of events that it saw.
pub(crate) struct Contender {
    pub(crate) path: Path,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[Bytes]) -> usize,
}

pub(crate) struct Measurement {
    pub(crate) path: Path,
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) chunk: usize,
    pub(crate) events_per_second: f64,
    pub(crate) bytes_per_second: f64,
    /// `None` where they cannot be counted.
    pub(crate) allocations_per_event: Option<f64>,
}

pub(crate) fn measure(
    contender: &Contender,
    input: &Input,
    chunk: usize,
    millis: u64,
) -> anyhow::Result<Measurement> {
    let stream = if contender.path == Path::Decode { &input.ndjson } else { &input.sse };
    let chunks = Input::chunks(stream, chunk);
    let mut seen = 0;
    let allocated = allocation_counter::measure(|| seen = (contender.run)(&chunks));
    if contender.path != Path::Limit {
        ensure!(seen == input.events, "{} saw {seen} events of {}", contender.name, input.events);
    }
    let best = best_of(millis, || {
        std::hint::black_box((contender.run)(std::hint::black_box(&chunks)));
    });
    Ok(Measurement {
        path: contender.path,
        name: contender.name.into(),
        size: input.size,
        chunk,
        events_per_second: ratio(input.events, best),
        bytes_per_second: ratio(stream.len(), best),
        allocations_per_event: Some(
            as_f64(usize::try_from(allocated.count_total)?) / as_f64(input.events),
        ),
    })
}

/// The fastest of the passes that fit into the time, and of three at least, in CPU time of this thread: the rest measures the
/// neighbours.
pub(crate) fn best_of(millis: u64, mut pass: impl FnMut()) -> Duration {
    let deadline = Instant::now() + Duration::from_millis(millis);
    let mut best = Duration::MAX;
    for number in 0.. {
        let start = cpu_time();
        pass();
        best = best.min(cpu_time().saturating_sub(start));
        if number >= 2 && Instant::now() >= deadline {
            break;
        }
    }
    best
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

fn ratio(amount: usize, time: Duration) -> f64 {
    as_f64(amount) / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
pub(crate) fn as_f64(number: usize) -> f64 {
    number as f64
}
