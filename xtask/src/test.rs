//! `cargo xtask test` and `cargo xtask ci`: the same steps for people and for CI.

use std::env;
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::ensure;

use crate::programs::Programs;
use crate::shell::{announce, cargo, run as sh};
use crate::{beside, browser, chaos, front_ends, no_std, tidy};

/// What is left out.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Leave out the page's tests in a real browser and those of front ends, which need node and Chromium; refused where CI=true
    #[arg(long)]
    no_browser: bool,
}

type Step = (&'static str, fn() -> anyhow::Result<()>);

const BROWSER: Step = ("browser", browser::test);
const FRONT_ENDS: Step = ("front ends", front_ends::test);

const STEPS: [Step; 11] = [
    ("format", || sh(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("lints", lints),
    ("features", features),
    ("tests", tests),
    ("chaos", chaos::minute),
    BROWSER,
    FRONT_ENDS,
    ("documentation", documentation),
    ("no_std", no_std::run),
    ("beside other drivers", beside::run),
];

/// Runs every step, and stops at the first that fails.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
    ensure!(
        !(args.no_browser && is_ci),
        "CI tests the page in a browser: run without --no-browser"
    );
    let start = Instant::now();
    for (number, (name, step)) in (1..).zip(STEPS) {
        announce(&format!("[{number}/{}] {name}", STEPS.len()));
        if args.no_browser && [BROWSER.0, FRONT_ENDS.0].contains(&name) {
            eprintln!("left out, as --no-browser says");
        } else {
            let begin = Instant::now();
            step()?;
            eprintln!("{name}: {} s", begin.elapsed().as_secs());
        }
    }
    announce(&format!("all passed in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Runs every step and then the README's first command, with the program that the steps have built.
pub(crate) fn ci() -> anyhow::Result<()> {
    run(&Args::default())?;
    announce("demo");
    sh(Command::new(Programs::build()?.turnkit).arg("demo"))
}

fn lints() -> anyhow::Result<()> {
    sh(&mut cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))
}

/// Two at a time on each core: most of them wait for sockets and processes.
fn tests() -> anyhow::Result<()> {
    let mut test = cargo(["test", "--workspace", "--all-features", "--locked"]);
    let threads = env::var("RUST_TEST_THREADS").unwrap_or_else(|_| {
        thread::available_parallelism().map_or(4, |cores| cores.get() * 2).to_string()
    });
    sh(test.env("RUST_TEST_THREADS", threads))
}

/// Features only add: a crate stands without any, and with each alone. What the binary says of those that are off is tested
/// where all are.
fn features() -> anyhow::Result<()> {
    let alone = [
        ("turnkit", ""),
        ("turnkit", "tokio"),
        ("turnkit", "http-body"),
        ("turnkit-http", ""),
        ("turnkit-http", "client"),
        ("turnkit-http", "server"),
        ("turnkit-chat", ""),
        ("turnkit-chat", "axum"),
        ("turnkit-chat", "postgres"),
        ("turnkit-chat", "sqlite"),
        ("turnkit-http", "tls"),
        ("turnkit-http", "tls-aws-lc"),
        ("turnkit-http", "tls-ring"),
        ("turnkit-sandbox", ""),
        ("turnkit-sandbox", "reqwest"),
        ("turnkit-sandbox", "tls-ring"),
        ("turnkit-agents", ""),
        ("turnkit-agents", "command"),
        ("turnkit-agents", "openai"),
        ("turnkit-agents", "producer"),
        ("turnkit-client", ""),
        ("turnkit-substrate", "redis"),
        ("turnkit-ui", ""),
        ("turnkit-testkit", ""),
        ("turnkit-testkit", "product"),
        ("turnkit-testkit", "substrate"),
        ("turnkit-server", "command"),
        ("turnkit-server", "openai"),
        ("turnkit-server", "postgres"),
        ("turnkit-server", "redis"),
        ("turnkit-server", "otel"),
    ];
    for (package, features) in alone {
        let select = ["-p", package, "--no-default-features", "--features", features];
        sh(cargo(["check", "--quiet", "--locked"]).args(select))?;
    }
    let mut server = cargo(["test", "--quiet", "--locked", "-p", "turnkit-server"]);
    server.args(["--no-default-features", "--features", "bundled", "--test", "binary"]);
    sh(server.args(["--", "lean"]))
}

/// With and without features: a link to what a feature brings is broken without it.
fn documentation() -> anyhow::Result<()> {
    let selections: [&[&str]; 7] = [
        &["--workspace"],
        &["--workspace", "--all-features"],
        &["-p", "turnkit", "--no-default-features"],
        &["-p", "turnkit-http", "--features", "client"],
        &["-p", "turnkit-http", "--features", "server"],
        &["-p", "turnkit-sandbox", "--no-default-features"],
        &["-p", "turnkit-client", "--no-default-features"],
    ];
    for selected in selections {
        let mut doc = cargo(["doc", "--no-deps", "--locked"]);
        sh(doc.args(selected).env("RUSTDOCFLAGS", "-D warnings"))?;
    }
    Ok(())
}
