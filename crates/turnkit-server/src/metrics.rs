//! What the server counts, in Prometheus' text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) turns_accepted: Counter,
    pub(crate) attempts_run: Counter,
    pub(crate) attempts_attach: Counter,
    pub(crate) attempts_read: Counter,
    pub(crate) outcomes_completed: Counter,
    pub(crate) outcomes_replayed: Counter,
    pub(crate) outcomes_abandoned: Counter,
    pub(crate) outcomes_cancelled: Counter,
    pub(crate) outcomes_retryable: Counter,
    pub(crate) outcomes_failed: Counter,
    pub(crate) clients_left: Counter,
    pub(crate) clients_stalled: Counter,
    pub(crate) lines: Counter,
    pub(crate) hook_errors: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }
}

impl Metrics {
    /// The page for `GET /metrics`, with the turns that this process drives at the moment.
    pub(crate) fn render(&self, running: usize) -> String {
        let mut page = String::with_capacity(2_048);
        for (name, help, series) in self.counters() {
            family(&mut page, name, help, "counter");
            for (labels, counter) in series {
                // Writing to a string does not fail.
                let _ = writeln!(page, "{name}{labels} {}", counter.get());
            }
        }
        let name = "turnkit_turns_running";
        family(&mut page, name, "Turns that this process drives.", "gauge");
        let _ = writeln!(page, "{name} {running}");
        page
    }

    fn counters(&self) -> [Family<'_>; 6] {
        let attempts = vec![
            (r#"{kind="run"}"#, &self.attempts_run),
            (r#"{kind="attach"}"#, &self.attempts_attach),
            (r#"{kind="read"}"#, &self.attempts_read),
        ];
        let outcomes = vec![
            (r#"{outcome="completed"}"#, &self.outcomes_completed),
            (r#"{outcome="replayed"}"#, &self.outcomes_replayed),
            (r#"{outcome="abandoned"}"#, &self.outcomes_abandoned),
            (r#"{outcome="cancelled"}"#, &self.outcomes_cancelled),
            (r#"{outcome="retryable"}"#, &self.outcomes_retryable),
            (r#"{outcome="failed"}"#, &self.outcomes_failed),
        ];
        let clients = vec![
            (r#"{how="left"}"#, &self.clients_left),
            (r#"{how="stalled"}"#, &self.clients_stalled),
        ];
        [
            ("turnkit_turns_accepted_total", "New turns.", vec![("", &self.turns_accepted)]),
            (
                "turnkit_attempts_total",
                "Drives of a turn: starting it, taking it up, or reading along.",
                attempts,
            ),
            ("turnkit_attempt_outcomes_total", "How attempts ended.", outcomes),
            (
                "turnkit_clients_gone_total",
                "Clients that did not stay to the end of their body.",
                clients,
            ),
            (
                "turnkit_lines_total",
                "Lines of all attempts, also those that no client took.",
                vec![("", &self.lines)],
            ),
            (
                "turnkit_hook_errors_total",
                "Hooks that failed without failing the turn.",
                vec![("", &self.hook_errors)],
            ),
        ]
    }
}

type Family<'a> = (&'static str, &'static str, Vec<(&'static str, &'a Counter)>);

fn family(page: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_as_counted() {
        let metrics = Metrics::default();
        metrics.attempts_run.one();
        metrics.lines.add(7);
        let page = metrics.render(3);
        assert!(page.contains("\nturnkit_attempts_total{kind=\"run\"} 1\n"), "{page}");
        assert!(page.contains("\nturnkit_lines_total 7\n"), "{page}");
        assert!(page.ends_with("\nturnkit_turns_running 3\n"), "{page}");
    }

    #[test]
    fn every_line_is_a_sample_or_a_comment() {
        for line in Metrics::default().render(0).lines() {
            let is_sample =
                line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok());
            assert!(
                is_sample || line.starts_with("# HELP ") || line.starts_with("# TYPE "),
                "{line}"
            );
        }
    }
}
