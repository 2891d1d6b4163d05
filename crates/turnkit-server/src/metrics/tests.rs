//! The page as a scraper reads it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;

/// What a scraper makes of a page: the value of each sample, a number as written, by its name and labels. Panics where the page breaks a rule of
/// the text format: HELP and TYPE before the samples of a family, families in one piece, no sample twice.
fn scrape(page: &str) -> HashMap<String, String> {
    assert!(page.ends_with('\n'));
    let (mut samples, mut families) = (HashMap::new(), HashSet::new());
    let (mut family, mut kind) = ("", "");
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split_once(' ').expect("a text").0;
            assert!(families.insert(family), "{family} comes twice");
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, declared) = declared.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&declared), "{line}");
            kind = declared;
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            check_name(sample.split('{').next().unwrap(), family, kind);
            assert!(sample.split_once('{').is_none_or(|(_, labels)| are_labels(labels)), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert_eq!(samples.insert(sample.to_owned(), value.to_owned()), None, "{line}");
        }
    }
    samples
}

fn check_name(name: &str, family: &str, kind: &str) {
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} is not of {family}"));
    let suffixes: &[&str] =
        if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    assert!(suffixes.contains(&suffix), "{name}");
    assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
}

/// `a="b",c="d"}`
fn are_labels(text: &str) -> bool {
    let labels = text.strip_suffix('}').unwrap_or_default().split(',');
    labels.clone().count() > 0
        && labels.into_iter().all(|label| {
            label.split_once("=\"").is_some_and(|(name, value)| {
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                    && value.strip_suffix('"').is_some_and(|value| !value.contains(['"', '\\']))
            })
        })
}

#[test]
fn a_page_can_be_scraped_and_shows_what_was_counted() {
    let metrics = Metrics::default();
    metrics.attempts_run.one();
    metrics.lines.add(7);
    metrics.clients_resumed.add(2);
    let log = Usage { executions: 4, bindings: 0, bytes: 5_000 };
    let now = Now { running: 3, waiting: 1, reconnects: 9, log: Some(log), dropped_lines: 6 };
    let samples = scrape(&metrics.render(&now));
    assert_eq!(samples[r#"turnkit_attempts_total{kind="run"}"#], "1");
    assert_eq!(samples["turnkit_lines_total"], "7");
    assert_eq!(samples["turnkit_clients_resumed_total"], "2");
    assert_eq!(samples["turnkit_turns_running"], "3");
    assert_eq!(samples["turnkit_turns_waiting"], "1");
    assert_eq!(samples["turnkit_substrate_reconnects_total"], "9");
    assert_eq!(samples["turnkit_stderr_lines_dropped_total"], "6");
    assert_eq!(samples["turnkit_log_bytes"], "5000");
    assert_eq!(samples["turnkit_log_executions"], "4");
}

#[test]
fn without_a_substrate_of_its_own_it_says_nothing_of_a_log() {
    let samples = scrape(&Metrics::default().render(&Now::default()));
    assert!(samples.keys().all(|sample| !sample.starts_with("turnkit_log")));
}

#[test]
fn durations_fall_into_every_bucket_that_is_large_enough() {
    let metrics = Metrics::default();
    for millis in [1, 2, 20, 40_000] {
        metrics.hooks.observe(Hook::PersistAssistantMessage, Duration::from_millis(millis));
    }
    let samples = scrape(&metrics.render(&Now::default()));
    let bucket = |le: &str| {
        let name = "turnkit_hook_duration_seconds_bucket";
        samples[&format!(r#"{name}{{hook="persist_assistant_message",le="{le}"}}"#)].as_str()
    };
    assert_eq!([bucket("0.0001"), bucket("0.001"), bucket("0.005")], ["0", "1", "2"]);
    assert_eq!([bucket("0.025"), bucket("30"), bucket("+Inf")], ["3", "3", "4"]);
    let of = |suffix: &str| {
        samples[&format!(
            r#"turnkit_hook_duration_seconds_{suffix}{{hook="persist_assistant_message"}}"#
        )]
            .as_str()
    };
    assert_eq!((of("count"), of("sum")), ("4", "40.023"));
}

#[test]
fn each_hook_that_takes_time_is_measured_by_itself() {
    let metrics = Metrics::default();
    metrics.hooks.observe(Hook::TraceFlush, Duration::ZERO);
    metrics.hooks.observe(Hook::OnEvent, Duration::ZERO);
    let samples = scrape(&metrics.render(&Now::default()));
    let counts = samples.iter().filter(|(name, _)| name.contains("seconds_count"));
    let measured: Vec<&String> =
        counts.filter(|(_, count)| *count != "0").map(|(name, _)| name).collect();
    assert_eq!(measured, [r#"turnkit_hook_duration_seconds_count{hook="trace_flush"}"#]);
}
