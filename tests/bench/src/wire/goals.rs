//! What the codec sets out to reach, beside what was measured in this run.

use super::{
    CHUNKS,
    input::Size::{self, Big, Small},
    measure::{Measurement, Path},
    ours,
};

/// One goal: what it is about, its text, and what was measured; nothing where this run left that out.
type Goal<'a> = (&'a str, &'a str, Option<String>);

pub(crate) fn print(measurements: &[Measurement]) {
    let run = Run(measurements);
    println!("\n| goal | to reach | here |\n|---|--:|--:|");
    for (what, goal, here) in run.speeds().into_iter().chain(run.ratios()) {
        println!("| {what} | {goal} | {} |", here.as_deref().unwrap_or("not measured"));
    }
}

struct Run<'a>(&'a [Measurement]);

impl Run<'_> {
    fn speeds(&self) -> [Goal<'_>; 5] {
        let speed = |path, size| self.ours(path, size, CHUNKS[0]).map(super::table::amount);
        [
            ("SSE parse, small", "≥ 20 M/s", speed(Path::Parse, Small)),
            ("SSE parse, big", "≥ 300 k/s", speed(Path::Parse, Big)),
            ("SSE to NDJSON, small", "≥ 8 M/s", speed(Path::Hop, Small)),
            ("SSE to NDJSON, big", "≥ 60 k/s", speed(Path::Hop, Big)),
            ("NDJSON decode, small", "≥ 10 M/s", speed(Path::Decode, Small)),
        ]
    }

    fn ratios(&self) -> [Goal<'_>; 4] {
        let rust = |name: &str| !name.starts_with("Node");
        [
            (
                "small SSE frames, against the fastest other Rust parser",
                "≥ 2.5 ×",
                self.against(Path::Parse, rust),
            ),
            (
                "SSE to NDJSON, small, against eventsource-stream + Value",
                "≥ 10 ×",
                self.against(Path::Hop, |name| name == "eventsource-stream + Value"),
            ),
            (
                "SSE to NDJSON, small, against Node",
                "≥ 15 ×",
                self.against(Path::Hop, |name| !rust(name)),
            ),
            ("64-byte chunks cost, of 16 KiB ones, at worst", "≤ 3 ×", self.worst_cut()),
        ]
    }

    /// How often the fastest of some others goes into ours, on small events in the largest chunks.
    fn against(&self, path: Path, other: impl Fn(&str) -> bool) -> Option<String> {
        let others = self.0.iter().filter(|row| {
            (row.path, row.size, row.chunk) == (path, Small, CHUNKS[0])
                && row.name != ours::NAME
                && other(&row.name)
        });
        let fastest = others.map(|row| row.events_per_second).reduce(f64::max)?;
        Some(format!("{:.1} ×", self.ours(path, Small, CHUNKS[0])? / fastest))
    }

    fn worst_cut(&self) -> Option<String> {
        let cost = |path, size| {
            Some(self.ours(path, size, CHUNKS[0])? / self.ours(path, size, CHUNKS[2])?)
        };
        let paths = [Path::Parse, Path::Hop, Path::Decode];
        let costs = paths.into_iter().flat_map(|path| [cost(path, Small), cost(path, Big)]);
        costs.flatten().reduce(f64::max).map(|worst| format!("{worst:.1} ×"))
    }

    /// Our events per second.
    fn ours(&self, path: Path, size: Size, chunk: usize) -> Option<f64> {
        let ours = self.0.iter().find(|row| {
            (row.path, row.size, row.chunk) == (path, size, chunk) && row.name == ours::NAME
        });
        ours.map(|row| row.events_per_second)
    }
}
