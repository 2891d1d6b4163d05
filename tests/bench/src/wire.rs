//! The codec beside what users could pick instead.

mod goals;
mod input;
pub(crate) mod measure;
mod node;
mod ours;
mod peers;
mod scaling;
mod table;

use indicatif::{ProgressBar, ProgressStyle};

use self::{
    input::{Input, Size},
    measure::Contender,
};

/// What to measure, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Milliseconds for each measurement; the best pass counts
    #[arg(long, default_value_t = 300)]
    millis: u64,
    /// Only contenders whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Leave Node out
    #[arg(long)]
    no_node: bool,
}

/// The sizes in which a network hands over a stream: a read buffer, a TCP segment, and as bad as it gets. In bytes.
const CHUNKS: [usize; 3] = [16 * 1024, 1460, 64];

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let inputs = [Input::new(Size::Small), Input::new(Size::Big)];
    let contenders: Vec<Contender> =
        contenders().into_iter().filter(|contender| args.selects(contender.name)).collect();
    let progress = progress(contenders.len() * inputs.len() * CHUNKS.len());
    let mut measurements = Vec::new();
    for input in &inputs {
        for contender in &contenders {
            for chunk in CHUNKS {
                progress.set_message(format!("{} {} {chunk}", contender.name, input.size.name()));
                measurements.push(measure::measure(contender, input, chunk, args.millis)?);
                progress.inc(1);
            }
        }
    }
    if !args.no_node && args.selects("node") {
        progress.set_message("node");
        measurements.extend(node::measure(&inputs, &CHUNKS, args.millis)?);
    }
    progress.finish_and_clear();
    table::print(&measurements);
    goals::print(&measurements);
    scaling::print(args.millis);
    Ok(())
}

impl Args {
    fn selects(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn contenders() -> Vec<Contender> {
    let mut all = ours::contenders();
    all.extend(peers::contenders());
    all
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style)
}
