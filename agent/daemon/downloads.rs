//! Downloads beside passes: which artifact is downloaded now, and how the last downloads ended.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use crate::model::{Artifact, DownloadOutcome, Timestamp};
use crate::reconcile::{Context, ReconcileError, StoredArtifact};
use crate::retry::Refetch;
use crate::trust::DeclaredPin;

/// How a download ended. `Ok(None)`: only the digest of the artifact was unknown, and it is known now.
pub(super) type DownloadResult = Result<Option<StoredArtifact>, ReconcileError>;

/// A finished download.
pub(super) struct FinishedDownload {
    pub(super) artifact: String,
    pub(super) result: DownloadResult,
}

/// The artifacts that have to be downloaded, one at a time.
pub(super) struct Downloads {
    wanted: Vec<Artifact<DeclaredPin>>,
    /// Which of them is next, and when.
    order: Refetch,
    state: DownloadState,
    /// How the last download of each artifact ended.
    outcomes: BTreeMap<String, DownloadOutcome>,
    /// Why the last download of each artifact failed.
    errors: BTreeMap<String, String>,
}

enum DownloadState {
    Idle,
    Running(Pin<Box<dyn Future<Output = FinishedDownload>>>),
}

impl Downloads {
    /// No artifact is wanted yet. The first download waits for this node's part of `fetch.spread`.
    pub(super) fn new(context: &Context, now: Instant) -> Self {
        let window = context.settings().fetch.spread;
        Self {
            wanted: Vec::new(),
            order: Refetch::with_delay(now, context.spread().start_delay(window), window),
            state: DownloadState::Idle,
            outcomes: BTreeMap::new(),
            errors: BTreeMap::new(),
        }
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, DownloadState::Running(_))
    }

    /// The artifact to download now.
    pub(super) fn next_artifact(&self, now: Instant) -> Option<Artifact<DeclaredPin>> {
        let names = self.wanted.iter().map(|artifact| artifact.name.as_str());
        let name = self.order.next_download(names, now)?;
        let mut wanted = self.wanted.iter();
        wanted.find(|artifact| artifact.name == name).cloned()
    }

    /// When there may be something to download again.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.order.due(now)
    }

    pub(super) fn start(
        &mut self,
        artifact: String,
        download: impl Future<Output = DownloadResult> + 'static,
    ) {
        self.order.record_start(&artifact);
        self.state = DownloadState::Running(Box::pin(async move {
            let result = download.await;
            FinishedDownload { artifact, result }
        }));
    }

    /// Cancels the running download.
    pub(super) fn cancel(&mut self) {
        self.state = DownloadState::Idle;
    }

    /// Waits until the running download ends; for ever if there is none. Cancel-safe: the download is kept until its
    /// result is returned, and continues at the next call.
    pub(super) async fn wait_for_download(&mut self) -> FinishedDownload {
        let DownloadState::Running(download) = &mut self.state else {
            return std::future::pending().await;
        };
        let finished = download.await;
        self.state = DownloadState::Idle;
        finished
    }

    /// Records which artifacts a pass needs. `downloaded` says whether the pass used a new download. `random` is called
    /// only if it is needed, so that a node's sequence of numbers does not depend on the number of its passes.
    pub(super) fn set_wanted(
        &mut self,
        wanted: &[Artifact<DeclaredPin>],
        downloaded: bool,
        now: Instant,
        random: impl FnOnce() -> u64,
    ) {
        self.wanted = wanted.to_vec();
        // An artifact that was downloaded and is still needed was not placed on the disk, or was lost there. It is
        // downloaded again only after a pause.
        let was_in_vain = |artifact: &Artifact<DeclaredPin>| {
            self.order.has_tried(&artifact.name) && !self.errors.contains_key(&artifact.name)
        };
        if self.wanted.is_empty() {
            self.errors.clear();
            self.order.reset();
        } else if downloaded && self.wanted.iter().any(was_in_vain) {
            self.order.record_failure(now, random());
        }
    }

    /// Records that the digest of an artifact is known now, so that earlier failures do not matter any more.
    pub(super) fn record_pin(&mut self, artifact: &str) {
        self.errors.remove(artifact);
        self.outcomes.remove(artifact);
    }

    /// Records that an artifact was downloaded.
    pub(super) fn record_success(&mut self, artifact: &str, stored: &StoredArtifact) {
        self.errors.remove(artifact);
        let outcome = DownloadOutcome {
            artifact: artifact.to_owned(),
            at: Timestamp(SystemTime::now()),
            from: Some(stored.report.source.clone()),
            error: None,
            failures: stored.report.tried.clone(),
        };
        self.outcomes.insert(artifact.to_owned(), outcome);
    }

    /// Records that a download failed.
    pub(super) fn record_failure(
        &mut self,
        artifact: &str,
        error: &ReconcileError,
        now: Instant,
        random: u64,
    ) {
        let failures = error.source_failures();
        let outcome = DownloadOutcome {
            artifact: artifact.to_owned(),
            at: Timestamp(SystemTime::now()),
            from: None,
            error: failures.is_empty().then(|| error.to_string()),
            failures,
        };
        self.outcomes.insert(artifact.to_owned(), outcome);
        self.errors.insert(artifact.to_owned(), error.to_string());
        self.order.record_failure(now, random);
    }

    /// How the last download of each artifact ended.
    pub(super) fn outcomes(&self) -> Vec<DownloadOutcome> {
        self.outcomes.values().cloned().collect()
    }

    /// Why the last downloads of these artifacts failed.
    pub(super) fn errors_of<'a>(
        &'a self,
        artifacts: &'a [Artifact<DeclaredPin>],
    ) -> impl Iterator<Item = &'a String> {
        let artifacts = artifacts.iter();
        artifacts.filter_map(|artifact| self.errors.get(&artifact.name))
    }

    /// Why no download has begun yet. The text stays the same while it is true.
    pub(super) fn explain_delay(&self, now: Instant) -> Option<String> {
        self.order.waits_to_start(now).map(explain_spread)
    }
}

fn explain_spread(delay: Duration) -> String {
    let seconds = delay.as_secs_f64();
    format!(
        "its download begins {seconds:.1} s after the agent's start (this node's share of fetch.spread)"
    )
}
