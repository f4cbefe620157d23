//! The agent's metrics: a view of its [`Status`] in Prometheus' text format.
//!
//! The format is the classic one, version 0.0.4, which every Prometheus since 2014 reads, and everything that
//! scrapes as Prometheus does. OpenMetrics, the only format of the crate `prometheus-client`, names a counter's
//! family without its `_total`: read as classic text (`promtool check metrics`), its counters lose type and help.
//! The classic format is three kinds of line, so they are written here.
//!
//! Only what is known beforehand has a sample of zero. `drift_total` has none before the first drift of a file and
//! kind, for their product would be a few hundred series on every node: an alert on drift counts `repairs_total`.

use std::fmt::{self, Display, Write as _};
use std::time::SystemTime;

use crate::model::{Histogram, Status, WatchMode};

/// What the answer of `/metrics` says of itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The results of a repair, there from the start.
const REPAIRS: [&str; 2] = ["healed", "failed"];

/// All metrics of one status, each with its help and type.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut text = Exposition(String::with_capacity(8 * 1024));
    now(status, &mut text);
    since_the_start(status, &mut text);
    text.0
}

/// What is so at the moment.
fn now(status: &Status, text: &mut Exposition) {
    text.family(
        "build_info",
        "gauge",
        "Always 1; the version of the agent is in the label.",
    )
    .sample(&[("version", status.agent.version)], 1);
    text.family(
        "ready",
        "gauge",
        "1 while all that is declared holds on the node's disk, else 0.",
    )
    .sample(&[], u8::from(status.is_ready()));
    let mut checks = text.family(
        "check_ok",
        "gauge",
        "1 while nothing speaks against the check, else 0; /readyz says why.",
    );
    for check in &status.snapshot.checks {
        checks.sample(
            &[("check", check.name.as_str())],
            u8::from(check.failures.is_empty()),
        );
    }
    let mut modes = text.family(
        "watch_mode",
        "gauge",
        "1 for the way in which changes are noticed, 0 for the other: events (inotify) or polling (degraded).",
    );
    let events = status.watch == WatchMode::Events;
    modes.sample(&[("mode", "events")], u8::from(events));
    modes.sample(&[("mode", "polling")], u8::from(!events));
    let verified = status.verified.map(|moment| moment.0);
    let verified = verified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    text.family(
        "last_verified_timestamp_seconds",
        "gauge",
        "When every declared file was last read and hashed, in seconds since 1970; 0 if never yet.",
    )
    .sample(&[], verified.unwrap_or_default().as_secs_f64());
}

/// What was counted since the agent started.
fn since_the_start(status: &Status, text: &mut Exposition) {
    let counters = &status.counters;
    let mut drift = text.family(
        "drift_total",
        "counter",
        "Drifts noticed, by their kind and the name of the file.",
    );
    for ((kind, file), count) in &counters.drift {
        drift.sample(&[("kind", kind), ("file", file)], count);
    }
    let mut repairs = text.family(
        "repairs_total",
        "counter",
        "Repairs of drift, by result: healed or failed.",
    );
    for result in known_first(&REPAIRS, &counters.repairs) {
        let count = counters.repairs.get(result).copied().unwrap_or_default();
        repairs.sample(&[("result", result)], count);
    }
    text.family(
        "repair_duration_seconds",
        "histogram",
        "How long repairs that healed took, in seconds from the first sign of the drift.",
    )
    .histogram(&counters.repair_seconds);
    text.family(
        "conflist_conflicts_total",
        "counter",
        "How often another writer began to undo repairs again and again.",
    )
    .sample(&[], counters.conflicts);
    text.family(
        "watch_overflows_total",
        "counter",
        "How often the kernel's event queue ran over, so that everything was looked at anew.",
    )
    .sample(&[], counters.watch_overflows);
    let mut downloads = text.family(
        "downloads_total",
        "counter",
        "Downloads of artifacts, by result (ok or failed) and the reason of a failure.",
    );
    for key in known_first(&[("ok", "")], &counters.downloads) {
        let count = counters.downloads.get(&key).copied().unwrap_or_default();
        downloads.sample(&[("result", key.0), ("reason", key.1)], count);
    }
    let mut sources = text.family(
        "source_failures_total",
        "counter",
        "Sources that were asked for an artifact in vain, by source and reason, also where another one had it.",
    );
    for ((source, reason), count) in &counters.source_failures {
        sources.sample(&[("source", source), ("reason", reason)], count);
    }
    text.family(
        "download_bytes_total",
        "counter",
        "Bytes that were downloaded and whose digest was the pinned one.",
    )
    .sample(&[], counters.download_bytes);
    if let Some(api) = &status.kubernetes {
        let mut requests = text.family(
            "kubernetes_requests_total",
            "counter",
            "Requests to the Kubernetes API, by verb and result: ok, or the reason of a failure.",
        );
        for ((verb, result), count) in &api.requests {
            requests.sample(&[("verb", verb), ("result", result)], count);
        }
    }
}

/// The keys that are there from the start, then those that came up since.
fn known_first<'a, K: Copy + Ord + 'a, V>(
    known: &'a [K],
    counted: &'a std::collections::BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    let came_up = counted.keys().filter(|key| !known.contains(key));
    known.iter().chain(came_up).copied()
}

/// The text so far.
struct Exposition(String);

/// One metric, to which samples are added.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// A label's value: the format ends it at a quote and a line at a line break.
struct Escaped<'a>(&'a str);

impl Exposition {
    /// Begins a metric. Neither `name` nor `help` may need escaping.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let text = &mut self.0;
        write_to(text, format_args!("# HELP cni_keeper_{name} {help}\n"));
        write_to(text, format_args!("# TYPE cni_keeper_{name} {kind}\n"));
        Family { text, name }
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, value);
    }

    /// The buckets of the format hold all observations up to their bound, those of the buckets below included.
    fn histogram(&mut self, histogram: &Histogram) {
        let bounds = Histogram::BOUNDS.iter().map(ToString::to_string);
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut so_far = 0;
        for (bound, count) in bounds.zip(histogram.counts()) {
            so_far += count;
            self.line("_bucket", &[("le", &bound)], so_far);
        }
        self.line("_sum", &[], histogram.sum());
        self.line("_count", &[], so_far);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        write_to(self.text, format_args!("cni_keeper_{}{suffix}", self.name));
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = Escaped(value);
            write_to(self.text, format_args!("{before}{label}=\"{value}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        write_to(self.text, format_args!("{after} {value}\n"));
    }
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Adds to the text, which cannot fail.
fn write_to(text: &mut String, what: fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_label_value_ends_where_it_should() {
        let mut text = Exposition(String::new());
        text.family("x", "gauge", "Help.")
            .sample(&[("a", "1\\2\"3\n4\r5é"), ("b", "")], 1);
        assert_eq!(
            text.0,
            "# HELP cni_keeper_x Help.\n# TYPE cni_keeper_x gauge\ncni_keeper_x{a=\"1\\\\2\\\"3\\n4\r5é\",b=\"\"} 1\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        for millis in [1, 3, 900, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Exposition(String::new());
        text.family("x", "histogram", "Help.").histogram(&histogram);
        let lines: Vec<&str> = text.0.lines().skip(2).collect();
        assert_eq!(lines.len(), Histogram::BOUNDS.len() + 3);
        for line in [
            "cni_keeper_x_bucket{le=\"0.001\"} 1",
            "cni_keeper_x_bucket{le=\"0.002\"} 1",
            "cni_keeper_x_bucket{le=\"0.004\"} 2",
            "cni_keeper_x_bucket{le=\"1\"} 3",
            "cni_keeper_x_bucket{le=\"30\"} 3",
            "cni_keeper_x_bucket{le=\"+Inf\"} 4",
            "cni_keeper_x_sum 60.904",
            "cni_keeper_x_count 4",
        ] {
            assert!(lines.contains(&line), "{line}\n{}", text.0);
        }
    }
}
