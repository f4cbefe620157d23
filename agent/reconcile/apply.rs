//! Applies the steps of a plan to the disk. The plan has already decided what to do and in which order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write as _;
use std::sync::Arc;

use super::aside::{choose_aside_name, forget_lost_files};
use super::context::Context;
use super::error::ReconcileError;
use super::observed_network::RenderedConflist;
use super::observer::ObservedState;
use super::report::{FailedStep, FilesInBackoff, RepairPause};
use super::state_lock::StateLock;
use crate::config::NetworkSettings;
use crate::host::{Dir, HostError, Sealed};
use crate::model::{
    FileAttributes, FileMode, FileName, FileState, ManagedDir, PluginName, Regular, Sha256,
};
use crate::plan::Step;
use crate::store::{BlobProof, StoreError};

/// The mode of a bin or configuration directory that does not exist yet.
const DIRECTORY_MODE: u32 = 0o755;

/// Applies the steps of a plan. It works on the locked store and on what was observed.
pub(super) struct StepApplier {
    pub(super) state: Arc<StateLock>,
    pub(super) observed: ObservedState,
    /// Blobs that this process wrote itself.
    pub(super) proven: BTreeSet<Sha256>,
    /// The steps that were applied.
    pub(super) applied: Vec<Step>,
    /// The steps that failed.
    pub(super) failed: Vec<FailedStep>,
    /// Files that are not repaired now.
    pub(super) in_backoff: FilesInBackoff,
}

impl StepApplier {
    fn context(&self) -> &Context {
        self.state.context()
    }

    /// Applies the steps for binaries: records the intents, places the whole set, makes it durable and settles the
    /// intents. A plugin that cannot be placed keeps no other one from it: its step is added to the failed ones.
    /// Afterwards the plan has only the steps that are left. Returns `false` if a stored copy is damaged, so that its
    /// artifact has to be fetched again.
    ///
    /// # Errors
    /// When what all steps need fails. Every binary is then still the old one or already the new one.
    pub(super) fn apply_plugin_steps(&mut self) -> Result<bool, ReconcileError> {
        let steps = self.feasible_plugin_steps();
        if steps.is_empty() && self.proven.is_empty() {
            return Ok(true);
        }
        let bin = match steps.is_empty() {
            true => None,
            false => self.ensure_bin_dir()?,
        };
        let Some(bin) = bin else {
            self.record_intents(&[])?;
            return Ok(true);
        };
        self.record_intents(&steps)?;
        let mut staged = self.stage_set(&bin, &steps)?;
        let mut sound = true;
        self.state.set_names_durable(false);
        let mut placed = Vec::new();
        let mut steps: VecDeque<Step> = steps.into();
        while let Some(step) = steps.pop_front() {
            let (plugin, applied) = match &step {
                Step::Place { plugin, sha256, .. } => {
                    let keep_blob = steps.iter().any(|later| later.places_content(sha256));
                    let staged = staged.remove(plugin);
                    let placed = self.place_plugin(&bin, plugin, *sha256, staged, keep_blob);
                    (plugin, placed)
                }
                Step::FixPlugin { plugin, .. } => {
                    let owner = self.context().host.owner();
                    let fixed = bin.set_mode_owner(plugin.file(), FileMode::PLUGIN, owner);
                    (plugin, fixed.map_err(StoreError::from))
                }
                _ => continue,
            };
            match applied {
                Ok(()) => {
                    self.note_plugin_step(&step);
                    placed.push(plugin.file().clone());
                    self.applied.push(step);
                }
                // The blob has become corrupt or disappeared since it was observed.
                Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {
                    tracing::warn!("a stored copy is damaged; its artifact is fetched again");
                    sound = false;
                }
                Err(error) => {
                    let name = plugin.file().clone();
                    self.add_failed_step(ManagedDir::Bin, name, error.into());
                }
            }
        }
        bin.sync()?;
        self.state.set_names_durable(true);
        self.settle_intents(ManagedDir::Bin, &placed)?;
        self.observed.compare_again();
        Ok(sound)
    }

    /// The steps for plugins that can be applied now. A plugin that could not be fetched is not replaced.
    fn feasible_plugin_steps(&self) -> Vec<Step> {
        let blobs = &self.observed.disk.blobs;
        let steps = self.observed.plan.steps.iter().filter(|step| match step {
            Step::Place { plugin, sha256, .. } => {
                blobs.contains(sha256) && !self.is_in_backoff(ManagedDir::Bin, plugin.file())
            }
            Step::FixPlugin { plugin, .. } => !self.is_in_backoff(ManagedDir::Bin, plugin.file()),
            _ => false,
        });
        steps.cloned().collect()
    }

    fn is_in_backoff(&self, dir: ManagedDir, name: &FileName) -> bool {
        // Usually no file is in back-off. The name is then not cloned.
        if self.in_backoff.is_empty() {
            return false;
        }
        match self.in_backoff.get(&(dir, name.clone())) {
            Some(RepairPause::Always) => true,
            Some(RepairPause::WhileNetworkWorks) => !self.observed.is_urgent(dir, name),
            None => false,
        }
    }

    fn add_failed_step(&mut self, dir: ManagedDir, name: FileName, error: ReconcileError) {
        tracing::warn!(file = name.as_str(), "cannot be repaired: {error}");
        self.failed.push(FailedStep { dir, name, error });
    }

    /// Records what is going to be placed, before the first file is placed. The same save
    /// makes durable which plugins the downloads were found to hold.
    fn record_intents(&mut self, steps: &[Step]) -> Result<(), ReconcileError> {
        self.observed
            .ledger
            .record_dirs(self.context().managed_dirs());
        for step in steps {
            if let Step::Place { plugin, sha256, .. } = step {
                let on_disk = digest_of(self.observed.disk.plugins.get(plugin));
                let origin = self.state.observer.find_origin(plugin.file());
                self.observed.ledger.record_intent(
                    ManagedDir::Bin,
                    plugin.file(),
                    *sha256,
                    on_disk,
                    origin,
                );
            }
        }
        self.state.store.save_ledger(&self.observed.ledger)?;
        Ok(())
    }

    /// If the bin directory is on another mount, copies the whole set to it before the first file becomes visible. A
    /// blob that is missing or corrupt is skipped here; [`Self::place_plugin`] then reports it.
    fn stage_set(
        &self,
        bin: &Dir,
        steps: &[Step],
    ) -> Result<BTreeMap<PluginName, Sealed>, ReconcileError> {
        let mut staged = BTreeMap::new();
        let store = &self.state.store;
        if store.can_rename_into(bin) {
            return Ok(staged);
        }
        for step in steps {
            if let Step::Place { plugin, sha256, .. } = step {
                match store.stage_blob(sha256, bin) {
                    Ok(sealed) => drop(staged.insert(plugin.clone(), sealed)),
                    Err(StoreError::Corrupt { .. } | StoreError::Missing { .. }) => {}
                    Err(StoreError::Host(error)) if error.is_absent() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(staged)
    }

    /// Renames the best copy of a plugin into place: the staged one, a proven spare, a copy of the blob, or the blob
    /// itself. Two plugins may be one file under two names, as in Calico: `keep_blob` says that the blob is needed again,
    /// so that it is copied, and the last name takes it.
    fn place_plugin(
        &self,
        bin: &Dir,
        plugin: &PluginName,
        sha256: Sha256,
        staged: Option<Sealed>,
        keep_blob: bool,
    ) -> Result<(), StoreError> {
        let store = &self.state.store;
        if let Some(staged) = staged {
            return Ok(staged.publish(bin, plugin.file())?);
        }
        if let Some(proven) = self.state.proven_spares().remove(&sha256)
            && store.place_spare(&sha256, &proven, bin, plugin.file())?
        {
            return Ok(());
        }
        let is_there = store.has_blob(&sha256)?;
        if !is_there && !store.restore_blob_from_spare(&sha256)? {
            self.refill_from_placed(bin, sha256);
        }
        if keep_blob || !self.proven.contains(&sha256) {
            let near = match store.can_rename_into(bin) {
                true => store.temp_dir(),
                false => bin,
            };
            match store.stage_blob(&sha256, near) {
                // No space for a copy: the blob itself is placed below. No blob: it is reported as missing below.
                Err(StoreError::Host(error)) if error.is_full() || error.is_absent() => {}
                staged => return Ok(staged?.publish(bin, plugin.file())?),
            }
        }
        // A blob that was restored just now, from a spare or a copy, was not hashed yet, whatever was proven before.
        let proof = match self.proven.contains(&sha256) && is_there {
            true => BlobProof::Proven,
            false => BlobProof::Unproven,
        };
        store.place_blob(&sha256, bin, plugin.file(), proof)
    }

    /// Notes what a step made of a plugin. The rest of this pass uses this only to decide whether the conflist may be
    /// written. The report is made from a new observation.
    fn note_plugin_step(&mut self, step: &Step) {
        let (plugin, sha256, size) = match step {
            Step::Place { plugin, sha256, .. } => {
                tracing::debug!(plugin = plugin.as_str(), sha256 = sha256.short(), "placed");
                (plugin, *sha256, 0)
            }
            Step::FixPlugin { plugin, .. } => {
                tracing::debug!(plugin = plugin.as_str(), "mode and owner set");
                let Some(FileState::Regular(file)) = self.observed.disk.plugins.get(plugin) else {
                    return;
                };
                (plugin, file.sha256, file.size)
            }
            _ => return,
        };
        let state = FileState::Regular(Regular {
            sha256,
            size,
            mode: FileMode::PLUGIN.bits(),
            owner: self.context().host.owner(),
            attributes: FileAttributes::default(),
        });
        self.observed.disk.plugins.insert(plugin.clone(), state);
    }

    /// Makes a blob again from one of our plugins that has that content. The ledger says what each plugin should be.
    /// The copy is verified, because a plugin may not be placed yet or may have changed since.
    fn refill_from_placed(&self, bin: &Dir, sha256: Sha256) {
        let store = &self.state.store;
        let mut files = self.observed.ledger.files().iter();
        files.any(|file| {
            file.dir == ManagedDir::Bin
                && file.sha256 == sha256
                && store.refill_blob(&sha256, bin, &file.name).is_ok()
                && store.verify_blob(&sha256).unwrap_or(false)
        });
    }

    /// Applies the steps for the configuration directory, the declared conflist first. A file that cannot be changed
    /// keeps no other one from it: its step is added to the failed ones.
    pub(super) fn apply_conflist_steps(&mut self) {
        let state = Arc::clone(&self.state);
        let rendered = self
            .observed
            .network
            .as_ref()
            .and_then(|network| network.rendered.as_ref().ok().cloned());
        let Some((declared, rendered)) = state.context().settings.network.as_ref().zip(rendered)
        else {
            return;
        };
        let steps: Vec<Step> = self
            .observed
            .plan
            .steps
            .iter()
            .filter(|step| {
                step.changed_conflist()
                    .is_some_and(|name| !self.is_in_backoff(ManagedDir::Conf, name))
            })
            .cloned()
            .collect();
        let (asides, steps): (Vec<Step>, Vec<Step>) = steps
            .into_iter()
            .partition(|step| matches!(step, Step::SetAside { .. }));
        for step in steps {
            match self.apply_conflist_step(&step, declared, &rendered) {
                Ok(()) => self.applied.push(step),
                // It is written once the link is back.
                Err(error) if error.missing_link().is_some() => {}
                Err(error) => {
                    if let Some(name) = step.changed_conflist() {
                        self.add_failed_step(ManagedDir::Conf, name.clone(), error);
                    }
                }
            }
        }
        let first = asides.first().and_then(Step::changed_conflist).cloned();
        if let Some(first) = first
            && let Err(error) = self.set_conflists_aside(asides)
        {
            self.add_failed_step(ManagedDir::Conf, first, error);
        }
    }

    fn apply_conflist_step(
        &mut self,
        step: &Step,
        declared: &NetworkSettings,
        rendered: &RenderedConflist,
    ) -> Result<(), ReconcileError> {
        match step {
            Step::WriteConflist { name, .. } => self.write_conflist(name, declared, rendered)?,
            Step::FixConflist { name, .. } => {
                let conf = self.ensure_conf_dir()?;
                conf.set_mode_owner(name, declared.file_mode, self.context().host.owner())?;
                tracing::debug!(file = name.as_str(), "mode and owner set");
            }
            Step::RetireConflist { name } => {
                let conf = self.ensure_conf_dir()?;
                conf.remove_file(name)?;
                conf.sync()?;
                self.observed.ledger.forget_file(ManagedDir::Conf, name);
                self.state.store.save_ledger(&self.observed.ledger)?;
                tracing::debug!(
                    file = name.as_str(),
                    "removed: the conflist has another name now"
                );
            }
            // Foreign conflists are set aside together.
            Step::SetAside { .. }
            | Step::Fetch { .. }
            | Step::Place { .. }
            | Step::FixPlugin { .. } => {}
        }
        Ok(())
    }

    fn write_conflist(
        &mut self,
        name: &FileName,
        declared: &NetworkSettings,
        rendered: &RenderedConflist,
    ) -> Result<(), ReconcileError> {
        self.observed
            .ledger
            .record_dirs(self.context().managed_dirs());
        let on_disk = digest_of(self.observed.disk.conflists.get(name));
        self.observed
            .ledger
            .record_intent(ManagedDir::Conf, name, rendered.sha256, on_disk, None);
        self.state.store.save_ledger(&self.observed.ledger)?;
        self.state.make_names_durable()?;
        let conf = self.ensure_conf_dir()?;
        // The temp is created in the configuration directory itself, because containerd does not notice a file that is
        // renamed into it from another directory.
        let mut temp = conf.create_temp()?;
        let path = temp.path();
        temp.write_all(rendered.text.as_bytes())
            .map_err(|error| HostError::new("write", path, error))?;
        temp.publish(&conf, name, declared.file_mode, self.context().host.owner())?;
        conf.sync()?;
        tracing::debug!(
            file = name.as_str(),
            sha256 = rendered.sha256.short(),
            "conflist written"
        );
        self.settle_intents(ManagedDir::Conf, std::slice::from_ref(name))
    }

    /// Renames foreign conflists to names that no runtime reads. The ledger is saved once, before the first rename. One that
    /// cannot be renamed does not keep the others.
    fn set_conflists_aside(&mut self, steps: Vec<Step>) -> Result<(), ReconcileError> {
        let conf = self.ensure_conf_dir()?;
        let mut renames = Vec::new();
        let mut refused = Vec::new();
        let ledger = &mut self.observed.ledger;
        forget_lost_files(ledger, &conf)?;
        for step in steps {
            let Step::SetAside { name } = &step else {
                continue;
            };
            match choose_aside_name(ledger, &conf, name) {
                Ok(aside) => {
                    ledger.record_set_aside(aside.clone(), name.clone());
                    renames.push((aside, step));
                }
                Err(error) => refused.push((name.clone(), error)),
            }
        }
        self.state.store.save_ledger(ledger)?;
        for (aside, step) in renames {
            let Step::SetAside { name } = &step else {
                continue;
            };
            match conf.rename_into(name, &conf, &aside) {
                Ok(()) => {
                    let (file, now) = (name.as_str(), aside.as_str());
                    tracing::warn!(file, now, "foreign configuration set aside");
                    self.applied.push(step);
                }
                // Its owner has removed it since.
                Err(error) if error.is_absent() => {}
                Err(error) => refused.push((name.clone(), error)),
            }
        }
        for (name, error) in refused {
            self.add_failed_step(ManagedDir::Conf, name, error.into());
        }
        Ok(conf.sync()?)
    }

    /// The bin directory, which is made if it is missing. `None` while a link on the way is missing.
    fn ensure_bin_dir(&self) -> Result<Option<Dir>, HostError> {
        let bin_dir = &self.context().settings.paths.bin_dir;
        match self.context().host.ensure_dir(bin_dir, DIRECTORY_MODE) {
            Err(error) if error.missing_link().is_some() => Ok(None),
            bin => bin.map(Some),
        }
    }

    fn ensure_conf_dir(&self) -> Result<Dir, HostError> {
        self.context()
            .host
            .ensure_dir(&self.context().settings.paths.conf_dir, DIRECTORY_MODE)
    }

    /// Removes the replaced contents from the ledger, because the new ones are durable now.
    fn settle_intents(
        &mut self,
        dir: ManagedDir,
        names: &[FileName],
    ) -> Result<(), ReconcileError> {
        let mut changed = false;
        for name in names {
            changed |= self
                .observed
                .ledger
                .find_file(dir, name)
                .is_some_and(|file| file.previous.is_some());
            self.observed.ledger.settle_intent(dir, name);
        }
        if changed {
            self.state.store.save_ledger(&self.observed.ledger)?;
        }
        Ok(())
    }
}

fn digest_of(state: Option<&FileState>) -> Option<Sha256> {
    match state {
        Some(FileState::Regular(file)) => Some(file.sha256),
        _ => None,
    }
}
