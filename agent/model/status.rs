//! The status that the agent publishes: one value, from which every view is made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    ApiUse, ContainerRuntime, DownloadOutcome, DriftKind, DriftPolicy, ForeignConflists, Snapshot,
    Timestamp,
};

/// Everything that the running agent knows, as of one observation of the disk. Only the loop makes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent that made it.
    pub agent: Agent,
    /// The declaration.
    pub declared: Declared,
    /// When the observation of the disk began from which this status was made.
    pub looked: Timestamp,
    /// The same time on the monotonic clock, to check that an answer is not older than its request. `None` in a status
    /// that was read from another process.
    #[serde(skip)]
    pub began: Option<Instant>,
    /// When the last full reading and hashing of every declared file ended.
    pub verified: Option<Timestamp>,
    /// How many observations there were, this one included.
    pub passes: u64,
    /// Files and checks. Here the checks are `config`, `binaries`, `conflist`, `precedence`, `plugins`, `gates`,
    /// `watch`, `conflict` and `runtime`, as far as they apply.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// How changes are noticed.
    pub watch: WatchMode,
    /// The configuration directory as the runtimes see it; `None` if no network is declared or the directory could not
    /// be observed.
    pub directory: Option<Directory>,
    /// How requests to the Kubernetes API end; `None` if nothing is declared that needs it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<ApiUse>,
    /// The result of the last download of each artifact that had to be downloaded.
    #[serde(skip_deserializing)]
    pub downloads: Vec<DownloadOutcome>,
    /// The last failures of the agent's own work, newest first, a bounded number.
    pub errors: Vec<RecordedError>,
    /// The drift log, newest first, a bounded number.
    #[serde(skip)]
    pub drift: Vec<Arc<DriftRecord>>,
    /// Counters since the agent started.
    #[serde(skip)]
    pub counters: Counters,
}

/// The answer of `/status`. The agent writes it and `cni-keeper status` reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusDocument {
    /// Whether everything declared holds.
    pub ready: bool,
    /// The status itself.
    #[serde(flatten)]
    pub status: Arc<Status>,
}

/// The answer of `/drift`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DriftLog {
    /// How many drifts are still open.
    pub open: usize,
    /// Newest first.
    pub entries: Vec<Arc<DriftRecord>>,
}

/// The running agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The node's name, where known.
    pub node: Option<String>,
    /// When it started.
    pub started: Timestamp,
    /// The configuration file.
    pub config: PathBuf,
    /// Every flag with the value in force.
    pub flags: BTreeMap<String, String>,
}

/// The declaration in force, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// The built-in profile that it started from, if any.
    pub profile: Option<String>,
    /// What is done about drift.
    pub policy: DriftPolicy,
    /// What is done about foreign conflists.
    pub foreign_conflists: ForeignConflists,
    /// The time between two full readings, in seconds.
    pub resync_seconds: u64,
    /// Where the plugins are, `--host-root` included.
    pub bin_dir: PathBuf,
    /// Where the conflist is, `--host-root` included.
    pub conf_dir: PathBuf,
    /// Where the store and the ledger are, `--host-root` included.
    pub state_dir: PathBuf,
    /// What is fetched.
    pub artifacts: Vec<DeclaredArtifact>,
    /// The conflist's file name, where a network is declared.
    pub conflist: Option<String>,
}

/// One artifact of the declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredArtifact {
    /// The operator's name for it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its pin, as `sha256:…` or `sha512:…`; `None` as long as it has to be asked for.
    pub pin: Option<String>,
    /// Where the pin comes from: `configuration`, `signed list (key …)` or `checksum file`; and who signed the
    /// artifact, if a signature is required.
    pub pinned_by: String,
    /// Its sources without user names, passwords and queries.
    pub sources: Vec<String>,
    /// The plugins taken from it.
    pub plugins: Vec<String>,
}

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "mode",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum WatchMode {
    /// The kernel reports changes (inotify).
    Events,
    /// The kernel cannot report changes, so the disk is read at intervals.
    Polling {
        /// The time between two readings, in seconds.
        every_seconds: u64,
        /// Why.
        reason: String,
    },
}

/// The configuration directory as the runtimes see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// Where it is, `--host-root` included.
    pub path: PathBuf,
    /// What each runtime takes, and why.
    pub runtimes: Vec<RuntimeView>,
    /// Every file that the runtimes read, in their order.
    pub candidates: Vec<Candidate>,
    /// The network that the newest containerd would use.
    pub effective: Option<EffectiveNetwork>,
}

/// What one runtime takes from the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeView {
    /// The runtime.
    pub runtime: ContainerRuntime,
    /// The file that it takes, if it takes any.
    pub takes: Option<String>,
    /// The network in that file.
    pub network: Option<String>,
    /// Why it takes no other file: what stops it, or which files it skipped, one line each.
    pub why: Vec<String>,
}

/// One file that the runtimes read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Whether it is the declared one.
    pub ours: bool,
    /// The name of the network in it, where it loads.
    pub network: Option<String>,
    /// Why it does not load; `None` if it loads.
    pub error: Option<String>,
}

/// A network that a runtime would use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveNetwork {
    /// The file that it is in.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The CNI version that the runtime selects.
    pub cni_version: String,
    /// The types of its plugins, in order.
    pub chain: Vec<String>,
    /// The file's text. It may hold secrets: views redact it.
    #[serde(skip)]
    pub text: String,
}

/// A failure of the agent's own work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedError {
    /// When it last happened.
    pub at: Timestamp,
    /// What happened, and how to fix it.
    pub what: String,
    /// How often in a row.
    pub times: u32,
}

/// One drift, from when it was noticed to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftRecord {
    /// Counts up from 1 over the life of the agent.
    pub id: u64,
    /// When it was noticed.
    pub at: Timestamp,
    /// The file or directory.
    pub path: PathBuf,
    /// What kind it is.
    pub kind: DriftKind,
    /// What was found, as a sentence without its subject: `is missing`.
    pub what: String,
    /// What was there: a digest, a mode, an owner, a type, `absent`.
    pub before: String,
    /// What is there instead since then.
    pub after: Option<String>,
    /// How it ended, or that it is still open.
    pub outcome: Outcome,
    /// How many drifts of this file followed each other closely, this one included.
    pub times: u32,
    /// What is known about the program that caused it.
    pub by: Option<String>,
}

/// How a drift ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Outcome {
    /// It is still there.
    Open {
        /// Why it is not fixed at once: the reason of a failure, a back-off, or the policy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<String>,
    },
    /// The agent fixed it.
    Healed {
        /// `placed from the store`, `placed after a download`, `mode and owner set`, `written`, `set aside`.
        how: Cow<'static, str>,
        /// From the first sign of it to the durable repair.
        #[serde(with = "seconds", rename = "seconds")]
        took: Duration,
    },
    /// It ended without a repair by the agent.
    Gone {
        /// From the first sign of it until the file was observed to be right.
        #[serde(with = "seconds", rename = "seconds")]
        after: Duration,
    },
}

/// Counters since the agent started.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counters {
    /// Drifts by kind and file name.
    pub drift: BTreeMap<(DriftKind, String), u64>,
    /// Repairs by result: `healed` or `failed`.
    pub repairs: BTreeMap<&'static str, u64>,
    /// How long the successful repairs took, from the first sign of the drift.
    pub repair_seconds: Histogram,
    /// How often the kernel's event queue overflowed.
    pub watch_overflows: u64,
    /// Downloads by result (`ok`, `failed`) and reason (a failure's stable label; empty for `ok`). A source that gave
    /// other bytes than the pinned ones counts as a failure of its own, also where the next one had them.
    pub downloads: BTreeMap<(&'static str, &'static str), u64>,
    /// Sources that were asked without success, by source and reason, even if another source had the artifact in the
    /// end.
    pub source_failures: BTreeMap<(String, &'static str), u64>,
    /// Bytes that were downloaded and verified.
    pub download_bytes: u64,
    /// How often a conflict began: another writer undid repairs again and again.
    pub conflicts: u64,
}

/// How many observations fell below each bound.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// The upper bounds in seconds, from a rename to a slow disk.
    pub const BOUNDS: [f64; 12] = [
        0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 1.0, 5.0, 30.0,
    ];

    /// Counts one observation.
    pub fn observe(&mut self, value: Duration) {
        let value = value.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }

    /// How many observations fell into each bucket, not added up; the last one has no upper bound.
    #[must_use]
    pub const fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The sum of all observations, in seconds.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }
}

impl Status {
    /// Whether everything declared holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.snapshot.is_right()
    }
}

/// A duration as a number of seconds, with microseconds.
mod seconds {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        serializer.serialize_f64(f64::from(micros) / 1e6)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_observation_once() {
        let mut histogram = Histogram::default();
        for millis in [0, 1, 3, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.counts()[..3], [2, 0, 1]);
        assert_eq!(histogram.counts().last(), Some(&1));
        assert_eq!(histogram.counts().iter().sum::<u64>(), 4);
    }
}
