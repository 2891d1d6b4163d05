//! tmp
use turnkit_sim as sim;
fn main() {
    let mut args = std::env::args().skip(1);
    let from: u64 = args.next().unwrap().parse().unwrap();
    let to: u64 = args.next().unwrap().parse().unwrap();
    let verbose = args.next().is_some();
    let mut bad = 0;
    let started = std::time::Instant::now();
    let mut total = std::time::Duration::ZERO;
    for seed in from..to {
        let r = sim::simulate(seed, None);
        match r {
            Err(e) => println!("seed {seed} ERR {e}"),
            Ok(r) => {
                total += r.records.last().map_or(std::time::Duration::ZERO, |r| r.at);
                if verbose { print!("{}", r.plan); for x in &r.records { println!("{x}"); } }
                if !r.violations.is_empty() { bad += 1; println!("seed {seed}"); for v in &r.violations { println!("   {v}"); } }
            }
        }
    }
    println!("{} seeds {bad} bad {:?} simulated {:?}", to-from, started.elapsed(), total);
}
