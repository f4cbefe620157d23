//! Whether changes are noticed by events or by polling.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::schedule::POLL_PERIOD;
use super::watch_targets::WatchTargets;
use crate::config::Settings;
use crate::host::{Host, HostError};
use crate::model::{Check, CheckName, FileName, ManagedDir, WatchMode};
use crate::watch::{DirWatcher, Hint, UnclosedFiles};

/// The watched directories, and how well they are watched.
#[derive(Default)]
pub(super) struct WatchState {
    watcher: DirWatcher,
    targets: Arc<WatchTargets>,
    notice: ChangeNotice,
}

/// How changes are noticed.
#[derive(Debug, Default)]
enum ChangeNotice {
    /// The kernel reports them.
    #[default]
    Events,
    /// The kernel reports them again. One more poll finds what it did not report before.
    CatchingUp,
    /// The kernel cannot report them, for this reason.
    Polling(String),
}

impl WatchState {
    /// The files that somebody is writing.
    pub(super) fn unclosed_files(&self) -> UnclosedFiles {
        self.watcher.unclosed_files()
    }

    /// Watches what has to be watched now. Must run before the disk is observed, so that no change is missed.
    ///
    /// # Errors
    /// Where a mount on the way was removed on the host ([`HostError::is_removed_mount`]).
    pub(super) async fn update(
        &mut self,
        settings: Arc<Settings>,
        host: &Host,
        config: &Path,
        network: Option<String>,
    ) -> Result<(), HostError> {
        let (host, config) = (host.clone(), config.to_owned());
        let targets = tokio::task::spawn_blocking(move || {
            WatchTargets::from_settings(&settings, &host, &config, network.as_deref())
        });
        let found = match targets.await {
            Ok(Ok(targets)) => {
                if targets != *self.targets {
                    self.targets = Arc::new(targets);
                }
                Ok(())
            }
            Ok(Err(error)) if error.is_removed_mount() => return Err(error),
            // The former targets stay, because watching them is better than watching nothing.
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let watched = self
            .watcher
            .watch_dirs(&self.targets.dirs, self.targets.path_filter());
        let watched = watched.map_err(|error| error.to_string());
        self.set_notice(found.and(watched));
        Ok(())
    }

    fn set_notice(&mut self, watched: Result<(), String>) {
        let is_polling = matches!(self.notice, ChangeNotice::Polling(_));
        match watched {
            Ok(()) if is_polling => {
                tracing::info!("the kernel reports changes again");
                self.notice = ChangeNotice::CatchingUp;
            }
            Ok(()) => {}
            Err(reason) => {
                if !is_polling {
                    tracing::warn!(
                        "the kernel cannot report changes, polling from now on: {reason}"
                    );
                }
                self.notice = ChangeNotice::Polling(reason);
            }
        }
    }

    /// A poll is about to happen, which also finds what was not reported before.
    pub(super) fn record_poll(&mut self) {
        if matches!(self.notice, ChangeNotice::CatchingUp) {
            self.notice = ChangeNotice::Events;
        }
    }

    /// Makes the next update renew every watch, for the resync.
    pub(super) fn invalidate(&mut self) {
        self.watcher.invalidate();
    }

    /// Whether polls are needed.
    pub(super) const fn needs_polls(&self) -> bool {
        !matches!(self.notice, ChangeNotice::Events)
    }

    /// Waits until `rested` and then for the next hint. Changes accumulate until then without a wake-up. Cancel-safe: a
    /// hint leaves the watcher's queue only when it is returned.
    pub(super) async fn next_hint(&mut self, rested: Instant) -> Hint {
        if rested > Instant::now() {
            tokio::time::sleep_until(rested.into()).await;
        }
        self.watcher.next_hint().await
    }

    /// The bin and the configuration directory as far as they exist, links followed.
    pub(super) fn managed_dirs(&self) -> &BTreeMap<ManagedDir, PathBuf> {
        self.targets.managed_dirs()
    }

    /// The files of the managed directories that somebody is in the middle of writing.
    pub(super) fn list_changing_files(&self, now: Instant) -> Vec<(ManagedDir, FileName)> {
        let changing = self.watcher.unclosed_files().list_changing(now);
        let files = changing.iter();
        files
            .filter_map(|path| self.targets.managed_file_at(path))
            .collect()
    }

    /// The plugins among the paths of a hint.
    pub(super) fn plugins_in(&self, hint: &Hint) -> BTreeSet<FileName> {
        let paths = hint.paths.iter();
        paths
            .filter_map(|path| self.targets.plugin_at(path))
            .collect()
    }

    /// Whether a hint says that the configuration file may have changed.
    pub(super) fn concerns_config(&self, hint: &Hint) -> bool {
        hint.rescan || hint.paths.iter().any(|path| self.targets.is_config(path))
    }

    /// How changes are noticed, for the status.
    pub(super) fn mode(&self) -> WatchMode {
        match &self.notice {
            ChangeNotice::Events | ChangeNotice::CatchingUp => WatchMode::Events,
            ChangeNotice::Polling(reason) => WatchMode::Polling {
                every_seconds: POLL_PERIOD.as_secs(),
                reason: reason.clone(),
            },
        }
    }

    /// The check `watch`.
    pub(super) fn check(&self) -> Check {
        let mut check = Check::new(CheckName::Watch);
        if let ChangeNotice::Polling(reason) = &self.notice {
            check.warnings.push(format!(
                "degraded: the disk is checked every {} s, because the kernel does not report changes: {reason}",
                POLL_PERIOD.as_secs()
            ));
        }
        check
    }
}
