//! Holding the state directory: one agent at a time, and nothing left over from a killed one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use super::error::ReconcileError;
use super::network::{self, ObservedNetwork};
use crate::host::{FileFingerprint, Lock};
use crate::model::Sha256;
use crate::store::{Ledger, ManagedDir, Store};

/// The state directory with the lock held. Shared with blocking work, so that the lock outlives it.
#[derive(Debug)]
pub(super) struct StateLock {
    pub(super) keeper: Context,
    pub(super) store: Store,
    /// The spares that were proven, and are still what they were as long as they have this print.
    pub(super) proven: Mutex<HashMap<Sha256, FileFingerprint>>,
    /// Whether the plugins' names are known to be durable, so that a conflist may name them.
    pub(super) names_are_durable: AtomicBool,
    /// Whether the store's own copies must stay, since nobody may be there to fetch them again.
    pub(super) lasting: bool,
    lock: Lock,
}

/// What the store and the ledger must not let go of.
pub(super) struct NeededContents {
    /// Pins as text.
    pub(super) pins: BTreeSet<String>,
    /// Contents of plugins.
    pub(super) digests: HashSet<Sha256>,
}

impl StateLock {
    /// The print of a proven spare. It is for one use: where that fails, the spare is to be proven again.
    pub(super) fn proven_spare(&self, digest: &Sha256) -> Option<FileFingerprint> {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.remove(digest)
    }

    /// Makes the plugins' names durable, unless they are: a run that was killed may have given them and not come
    /// that far. Waiting for the disk is most of what it takes to put a conflist back.
    pub(super) fn make_names_durable(&self) -> Result<(), ReconcileError> {
        if !self.names_are_durable.load(Ordering::Relaxed) {
            if let Some(bin) = self.keeper.bin_dir()? {
                bin.sync()?;
            }
            self.names_are_durable.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the state directory that is held is gone from its path, or keeps nobody out any more. Blocks.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(super) fn is_lost(&self) -> Result<bool, ReconcileError> {
        let keeper = &self.keeper;
        let state = &keeper.settings.paths.state_dir;
        Ok(self.lock.is_void() || !self.store.is_at(&keeper.host, state)?)
    }

    /// Writes down again what is ours, where a new state directory knows of nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn remember(&self, ledger: &Ledger) -> Result<(), ReconcileError> {
        if self.store.load_ledger()? == Ledger::default() {
            self.store.save_ledger(ledger)?;
        }
        Ok(())
    }
}

impl Context {
    /// Refuses a wrong conflist, then holds the state directory for one run.
    pub(super) fn open(&self) -> Result<Arc<StateLock>, ReconcileError> {
        network::observe_network(self)?
            .map(ObservedNetwork::must_render)
            .transpose()?;
        self.hold(false)
    }

    /// Takes the lock, and sweeps what a killed run left behind. Blocks.
    ///
    /// # Errors
    /// When another agent is at work ([`ReconcileError::is_held`]), or the disk refuses.
    pub(super) fn hold(&self, lasting: bool) -> Result<Arc<StateLock>, ReconcileError> {
        let store = Store::open(&self.host, &self.settings.paths.state_dir)?;
        let lock = store.lock()?;
        self.sweep(&store)?;
        self.restore_saved_pins()?;
        if lasting {
            let mut ledger = store.load_ledger()?;
            ledger.retain_members(&self.needed(&ledger).pins);
            store.save_ledger(&ledger)?;
        }
        let session = StateLock {
            keeper: self.clone(),
            store,
            proven: Mutex::default(),
            names_are_durable: AtomicBool::new(false),
            lasting,
            lock,
        };
        if let Err(error) = session.save_node_facts().and_then(|()| session.save_pins()) {
            // It is for the next start, and no reason not to begin.
            tracing::warn!("{error}");
        }
        if lasting && let Err(error) = session.make_names_durable() {
            // To be tried again when a conflist is to be written, which is when it matters.
            tracing::warn!("{error}");
        }
        Ok(Arc::new(session))
    }

    /// What is declared or in place: after an upgrade that failed, the set that is still there can be verified and
    /// healed as before.
    pub(super) fn needed(&self, ledger: &Ledger) -> NeededContents {
        let artifacts = self.settings.artifacts.iter();
        let mut needed = NeededContents {
            pins: artifacts
                .filter_map(|artifact| Some(self.pin_of(artifact)?.to_string()))
                .collect(),
            digests: HashSet::new(),
        };
        for wanted in self.desired(ledger, None).plugins {
            needed.digests.extend(wanted.sha256);
            if let Some(placed) = ledger.find_file(ManagedDir::Bin, wanted.plugin.file()) {
                let origin = placed.origin.iter();
                needed.pins.extend(origin.map(|origin| origin.pin.clone()));
                needed.digests.extend(placed.previous);
                needed.digests.insert(placed.sha256);
            }
        }
        needed
    }

    /// Removes the temps that a killed run left, in every directory that is ours to write to. To be
    /// called with the lock held.
    pub(super) fn sweep(&self, store: &Store) -> Result<(), ReconcileError> {
        let mut swept = store.sweep_temps()?;
        for dir in [self.bin_dir()?, self.conf_dir()?].into_iter().flatten() {
            match dir.remove_stale_temps() {
                Ok(names) => swept.extend(names),
                // A read-only node that is right already is right all the same.
                Err(error) => tracing::warn!("{error}"),
            }
        }
        if !swept.is_empty() {
            tracing::info!(files = swept.len(), "removed what an interrupted run left");
        }
        Ok(())
    }
}
