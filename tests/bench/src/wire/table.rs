//! One table, as Markdown.

use super::{
    CHUNKS,
    input::Size,
    measure::{Measurement, Path},
    ours,
};

pub(crate) fn print(measurements: &[Measurement]) {
    println!(
        "| path | input | chunk | implementation | events/s | MB/s | allocations/event | ours is |"
    );
    println!("|---|---|--:|---|--:|--:|--:|--:|");
    for path in Path::ALL {
        for size in [Size::Small, Size::Big] {
            for chunk in CHUNKS {
                let group: Vec<_> = measurements
                    .iter()
                    .filter(|row| row.path == path && row.size == size && row.chunk == chunk)
                    .collect();
                for row in &group {
                    print_row(row, &group);
                }
            }
        }
    }
}

fn print_row(row: &Measurement, group: &[&Measurement]) {
    let ours = group.iter().find(|other| other.name == ours::NAME);
    let ratio = ours.map_or_else(String::new, |ours| {
        format!("{:.1} ×", ours.events_per_second / row.events_per_second)
    });
    let events =
        if row.path == Path::Limit { String::new() } else { amount(row.events_per_second) };
    let allocations =
        row.allocations_per_event.map_or_else(|| "?".into(), |count| format!("{count:.2}"));
    println!(
        "| {} | {} | {} | {} | {events} | {:.0} | {allocations} | {ratio} |",
        row.path.name(),
        row.size.name(),
        row.chunk,
        row.name,
        row.bytes_per_second / 1e6,
    );
}

/// A number of events in thousands or millions.
pub(crate) fn amount(number: f64) -> String {
    if number >= 1e6 { format!("{:.2} M", number / 1e6) } else { format!("{:.1} k", number / 1e3) }
}
