//! The list of the agent's metrics, rendered from its [`Status`] in Prometheus' text format.
//!
//! The format is the classic one, version 0.0.4, which every Prometheus since 2014 reads. The crate
//! `prometheus-client` writes only OpenMetrics, which names a counter's family without its `_total`: when that is read
//! as classic text (`promtool check metrics`), the counters lose type and help. The classic format has only three
//! kinds of line, so they are written here.
//!
//! A series starts with a sample of zero only if its labels are known beforehand. `drift_total` has no sample before
//! the first drift of a file and kind, since all files times all kinds would be a few hundred series on every node.
//! So an alert on drift should count `repairs_total`.

use std::fmt::{self, Display, Write as _};
use std::time::SystemTime;

use crate::model::{Histogram, Status, WatchMode, escape_controls};

/// The content type of `/metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The results of a repair. Their series exist from the start.
const REPAIR_RESULTS: [&str; 2] = ["healed", "failed"];

/// All metrics of one status, each with its help and type.
#[must_use]
pub fn render_metrics(status: &Status) -> String {
    let mut text = Exposition(String::with_capacity(8 * 1024));
    write_gauges(status, &mut text);
    write_counters(status, &mut text);
    text.0
}

/// The present state.
fn write_gauges(status: &Status, text: &mut Exposition) {
    text.begin_family(
        "build_info",
        "gauge",
        "Always 1; the version of the agent is in the label.",
    )
    .write_sample(&[("version", status.agent.version.as_str())], 1);
    text.begin_family(
        "ready",
        "gauge",
        "1 while all that is declared holds on the node's disk, else 0.",
    )
    .write_sample(&[], u8::from(status.is_ready()));
    let mut checks = text.begin_family(
        "check_ok",
        "gauge",
        "1 while the check passes, else 0; /readyz says why.",
    );
    for check in &status.snapshot.checks {
        checks.write_sample(
            &[("check", check.name.as_str())],
            u8::from(check.failures.is_empty()),
        );
    }
    let mut modes = text.begin_family(
        "watch_mode",
        "gauge",
        "1 for the way in which changes are noticed, 0 for the other way: events (inotify) or polling (degraded).",
    );
    let events = status.watch == WatchMode::Events;
    modes.write_sample(&[("mode", "events")], u8::from(events));
    modes.write_sample(&[("mode", "polling")], u8::from(!events));
    let verified = status.verified.map(|moment| moment.0);
    let verified = verified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    text.begin_family(
        "last_verified_timestamp_seconds",
        "gauge",
        "When every declared file was last read and hashed, in seconds since 1970; 0 if never yet.",
    )
    .write_sample(&[], verified.unwrap_or_default().as_secs_f64());
}

/// What was counted since the agent started.
fn write_counters(status: &Status, text: &mut Exposition) {
    let counters = &status.counters;
    let mut drift = text.begin_family(
        "drift_total",
        "counter",
        "Drifts noticed, by their kind and the name of the file.",
    );
    for ((kind, file), count) in &counters.drift {
        drift.write_sample(&[("kind", kind.as_str()), ("file", file)], count);
    }
    let mut repairs = text.begin_family(
        "repairs_total",
        "counter",
        "Repairs of drift, by result: healed or failed.",
    );
    for result in known_first(&REPAIR_RESULTS, &counters.repairs) {
        let count = counters.repairs.get(result).copied().unwrap_or_default();
        repairs.write_sample(&[("result", result)], count);
    }
    text.begin_family(
        "repair_duration_seconds",
        "histogram",
        "How long repairs that healed took, in seconds from the first sign of the drift.",
    )
    .write_histogram(&counters.repair_seconds);
    text.begin_family(
        "conflist_conflicts_total",
        "counter",
        "How often another program began to undo repairs repeatedly.",
    )
    .write_sample(&[], counters.conflicts);
    text.begin_family(
        "watch_overflows_total",
        "counter",
        "How often the kernel's event queue overflowed, so that all files were checked again.",
    )
    .write_sample(&[], counters.watch_overflows);
    let mut downloads = text.begin_family(
        "downloads_total",
        "counter",
        "Downloads of artifacts, by result (ok or failed) and the reason of a failure.",
    );
    for key in known_first(&[("ok", "")], &counters.downloads) {
        let count = counters.downloads.get(&key).copied().unwrap_or_default();
        downloads.write_sample(&[("result", key.0), ("reason", key.1)], count);
    }
    let mut sources = text.begin_family(
        "source_failures_total",
        "counter",
        "Failed requests for an artifact, by source and reason, even if another source then provided it.",
    );
    for ((source, reason), count) in &counters.source_failures {
        sources.write_sample(&[("source", source), ("reason", reason)], count);
    }
    text.begin_family(
        "download_bytes_total",
        "counter",
        "Bytes that were downloaded and matched the pinned digest.",
    )
    .write_sample(&[], counters.download_bytes);
    if let Some(api) = &status.kubernetes {
        let mut requests = text.begin_family(
            "kubernetes_requests_total",
            "counter",
            "Requests to the Kubernetes API, by verb and result: ok, or the reason of a failure.",
        );
        for ((verb, result), count) in &api.requests {
            requests.write_sample(&[("verb", verb), ("result", result)], count);
        }
    }
}

/// The keys whose series exist from the start, then those that were counted since.
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
struct MetricFamily<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// A label's value, escaped: an unescaped quote would end it, a line break would end the line, and whoever shows it must not
/// be controlled by it.
struct LabelValue<'a>(&'a str);

impl Exposition {
    /// Begins a metric. Neither `name` nor `help` may contain what needs escaping.
    fn begin_family(&mut self, name: &'static str, kind: &str, help: &str) -> MetricFamily<'_> {
        let text = &mut self.0;
        append(text, format_args!("# HELP cni_keeper_{name} {help}\n"));
        append(text, format_args!("# TYPE cni_keeper_{name} {kind}\n"));
        MetricFamily { text, name }
    }
}

impl MetricFamily<'_> {
    fn write_sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.write_line("", labels, value);
    }

    /// Each bucket of the format counts all observations up to its bound, so it includes the buckets below.
    fn write_histogram(&mut self, histogram: &Histogram) {
        let bounds = Histogram::BOUNDS.iter().map(ToString::to_string);
        let bounds = bounds.chain(["+Inf".to_owned()]);
        let mut so_far = 0;
        for (bound, count) in bounds.zip(histogram.counts()) {
            so_far += count;
            self.write_line("_bucket", &[("le", &bound)], so_far);
        }
        self.write_line("_sum", &[], histogram.sum());
        self.write_line("_count", &[], so_far);
    }

    fn write_line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        append(self.text, format_args!("cni_keeper_{}{suffix}", self.name));
        for (number, (label, value)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            let value = LabelValue(value);
            append(self.text, format_args!("{before}{label}=\"{value}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        append(self.text, format_args!("{after} {value}\n"));
    }
}

impl Display for LabelValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line break has an escape of the format itself.
        for (number, line) in self.0.split('\n').enumerate() {
            if number > 0 {
                f.write_str("\\n")?;
            }
            for character in escape_controls(line).chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    other => f.write_char(other)?,
                }
            }
        }
        Ok(())
    }
}

/// Appends to the text, which cannot fail.
fn append(text: &mut String, what: fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_label_value_ends_where_it_should() {
        let mut text = Exposition(String::new());
        text.begin_family("x", "gauge", "Help.")
            .write_sample(&[("a", "1\\2\"3\n4\r5é"), ("b", "")], 1);
        assert_eq!(
            text.0,
            "# HELP cni_keeper_x Help.\n# TYPE cni_keeper_x gauge\ncni_keeper_x{a=\"1\\\\2\\\"3\\n4\\\\r5é\",b=\"\"} 1\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let mut histogram = Histogram::default();
        for millis in [1, 3, 900, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Exposition(String::new());
        text.begin_family("x", "histogram", "Help.")
            .write_histogram(&histogram);
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
