//! `/metrics` as Prometheus reads it: by its own tool, and by name, type, help and sample.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use cni_keeper::http::metrics::{CONTENT_TYPE, render_metrics};
use cni_keeper::model::{
    Agent, Check, CheckName, Counters, Declared, DriftKind, DriftPolicy, ForeignConflists,
    Snapshot, Status, Timestamp, WatchMode,
};

use crate::support::skipped;

/// Every documented metric, and its type.
const PROMISED: [(&str, &str); 13] = [
    ("cni_keeper_build_info", "gauge"),
    ("cni_keeper_ready", "gauge"),
    ("cni_keeper_check_ok", "gauge"),
    ("cni_keeper_watch_mode", "gauge"),
    ("cni_keeper_last_verified_timestamp_seconds", "gauge"),
    ("cni_keeper_drift_total", "counter"),
    ("cni_keeper_repairs_total", "counter"),
    ("cni_keeper_repair_duration_seconds", "histogram"),
    ("cni_keeper_conflist_conflicts_total", "counter"),
    ("cni_keeper_watch_overflows_total", "counter"),
    ("cni_keeper_downloads_total", "counter"),
    ("cni_keeper_source_failures_total", "counter"),
    ("cni_keeper_download_bytes_total", "counter"),
];

/// An agent that has just started on a node where everything is right.
fn started() -> Status {
    let now = Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250));
    Status {
        agent: Agent {
            version: "0.1.0".to_owned(),
            pid: 1,
            node: None,
            started: now,
            config: "/etc/cni-keeper/config.yaml".into(),
            flags: BTreeMap::new(),
        },
        declared: Declared {
            profile: None,
            policy: DriftPolicy::Heal,
            foreign_conflists: ForeignConflists::Report,
            resync_seconds: 300,
            bin_dir: "/opt/cni/bin".into(),
            conf_dir: "/etc/cni/net.d".into(),
            state_dir: "/opt/cni/.cni-keeper".into(),
            artifacts: Vec::new(),
            conflist: None,
        },
        looked: now,
        began: Some(Instant::now()),
        verified: None,
        passes: 1,
        snapshot: Snapshot {
            files: Vec::new(),
            checks: vec![
                Check::new(CheckName::Binaries),
                Check::new(CheckName::Conflist),
            ],
            effective: None,
        },
        watch: WatchMode::Events,
        directory: None,
        downloads: Vec::new(),
        errors: Vec::new(),
        drift: Vec::new(),
        kubernetes: None,
        counters: Counters::default(),
    }
}

/// The same after everything has happened, mostly with names that are hard to escape.
fn eventful() -> Status {
    let mut status = started();
    status.verified = Some(status.looked);
    let failure = "binaries: bridge is \"missing\"\n".to_owned();
    status.snapshot.checks[0].failures.push(failure);
    status.watch = WatchMode::Polling {
        every_seconds: 5,
        reason: "no inotify instance is left".to_owned(),
    };
    let counters = &mut status.counters;
    for file in HOSTILE {
        counters
            .drift
            .insert((DriftKind::Content, file.to_owned()), 7);
    }
    counters
        .drift
        .insert((DriftKind::Missing, "bridge".to_owned()), 41);
    counters.repairs.insert("healed", 40);
    counters
        .repair_seconds
        .observe(Duration::from_micros(1_500));
    counters.repair_seconds.observe(Duration::from_secs(90));
    counters.watch_overflows = 3;
    counters.downloads.insert(("ok", ""), 2);
    counters.downloads.insert(("failed", "tls-unknown-ca"), 5);
    let mirror = ("https://mirror.example/a\"b".to_owned(), "tls-expired");
    counters.source_failures.insert(mirror, 2);
    counters.download_bytes = u64::MAX;
    counters.conflicts = 1;
    status
}

/// Names that a foreign file may have.
const HOSTILE: [&str; 6] = [
    "a\"b",
    "a\\",
    "a\nready 1",
    "\\n\"} 1",
    "{le=\"1\"}",
    "\u{1b}[31m\r\t\u{2028}é\u{fffd}",
];

/// What `promtool check metrics` prints, or `None` without promtool.
fn promtool(text: &str) -> Option<String> {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skipped("promtool is missing; it is in Debian's package prometheus");
            return None;
        }
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let message = [output.stdout, output.stderr].concat();
    Some(format!(
        "{}: {}",
        output.status,
        String::from_utf8(message).unwrap()
    ))
}

#[test]
fn prometheus_finds_nothing_to_say_about_them() {
    for status in [started(), eventful()] {
        let text = render_metrics(&status);
        let Some(message) = promtool(&text) else {
            return;
        };
        assert_eq!(message, "exit status: 0: ", "{text}");
    }
}

/// The tool does report mistakes.
#[test]
fn prometheus_would_notice_a_mistake() {
    for broken in [
        render_metrics(&eventful()).replace("\\\"", "\""),
        render_metrics(&started()).replace("# HELP cni_keeper_ready", "# cni_keeper_ready"),
        render_metrics(&started()).replace("_total", ""),
    ] {
        let Some(message) = promtool(&broken) else {
            return;
        };
        assert_ne!(message, "exit status: 0: ", "{broken}");
    }
}

#[test]
fn each_is_there_from_the_start_with_type_and_help() {
    for status in [started(), eventful()] {
        let text = render_metrics(&status);
        let typed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let promised = PROMISED.map(|(name, kind)| format!("{name} {kind}"));
        assert_eq!(typed, promised);
        for (name, _) in PROMISED {
            let help = format!("# HELP {name} ");
            let help = text.lines().find_map(|line| line.strip_prefix(&help));
            assert!(help.is_some_and(|help| help.ends_with('.')), "{name}");
        }
    }
    assert_eq!(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
}

/// Counters whose labels are known exist with zero from the first scrape: Prometheus sees no increase from nothing to
/// one.
#[test]
fn what_has_not_happened_is_zero() {
    assert_samples(
        &render_metrics(&started()),
        &[
            "build_info{version=\"0.1.0\"} 1",
            "ready 1",
            "check_ok{check=\"binaries\"} 1",
            "check_ok{check=\"conflist\"} 1",
            "watch_mode{mode=\"events\"} 1",
            "watch_mode{mode=\"polling\"} 0",
            "last_verified_timestamp_seconds 0",
            "repairs_total{result=\"healed\"} 0",
            "repairs_total{result=\"failed\"} 0",
            "repair_duration_seconds_bucket{le=\"+Inf\"} 0",
            "repair_duration_seconds_sum 0",
            "repair_duration_seconds_count 0",
            "conflist_conflicts_total 0",
            "watch_overflows_total 0",
            "downloads_total{result=\"ok\",reason=\"\"} 0",
            "download_bytes_total 0",
        ],
    );
}

#[test]
fn what_has_happened_is_reported_once() {
    assert_samples(
        &render_metrics(&eventful()),
        &[
            "ready 0",
            "check_ok{check=\"binaries\"} 0",
            "check_ok{check=\"conflist\"} 1",
            "watch_mode{mode=\"events\"} 0",
            "watch_mode{mode=\"polling\"} 1",
            "last_verified_timestamp_seconds 1700000000.25",
            "drift_total{kind=\"missing\",file=\"bridge\"} 41",
            "drift_total{kind=\"content\",file=\"a\\\"b\"} 7",
            "drift_total{kind=\"content\",file=\"a\\\\\"} 7",
            "drift_total{kind=\"content\",file=\"a\\nready 1\"} 7",
            "repairs_total{result=\"healed\"} 40",
            "repairs_total{result=\"failed\"} 0",
            "repair_duration_seconds_bucket{le=\"0.001\"} 0",
            "repair_duration_seconds_bucket{le=\"0.002\"} 1",
            "repair_duration_seconds_bucket{le=\"30\"} 1",
            "repair_duration_seconds_bucket{le=\"+Inf\"} 2",
            "repair_duration_seconds_sum 90.0015",
            "downloads_total{result=\"ok\",reason=\"\"} 2",
            "downloads_total{result=\"failed\",reason=\"tls-unknown-ca\"} 5",
            "source_failures_total{source=\"https://mirror.example/a\\\"b\",reason=\"tls-expired\"} 2",
            "download_bytes_total 18446744073709551615",
            "watch_overflows_total 3",
            "conflist_conflicts_total 1",
        ],
    );
}

fn assert_samples(text: &str, samples: &[&str]) {
    for sample in samples {
        let wanted = format!("cni_keeper_{sample}");
        let found = text.split('\n').filter(|line| *line == wanted).count();
        assert_eq!(found, 1, "{wanted}\n{text}");
    }
}
