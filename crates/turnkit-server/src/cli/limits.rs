//! The limits of PROTOCOL 3.2, as options.

use std::time::Duration;

use clap::Args;
use humantime::parse_duration;
use turnkit_http::server::listener::ConnectionLimits;
use turnkit_substrate::Limits;

const HEADING: &str = "Limits";

/// Of runs and their logs.
#[derive(Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct LogLimits {
    /// How much the logs of runs may take, such as 512MiB: running ones, and those that ended, of which the oldest make room. For a
    /// log in memory this is what the process takes for it; for one in Redis it holds for all servers together.
    #[arg(long, value_name = "SIZE", env = "TURNKIT_LOG_MEMORY", default_value = "512MiB", value_parser = size)]
    log_memory: u64,
    /// How long a run that has ended can be read again.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_LOG_RETENTION", default_value = "1h", value_parser = duration)]
    log_retention: Duration,
    /// How long after that the id of a run starts no other one.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_LOG_BINDING", default_value = "24h", value_parser = duration)]
    log_binding: Duration,
    /// How long a run may take that names no timeout.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_RUN_TIMEOUT", default_value = "10m", value_parser = duration)]
    run_timeout: Duration,
    /// The longest timeout that a request may name. Never less than --run-timeout.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_MAX_RUN_TIMEOUT", default_value = "1h", value_parser = duration)]
    max_run_timeout: Duration,
    /// How many runs there may be at a time.
    #[arg(long, value_name = "NUMBER", env = "TURNKIT_MAX_RUNS", default_value = "4096", value_parser = count)]
    max_runs: usize,
    /// How many events a run may have.
    #[arg(long, value_name = "NUMBER", env = "TURNKIT_MAX_RUN_EVENTS", default_value = "100000", value_parser = count)]
    max_run_events: usize,
    /// How much the log of one run may take.
    #[arg(long, value_name = "SIZE", env = "TURNKIT_MAX_RUN_MEMORY", default_value = "64MiB", value_parser = size)]
    max_run_memory: u64,
    /// How long an event of an agent may be.
    #[arg(long, value_name = "SIZE", env = "TURNKIT_MAX_EVENT", default_value = "1MiB", value_parser = event_size)]
    max_event: usize,
}

/// Of whoever connects, and of the end.
#[derive(Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct ServingLimits {
    /// How long running work may go on once the server is told to stop.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_GRACE", default_value = "30s", value_parser = parse_duration)]
    pub(super) grace: Duration,
    /// How many connections there may be at a time.
    #[arg(long, value_name = "NUMBER", env = "TURNKIT_MAX_CONNECTIONS", default_value = "8192", value_parser = count)]
    max_connections: usize,
    /// How long the head of a request may be.
    #[arg(long, value_name = "SIZE", env = "TURNKIT_MAX_HEAD", default_value = "64KiB", value_parser = head_size)]
    max_head: usize,
    /// How long the head of a request may take.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_HEAD_TIMEOUT", default_value = "10s", value_parser = duration)]
    head_timeout: Duration,
    /// How long a peer may take nothing of what is sent to it.
    #[arg(long, value_name = "DURATION", env = "TURNKIT_PEER_TIMEOUT", default_value = "60s", value_parser = duration)]
    peer_timeout: Duration,
}

impl LogLimits {
    /// What these and `serving` come to. A substrate of ours has one scope, which may take all there is.
    pub(super) fn with(&self, serving: &ServingLimits) -> Limits {
        Limits {
            event: self.max_event,
            events_per_execution: self.max_run_events as u64,
            bytes_per_execution: self.max_run_memory,
            bytes_per_scope: self.log_memory,
            bytes_in_all: self.log_memory,
            running_per_scope: self.max_runs,
            running_in_all: self.max_runs,
            retention: self.log_retention,
            binding: self.log_binding,
            run_timeout: self.run_timeout,
            max_run_timeout: self.max_run_timeout.max(self.run_timeout),
            connection: ConnectionLimits {
                connections: serving.max_connections,
                header_bytes: serving.max_head,
                header_read: serving.head_timeout,
                tcp_user_timeout: serving.peer_timeout,
                shutdown: serving.grace,
                ..ConnectionLimits::default()
            },
            ..Limits::default()
        }
    }
}

/// A number of bytes: `65536`, `64KiB`, `512MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 0,
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    let wrong = || "it must be a number of bytes above zero, such as 65536, 64KiB, 512MiB or 1GiB";
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| wrong().to_owned())
}

fn size_within(text: &str, least: u64, most: u64, range: &str) -> Result<usize, String> {
    let bytes = size(text)?;
    let fits = usize::try_from(bytes).ok().filter(|_| (least..=most).contains(&bytes));
    fits.ok_or_else(|| format!("it must be {range}"))
}

/// What the substrate takes for an event.
fn event_size(text: &str) -> Result<usize, String> {
    size_within(text, 1, 1 << 30, "at most 1GiB")
}

/// What leaves room for a message in the body of a run.
pub(super) fn history_size(text: &str) -> Result<usize, String> {
    size_within(text, 4 << 10, 448 << 10, "4KiB to 448KiB")
}

/// What hyper takes for its buffer.
fn head_size(text: &str) -> Result<usize, String> {
    size_within(text, 8 << 10, 16 << 20, "8KiB to 16MiB")
}

/// A time above zero.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(duration)
}

/// A number above zero.
pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    let wrong = "it must be a number above zero";
    text.parse().ok().filter(|number| *number > 0).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit_of_bytes() {
        for (text, bytes) in
            [("1", 1), ("64KiB", 65_536), ("512 MiB", 512 << 20), ("1GiB", 1 << 30), ("7B", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "0", "0MiB", "-1", "1.5GiB", "1MB", "1mib", "MiB", "18446744073709551615KiB"]
        {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(history_size("1MiB").is_err() && history_size("1KiB").is_err());
        assert!(event_size("2GiB").is_err() && head_size("4KiB").is_err());
    }
}
