//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::Histogram;

/// Families of samples, one after another.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    /// The family to which samples are added.
    name: &'static str,
}

/// Names and values that need no escape.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "counter")
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "gauge")
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> &mut Self {
        self.family(name, help, "histogram")
    }

    /// One sample of the family.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: u64) -> &mut Self {
        self.line("", labels, value);
        self
    }

    /// All samples of one histogram of the family.
    pub(super) fn samples(&mut self, label: (&str, &str), histogram: &Histogram) {
        let mut count = 0;
        for (bound, within) in histogram.buckets() {
            count += within;
            self.line("_bucket", &[label, ("le", &bound)], count);
        }
        self.line("_sum", &[label], histogram.seconds());
        self.line("_count", &[label], count);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, help: &str, kind: &str) -> &mut Self {
        self.name = name;
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let (name, labels) = (self.name, labels.join(","));
        let _ = writeln!(self.text, "{name}{suffix}{open}{labels}{close} {value}");
    }
}
