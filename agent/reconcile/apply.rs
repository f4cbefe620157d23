//! Steps onto the disk, as dumb as they can be: what to do and in which order was decided before.

use std::collections::BTreeSet;
use std::io::Write as _;

use super::error::ReconcileError;
use super::network::ASIDE;
use super::{Keeper, Rendered};
use crate::config::Network;
use crate::host::{Dir, HostError};
use crate::model::{FileMode, FileName, FileState, PluginName, Sha256};
use crate::plan::{Observed, Step};
use crate::store::{Ledger, Origin, Place, Store, StoreError, Trust};

/// The mode of a bin or configuration directory that does not exist yet.
const DIRECTORY_MODE: u32 = 0o755;

/// What the steps work on: the store with its lock held, the ledger, and what was seen.
pub(super) struct Bench<'a> {
    pub(super) keeper: &'a Keeper,
    pub(super) store: &'a Store,
    pub(super) ledger: &'a mut Ledger,
    pub(super) observed: &'a Observed,
    /// Blobs that this process wrote or verified itself.
    pub(super) proven: &'a BTreeSet<Sha256>,
}

impl Bench<'_> {
    /// Takes the steps that concern binaries: records the intent, places the whole set, makes it
    /// durable, settles. Returns the blobs that turned out to be unusable.
    ///
    /// # Errors
    /// When the disk refuses; every binary is then still the old one or already the new one.
    pub(super) fn binaries(&mut self, steps: &[Step]) -> Result<BTreeSet<Sha256>, ReconcileError> {
        let mut unusable = BTreeSet::new();
        let mut replaced = Vec::new();
        let places = steps.iter().filter_map(|step| match step {
            Step::Place { plugin, sha256, .. } => Some((plugin, *sha256)),
            _ => None,
        });
        for (plugin, sha256) in places.clone() {
            let on_disk = content(self.observed.plugins.get(plugin));
            let origin = self.origin(plugin);
            self.ledger
                .intend(Place::Bin, plugin.file(), sha256, on_disk, origin);
            if self
                .ledger
                .find(Place::Bin, plugin.file())
                .is_some_and(|file| file.previous.is_some())
            {
                replaced.push(plugin.file().clone());
            }
        }
        let fixes = steps
            .iter()
            .filter(|step| matches!(step, Step::FixPlugin { .. }));
        if places.clone().count() + fixes.clone().count() == 0 {
            return Ok(unusable);
        }
        self.store.save(self.ledger)?;
        let bin = self
            .keeper
            .host
            .ensure_dir(&self.keeper.settings.paths.bin_dir, DIRECTORY_MODE)?;
        for (plugin, sha256) in places {
            match self.place(&bin, plugin, sha256) {
                Ok(()) => {
                    tracing::debug!(plugin = plugin.as_str(), sha256 = sha256.short(), "placed");
                }
                // Corrupt or gone since it was seen: to be fetched again.
                Err(StoreError::Missing { .. } | StoreError::Corrupt { .. }) => {
                    tracing::warn!(
                        plugin = plugin.as_str(),
                        "the stored copy is damaged; fetching it again"
                    );
                    unusable.insert(sha256);
                }
                Err(error) => return Err(error.into()),
            }
        }
        for step in fixes {
            if let Step::FixPlugin { plugin, .. } = step {
                bin.set_mode_owner(plugin.file(), FileMode::PLUGIN, self.keeper.host.owner())?;
                tracing::debug!(plugin = plugin.as_str(), "mode and owner set");
            }
        }
        bin.sync()?;
        self.settle(Place::Bin, &replaced)?;
        Ok(unusable)
    }

    fn place(&self, bin: &Dir, plugin: &PluginName, sha256: Sha256) -> Result<(), StoreError> {
        let trust = match self.proven.contains(&sha256) {
            true => Trust::Proven,
            false => Trust::Unproven,
        };
        // Two plugins may be the same file under two names (Calico's are): the first takes the spare.
        if !self.store.has(&sha256)? {
            self.restage(bin, sha256)?;
        }
        self.store
            .place(&sha256, bin, plugin.file(), trust)
            .map(drop)
    }

    /// Puts a spare back from whichever declared plugin has that content.
    fn restage(&self, bin: &Dir, sha256: Sha256) -> Result<(), StoreError> {
        let holders = self
            .ledger
            .files()
            .iter()
            .filter(|file| file.place == Place::Bin && file.sha256 == sha256);
        for holder in holders {
            if self.store.restage(&sha256, bin, &holder.name).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes the steps that concern the configuration directory, the declared conflist first.
    ///
    /// # Errors
    /// When the disk refuses; the conflist is then still the old one or already the new one.
    pub(super) fn conflists(
        &mut self,
        steps: &[Step],
        declared: &Network,
        rendered: &Rendered,
    ) -> Result<(), ReconcileError> {
        for step in steps {
            match step {
                Step::WriteConflist { name, .. } => self.write(name, declared, rendered)?,
                Step::FixConflist { name, .. } => {
                    let conf = self.conf()?;
                    conf.set_mode_owner(name, declared.file_mode, self.keeper.host.owner())?;
                    tracing::debug!(file = name.as_str(), "mode and owner set");
                }
                Step::RetireConflist { name } => {
                    let conf = self.conf()?;
                    conf.remove(name)?;
                    conf.sync()?;
                    self.ledger.forget(Place::Conf, name);
                    self.store.save(self.ledger)?;
                    tracing::debug!(
                        file = name.as_str(),
                        "removed: the conflist has another name now"
                    );
                }
                Step::SetAside { name } => self.set_aside(name)?,
                Step::Fetch { .. } | Step::Place { .. } | Step::FixPlugin { .. } => {}
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        name: &FileName,
        declared: &Network,
        rendered: &Rendered,
    ) -> Result<(), ReconcileError> {
        let on_disk = content(self.observed.conflists.get(name));
        self.ledger
            .intend(Place::Conf, name, rendered.sha256, on_disk, None);
        self.store.save(self.ledger)?;
        let conf = self.conf()?;
        // The temp lies in the configuration directory itself, since containerd does not notice a
        // file that is renamed in from another one.
        let mut temp = conf.create_temp()?;
        let path = temp.path();
        temp.write_all(rendered.text.as_bytes())
            .map_err(|error| HostError::new("write", path, error))?;
        temp.publish(&conf, name, declared.file_mode, self.keeper.host.owner())?;
        conf.sync()?;
        tracing::debug!(
            file = name.as_str(),
            sha256 = rendered.sha256.short(),
            "conflist written"
        );
        self.settle(Place::Conf, std::slice::from_ref(name))
    }

    fn set_aside(&mut self, name: &FileName) -> Result<(), ReconcileError> {
        let conf = self.conf()?;
        let aside = free_name(&conf, name)?;
        self.ledger.record_aside(aside.clone(), name.clone());
        self.store.save(self.ledger)?;
        conf.rename_into(name, &conf, &aside)?;
        conf.sync()?;
        tracing::warn!(
            file = name.as_str(),
            now = aside.as_str(),
            "foreign configuration set aside"
        );
        Ok(())
    }

    fn conf(&self) -> Result<Dir, HostError> {
        self.keeper
            .host
            .ensure_dir(&self.keeper.settings.paths.conf_dir, DIRECTORY_MODE)
    }

    /// Strikes the replaced contents out of the ledger, now that the new ones are durable.
    fn settle(&mut self, place: Place, names: &[FileName]) -> Result<(), ReconcileError> {
        let mut changed = false;
        for name in names {
            changed |= self
                .ledger
                .find(place, name)
                .is_some_and(|file| file.previous.is_some());
            self.ledger.settle(place, name);
        }
        if changed {
            self.store.save(self.ledger)?;
        }
        Ok(())
    }

    fn origin(&self, plugin: &PluginName) -> Option<Origin> {
        let artifacts = &self.keeper.settings.artifacts;
        artifacts
            .iter()
            .find(|artifact| {
                artifact
                    .members
                    .iter()
                    .any(|member| member.plugin == *plugin)
            })
            .map(Origin::of)
    }
}

/// A name for a rival that no runtime reads and that nothing has yet.
fn free_name(conf: &Dir, name: &FileName) -> Result<FileName, ReconcileError> {
    let mut number = 1;
    loop {
        let suffix = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let candidate = format!("{name}{ASIDE}{suffix}");
        let candidate: FileName = candidate.parse().map_err(|_| {
            HostError::new(
                "set aside",
                conf.file(name),
                nix::errno::Errno::ENAMETOOLONG,
            )
        })?;
        if conf.metadata(&candidate)?.is_none() {
            return Ok(candidate);
        }
        number += 1;
    }
}

fn content(state: Option<&FileState>) -> Option<Sha256> {
    match state {
        Some(FileState::Regular(file)) => Some(file.sha256),
        _ => None,
    }
}
