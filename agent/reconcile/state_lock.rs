//! The state directory, held: one agent at a time, and nothing left over from a killed one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::error::ReconcileError;
use super::observe::Observer;
use crate::host::{FileFingerprint, Lock};
use crate::model::{Artifact, ManagedDir, Sha256};
use crate::store::{Ledger, Store};
use crate::trust::{DeclaredPin, DigestSource, PinDeclaration};

/// The state directory with the lock held. Shared with blocking work, so that the lock outlives it.
#[derive(Debug)]
pub(super) struct StateLock {
    pub(super) observer: Observer,
    pub(super) store: Store,
    /// The spares that were proven, and are still what they were as long as they have this print.
    proven_spares: Mutex<HashMap<Sha256, FileFingerprint>>,
    /// Whether the plugins' names are known to be durable, so that a conflist may name them.
    names_are_durable: AtomicBool,
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
    /// Takes the lock, and sweeps what a killed run left behind. Blocks.
    ///
    /// # Errors
    /// When another agent is at work ([`ReconcileError::is_held`]), or the disk refuses.
    pub(super) fn acquire(observer: &Observer) -> Result<Arc<Self>, ReconcileError> {
        let context = &observer.context;
        let store = Store::open(&context.host, &context.settings.paths.state_dir)?;
        let lock = store.lock()?;
        sweep_interrupted(context, &store)?;
        observer.restore_saved_pins()?;
        let state = Self {
            observer: observer.clone(),
            store,
            proven_spares: Mutex::default(),
            names_are_durable: AtomicBool::new(false),
            lock,
        };
        // Both are for the next start, and no reason not to begin.
        if let Err(error) = state.save_node_facts().and_then(|()| state.save_pins()) {
            tracing::warn!("{error}");
        }
        Ok(Arc::new(state))
    }

    /// Prepares an agent that stays for its first repair. Blocks.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub(super) fn prepare_for_repairs(&self) -> Result<(), ReconcileError> {
        let mut ledger = self.store.load_ledger()?;
        ledger.retain_members(&self.needed_contents(&ledger).pins);
        self.store.save_ledger(&ledger)?;
        if let Err(error) = self.make_names_durable() {
            // To be tried again when a conflist is to be written, which is when it matters.
            tracing::warn!("{error}");
        }
        Ok(())
    }

    pub(super) fn context(&self) -> &Context {
        &self.observer.context
    }

    /// The proven spares, by their content.
    pub(super) fn proven_spares(&self) -> MutexGuard<'_, HashMap<Sha256, FileFingerprint>> {
        // Every change is a single call, so nothing is half done after a panic.
        self.proven_spares
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Records whether the plugins' names are durable.
    pub(super) fn set_names_durable(&self, durable: bool) {
        self.names_are_durable.store(durable, Ordering::Relaxed);
    }

    /// Makes the plugins' names durable, unless they are: a run that was killed may have given them and not come
    /// that far. Waiting for the disk is most of what it takes to put a conflist back.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn make_names_durable(&self) -> Result<(), ReconcileError> {
        if !self.names_are_durable.load(Ordering::Relaxed) {
            if let Some(bin) = self.context().open_bin_dir()? {
                bin.sync()?;
            }
            self.set_names_durable(true);
        }
        Ok(())
    }

    /// Whether the state directory that is held is gone from its path, or keeps nobody out any more. Blocks.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub(super) fn is_lost(&self) -> Result<bool, ReconcileError> {
        let context = self.context();
        let state_dir = &context.settings.paths.state_dir;
        Ok(self.lock.is_void() || !self.store.is_at(&context.host, state_dir)?)
    }

    /// Writes down again what is ours, where a new state directory knows of nothing.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn restore_ledger(&self, ledger: &Ledger) -> Result<(), ReconcileError> {
        if self.store.load_ledger()? == Ledger::default() {
            self.store.save_ledger(ledger)?;
        }
        Ok(())
    }

    /// What is declared or in place: after an upgrade that failed, the set that is still there can be verified and
    /// healed as before.
    pub(super) fn needed_contents(&self, ledger: &Ledger) -> NeededContents {
        let artifacts = self.context().settings.artifacts.iter();
        let mut needed = NeededContents {
            pins: artifacts
                .filter_map(|artifact| Some(self.observer.pin_of(artifact)?.to_string()))
                .collect(),
            digests: HashSet::new(),
        };
        for wanted in self.observer.desired(ledger, None).plugins {
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

    /// Writes down what is known of the node, so that the next start needs no API server. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn save_node_facts(&self) -> Result<(), ReconcileError> {
        if self.context().needs_node_facts()
            && let Some(facts) = self.context().node.facts()
        {
            self.store.save_node(&facts)?;
        }
        Ok(())
    }

    /// Writes down the digests that were learned: of what is declared now, so that the next start needs to ask nobody,
    /// and of what is in place, so that going back from an upgrade that failed does not either. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn save_pins(&self) -> Result<(), ReconcileError> {
        let artifacts = self.context().settings.artifacts.iter();
        let declared: Vec<_> = artifacts.map(PinDeclaration::of).collect();
        let mut learned = self.observer.pins.all();
        let in_place = self.needed_contents(&self.store.load_ledger()?).pins;
        learned.retain(|answer| {
            declared.contains(&answer.declared) || in_place.contains(&answer.pin.to_string())
        });
        if !learned.is_empty() {
            self.store.save_pins(&learned)?;
        }
        Ok(())
    }

    /// Forgets a learned digest that no source has the bytes for: whoever gave it may have been mistaken and have fixed
    /// it since, and is asked again. A digest that was matched once stays. Blocks.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn forget_wrong_pin(
        &self,
        artifact: &Artifact<DeclaredPin>,
    ) -> Result<(), ReconcileError> {
        let is_configured = matches!(artifact.pin.source, DigestSource::Configuration(_));
        let pins = &self.observer.pins;
        let Some(pin) = pins.find(artifact).filter(|_| !is_configured) else {
            return Ok(());
        };
        if self.store.load_ledger()?.measured_members(&pin).is_some() {
            return Ok(());
        }
        pins.forget(artifact);
        match pins.all().is_empty() {
            true => Ok(self.store.forget_pins()?),
            false => self.save_pins(),
        }
    }
}

/// Removes the temps that a killed run left, in every directory that is ours to write to. To be called with the lock
/// held.
///
/// # Errors
/// When the state directory cannot be swept, or another directory cannot be opened.
pub(super) fn sweep_interrupted(context: &Context, store: &Store) -> Result<(), ReconcileError> {
    let mut swept = store.sweep_temps()?;
    let dirs = [context.open_bin_dir()?, context.open_conf_dir()?];
    for dir in dirs.into_iter().flatten() {
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
