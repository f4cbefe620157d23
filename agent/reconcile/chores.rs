//! What an agent does when nothing is wrong, one small thing at a time: read the plugins anew, keep the store full.

use std::collections::{HashSet, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use super::Context;
use super::caretaker::Reconciler;
use super::error::ReconcileError;
use super::session::StateLock;
use crate::host::Dir;
use crate::model::{FileName, FileState, Sha256};
use crate::plan::DesiredPlugin;
use crate::store::{SpareState, StoreError};

/// How long to wait for the times of a copy that was just made to settle, before it is read again.
const SETTLING: Duration = Duration::from_millis(5);

/// What is to be done when there is time for it.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// Plugins to be read whatever their times say: a disk can change what nobody wrote.
    unread: VecDeque<FileName>,
    /// Copies that could not be made; another try is for the next round.
    given_up: HashSet<Sha256>,
    /// Whether copies that nobody needs any more may be there.
    unswept: bool,
    /// Whether a download found no room, so that no copies are to be made.
    cramped: bool,
}

/// What became of one chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// There is none.
    Nothing,
    /// It is done; there may be more.
    One,
    /// The last plugin of a full reading was read.
    AllRead,
    /// A plugin is not what it was when it was last read.
    Drift,
}

/// How a plugin's copies in the store stand.
enum CopyProgress {
    /// There is nothing to do for them now.
    Both,
    /// One step was made.
    One,
    /// One is too young to be proven.
    Unsettled,
}

impl Maintenance {
    /// Has every declared plugin read again, and gives every copy another try.
    pub fn restart(&mut self, keeper: &Context) {
        let artifacts = &keeper.settings.artifacts;
        let plugins = artifacts.iter().flat_map(|artifact| &artifact.members);
        self.unread = plugins.map(|member| member.plugin.file().clone()).collect();
        self.given_up.clear();
        self.unswept = true;
    }

    /// Adds what was asked for while a chore was under way; `true` if anything was.
    pub fn merge_requests(&mut self, meanwhile: Self) -> bool {
        let more = meanwhile.unswept || !meanwhile.unread.is_empty();
        if more {
            self.request_sweep();
        }
        if !meanwhile.unread.is_empty() {
            self.unread = meanwhile.unread;
        }
        more
    }

    /// Says whether a download finds no room: then there are better uses for it than second copies.
    pub fn set_disk_full(&mut self, cramped: bool) {
        self.cramped = cramped;
    }

    /// Has the store looked through: something was placed, or something else is declared.
    pub fn request_sweep(&mut self) {
        self.given_up.clear();
        self.unswept = true;
    }
}

impl Reconciler {
    /// Does one chore on a thread that may block, beside whatever passes do meanwhile. What it takes are moments,
    /// unless the disk is slow.
    pub fn run_maintenance_step(
        &self,
        mut chores: Maintenance,
    ) -> tokio::task::JoinHandle<(Maintenance, MaintenanceOutcome)> {
        let (keeper, session) = (self.context().clone(), self.session());
        tokio::task::spawn_blocking(move || {
            let done = keeper.read_one(&mut chores).unwrap_or_else(|| {
                session.map_or(MaintenanceOutcome::Nothing, |session| {
                    session.tend(&mut chores)
                })
            });
            (chores, done)
        })
    }
}

impl Context {
    /// Reads one plugin, if one is left to read.
    fn read_one(&self, chores: &mut Maintenance) -> Option<MaintenanceOutcome> {
        let name = chores.unread.pop_front()?;
        let Ok(Some(bin)) = self.bin_dir() else {
            // Passes tell about that.
            return Some(MaintenanceOutcome::One);
        };
        let before = self.memory.observe(&bin, &name);
        let changed = self.memory.read(&bin, &name) != before;
        Some(match (changed, chores.unread.is_empty()) {
            (true, _) => MaintenanceOutcome::Drift,
            (false, true) => MaintenanceOutcome::AllRead,
            (false, false) => MaintenanceOutcome::One,
        })
    }
}

impl StateLock {
    /// Does one thing for the store.
    fn tend(&self, chores: &mut Maintenance) -> MaintenanceOutcome {
        match self.tend_or_fail(chores) {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!("the store cannot be looked after: {error}");
                MaintenanceOutcome::Nothing
            }
        }
    }

    fn tend_or_fail(&self, chores: &mut Maintenance) -> Result<MaintenanceOutcome, ReconcileError> {
        if chores.unswept {
            chores.unswept = false;
            self.store
                .prune_blobs(&self.keeper.needed(&self.store.load_ledger()?).digests)?;
            return Ok(MaintenanceOutcome::One);
        }
        if chores.cramped {
            return Ok(match self.store.drop_spares()? {
                true => MaintenanceOutcome::One,
                false => MaintenanceOutcome::Nothing,
            });
        }
        let Some(bin) = self.keeper.bin_dir()? else {
            return Ok(MaintenanceOutcome::Nothing);
        };
        let ledger = self.store.load_ledger()?;
        let mut unsettled = false;
        for plugin in self.keeper.desired(&ledger, None).plugins {
            let Some(digest) = plugin
                .sha256
                .filter(|digest| !chores.given_up.contains(digest))
            else {
                continue;
            };
            match self.copy(&bin, &plugin, digest) {
                Ok(CopyProgress::Both) => {}
                Ok(CopyProgress::One) => return Ok(MaintenanceOutcome::One),
                Ok(CopyProgress::Unsettled) => unsettled = true,
                // A full disk costs the copy, not the network.
                Err(error) => {
                    tracing::warn!("no copy of {}: {error}", plugin.plugin);
                    chores.given_up.insert(digest);
                }
            }
        }
        if unsettled {
            std::thread::sleep(SETTLING);
            return Ok(MaintenanceOutcome::One);
        }
        Ok(MaintenanceOutcome::Nothing)
    }

    /// Makes the copy of a plugin that is missing.
    fn copy(
        &self,
        bin: &Dir,
        plugin: &DesiredPlugin,
        digest: Sha256,
    ) -> Result<CopyProgress, ReconcileError> {
        let name = plugin.plugin.file();
        if !self.store.has_blob(&digest)? {
            let state = self.keeper.memory.observe(bin, name);
            if !matches!(state, FileState::Regular(file) if file.sha256 == digest) {
                return Ok(CopyProgress::Both);
            }
            self.store.refill_blob(&digest, bin, name)?;
            return Ok(CopyProgress::One);
        }
        if !self.store.can_rename_into(bin) {
            return Ok(CopyProgress::Both);
        }
        let proven = || self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let known = proven().get(&digest).copied();
        if let Some(print) = known
            && self.store.is_proven(&digest, &print)?
        {
            return Ok(CopyProgress::Both);
        }
        match self.store.advance_spare(&digest) {
            Ok(SpareState::Proven(print)) => drop(proven().insert(digest, print)),
            Ok(SpareState::Made) => {}
            Ok(SpareState::Unsettled) => return Ok(CopyProgress::Unsettled),
            // The blob is removed: the next chore makes it again of what is in place.
            Err(error @ StoreError::Corrupt { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
        Ok(CopyProgress::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_meanwhile_is_not_forgotten() {
        let mut chores = Maintenance::default();
        assert!(!chores.merge_requests(Maintenance::default()));
        let mut sweep = Maintenance::default();
        sweep.request_sweep();
        assert!(chores.merge_requests(sweep));
        assert!(chores.unswept);
        let reading = Maintenance {
            unread: ["bridge".parse().unwrap()].into(),
            ..Maintenance::default()
        };
        assert!(chores.merge_requests(reading));
        assert_eq!(chores.unread.len(), 1);
        assert!(!chores.merge_requests(Maintenance::default()));
        assert_eq!(chores.unread.len(), 1);
    }
}
