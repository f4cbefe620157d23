//! The locked state directory. Only one agent can hold it; whoever takes it removes what a killed agent left.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::error::ReconcileError;
use super::foreign_files::LARGEST_CONFLIST;
use super::observer::Observer;
use crate::host::{FileFingerprint, Lock};
use crate::model::{Artifact, LARGEST_PLUGIN, ManagedDir, Sha256};
use crate::store::{Ledger, Store};
use crate::trust::{DeclaredPin, DigestSource, PinDeclaration};

/// The locked state directory. Blocking work shares it, so that the lock is held until that work ends.
#[derive(Debug)]
pub(super) struct StateLock {
    pub(super) observer: Observer,
    pub(super) store: Store,
    /// The spares that were verified, each with its fingerprint. A spare with the same fingerprint is still the same
    /// file.
    proven_spares: Mutex<HashMap<Sha256, FileFingerprint>>,
    /// Whether the names of the plugins in the bin directory are durable, so that a conflist may name them.
    names_are_durable: AtomicBool,
    lock: Lock,
}

/// What the store and the ledger must keep.
pub(super) struct NeededContents {
    /// The pins of artifacts, as text.
    pub(super) pins: BTreeSet<String>,
    /// The digests of plugins.
    pub(super) digests: HashSet<Sha256>,
}

impl StateLock {
    /// Takes the lock, removes what a killed run left behind and recovers damaged records. `known` is what the agent
    /// remembers of the ledger. Blocks.
    ///
    /// # Errors
    /// When another agent is running ([`ReconcileError::is_held`]), or a file operation fails.
    pub(super) fn acquire(
        observer: &Observer,
        known: &Ledger,
    ) -> Result<Arc<Self>, ReconcileError> {
        let context = &observer.context;
        let store = Store::open(&context.host, &context.settings.paths.state_dir)?;
        let lock = store.lock()?;
        observer
            .recovered
            .tell(store.list_recovered().iter().cloned());
        observer.recovered.tell(store.recover_records(known)?);
        sweep_interrupted(context, &store)?;
        observer.restore_saved_pins()?;
        let state = Self {
            observer: observer.clone(),
            store,
            proven_spares: Mutex::default(),
            names_are_durable: AtomicBool::new(false),
            lock,
        };
        // Only the next start needs both, so an error is a warning.
        if let Err(error) = state.save_node_facts().and_then(|()| state.save_pins()) {
            tracing::warn!("{error}");
        }
        // Until then, the copies of replaced plugins stay in the store.
        if let Err(error) = state.settle_finished_intents() {
            tracing::warn!("{error}");
        }
        Ok(Arc::new(state))
    }

    /// Settles the intents of a run that was killed after it had placed the files: no later pass places them, because
    /// they are right.
    fn settle_finished_intents(&self) -> Result<(), ReconcileError> {
        let mut ledger = self.store.load_ledger()?;
        let before = ledger.clone();
        let dirs = [
            (ManagedDir::Bin, self.context().open_bin_dir()),
            (ManagedDir::Conf, self.context().open_conf_dir()),
        ];
        // Passes report a directory that cannot be opened.
        for (managed, dir) in dirs.map(|(managed, dir)| (managed, dir.ok().flatten())) {
            let intents = before.files().iter().filter(|file| file.dir == managed);
            let mut intents = intents.filter(|file| file.previous.is_some()).peekable();
            let Some(dir) = dir.filter(|_| intents.peek().is_some()) else {
                continue;
            };
            dir.sync()?;
            for file in intents {
                let found = match managed {
                    ManagedDir::Bin => {
                        self.observer
                            .files
                            .observe(&dir, &file.name, LARGEST_PLUGIN)
                    }
                    ManagedDir::Conf => dir.observe_file(&file.name, LARGEST_CONFLIST),
                };
                if found.digest() == Some(file.sha256) {
                    ledger.settle_intent(managed, &file.name);
                }
            }
        }
        if ledger != before {
            self.store.save_ledger(&ledger)?;
        }
        Ok(())
    }

    /// Prepares a running agent for its first repair. Blocks.
    ///
    /// # Errors
    /// When the ledger cannot be read or written.
    pub(super) fn prepare_for_repairs(&self) -> Result<(), ReconcileError> {
        let mut ledger = self.store.load_ledger()?;
        ledger.retain_members(&self.needed_contents(&ledger).pins);
        self.store.save_ledger(&ledger)?;
        if let Err(error) = self.make_names_durable() {
            // It is tried again before a conflist is written.
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

    /// Makes the names of the plugins durable, unless they are: a run that was killed may have placed them without a
    /// sync. It is done early, because a sync is most of the time that the repair of a conflist takes.
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

    /// Whether the locked state directory is no longer at its path, or its lock no longer keeps other agents out.
    /// Blocks.
    ///
    /// # Errors
    /// When a file operation fails.
    pub(super) fn is_lost(&self) -> Result<bool, ReconcileError> {
        let context = self.context();
        let state_dir = &context.settings.paths.state_dir;
        Ok(self.lock.is_void() || !self.store.is_at(&context.host, state_dir)?)
    }

    /// Recovers the records of the state directory, as [`Store::recover_records`] does. A failure is told too. Blocks.
    pub(super) fn recover_records(&self, known: &Ledger) {
        let told = self.store.recover_records(known);
        let told = told.unwrap_or_else(|error| vec![error.to_string()]);
        self.observer.recovered.tell(told);
    }

    /// What is declared or in place. If an upgrade failed, the old set that is still in place can then be verified and
    /// repaired as before.
    pub(super) fn needed_contents(&self, ledger: &Ledger) -> NeededContents {
        let artifacts = self.context().settings.artifacts.iter();
        let mut needed = NeededContents {
            pins: artifacts
                .filter_map(|artifact| Some(self.observer.known_pin(artifact)?.to_string()))
                .collect(),
            digests: HashSet::new(),
        };
        for wanted in self.observer.build_desired(ledger, None).plugins {
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

    /// Saves the facts of the node, so that the next start needs no API server. Blocks.
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

    /// Saves the learned digests of these artifacts. Blocks.
    /// - The declared artifacts: the next start then needs no source of digests.
    /// - The artifacts whose plugins are in place: an operator who goes back from a failed upgrade then needs none
    ///   either.
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

    /// Forgets a learned digest if no source has the bytes with that digest. The list or checksum file may have been
    /// wrong and corrected since, so it is asked again. A digest that was matched once stays. Blocks.
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

/// Removes the temps that a killed run left in the store, the bin and the configuration directory. The caller must hold
/// the lock.
///
/// # Errors
/// When the temps of the state directory cannot be removed.
pub(super) fn sweep_interrupted(context: &Context, store: &Store) -> Result<(), ReconcileError> {
    let mut swept = store.sweep_temps()?;
    for dir in [context.open_bin_dir(), context.open_conf_dir()] {
        let removed =
            dir.and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.remove_stale_temps()));
        match removed {
            Ok(names) => swept.extend(names),
            // A read-only node can still be as declared, and a directory that cannot be opened is no reason to leave
            // the other one as it is. So this is only a warning.
            Err(error) => tracing::warn!("{error}"),
        }
    }
    if !swept.is_empty() {
        tracing::info!(files = swept.len(), "removed what an interrupted run left");
    }
    Ok(())
}
