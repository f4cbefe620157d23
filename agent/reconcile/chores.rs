//! What an agent does when nothing is wrong, one small thing at a time: read the plugins anew, keep the store full.

use std::collections::{HashSet, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use super::Keeper;
use super::caretaker::Caretaker;
use super::error::ReconcileError;
use super::session::Session;
use crate::host::Dir;
use crate::model::{FileName, FileState, Sha256};
use crate::plan::DesiredPlugin;
use crate::store::{Spare, StoreError};

/// How long to wait for the times of a copy that was just made to settle, before it is read again.
const SETTLING: Duration = Duration::from_millis(5);

/// What is to be done when there is time for it.
#[derive(Debug, Default)]
pub struct Chores {
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
pub enum Done {
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
enum Copied {
    /// There is nothing to do for them now.
    Both,
    /// One step was made.
    One,
    /// One is too young to be proven.
    Unsettled,
}

impl Chores {
    /// Has every declared plugin read again, and gives every copy another try.
    pub fn start_over(&mut self, keeper: &Keeper) {
        let artifacts = &keeper.settings.artifacts;
        let plugins = artifacts.iter().flat_map(|artifact| &artifact.members);
        self.unread = plugins.map(|member| member.plugin.file().clone()).collect();
        self.given_up.clear();
        self.unswept = true;
    }

    /// Adds what was asked for while a chore was under way; `true` if anything was.
    pub fn add(&mut self, meanwhile: Self) -> bool {
        let more = meanwhile.unswept || !meanwhile.unread.is_empty();
        if more {
            self.sweep();
        }
        if !meanwhile.unread.is_empty() {
            self.unread = meanwhile.unread;
        }
        more
    }

    /// Says whether a download finds no room: then there are better uses for it than second copies.
    pub fn cramped(&mut self, cramped: bool) {
        self.cramped = cramped;
    }

    /// Has the store looked through: something was placed, or something else is declared.
    pub fn sweep(&mut self) {
        self.given_up.clear();
        self.unswept = true;
    }
}

impl Caretaker {
    /// Does one chore on a thread that may block, beside whatever passes do meanwhile. What it takes are moments,
    /// unless the disk is slow.
    pub fn chore(&self, mut chores: Chores) -> tokio::task::JoinHandle<(Chores, Done)> {
        let (keeper, session) = (self.keeper().clone(), self.session());
        tokio::task::spawn_blocking(move || {
            let done = keeper.read_one(&mut chores).unwrap_or_else(|| {
                session.map_or(Done::Nothing, |session| session.tend(&mut chores))
            });
            (chores, done)
        })
    }
}

impl Keeper {
    /// Reads one plugin, if one is left to read.
    fn read_one(&self, chores: &mut Chores) -> Option<Done> {
        let name = chores.unread.pop_front()?;
        let Ok(Some(bin)) = self.bin_dir() else {
            // Passes tell about that.
            return Some(Done::One);
        };
        let before = self.memory.observe(&bin, &name);
        let changed = self.memory.read(&bin, &name) != before;
        Some(match (changed, chores.unread.is_empty()) {
            (true, _) => Done::Drift,
            (false, true) => Done::AllRead,
            (false, false) => Done::One,
        })
    }
}

impl Session {
    /// Does one thing for the store.
    fn tend(&self, chores: &mut Chores) -> Done {
        match self.tend_or_fail(chores) {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!("the store cannot be looked after: {error}");
                Done::Nothing
            }
        }
    }

    fn tend_or_fail(&self, chores: &mut Chores) -> Result<Done, ReconcileError> {
        if chores.unswept {
            chores.unswept = false;
            self.store
                .prune(&self.keeper.needed(&self.store.ledger()?).digests)?;
            return Ok(Done::One);
        }
        if chores.cramped {
            return Ok(match self.store.drop_spares()? {
                true => Done::One,
                false => Done::Nothing,
            });
        }
        let Some(bin) = self.keeper.bin_dir()? else {
            return Ok(Done::Nothing);
        };
        let ledger = self.store.ledger()?;
        let mut unsettled = false;
        for plugin in self.keeper.desired(&ledger, None).plugins {
            let Some(digest) = plugin
                .sha256
                .filter(|digest| !chores.given_up.contains(digest))
            else {
                continue;
            };
            match self.copy(&bin, &plugin, digest) {
                Ok(Copied::Both) => {}
                Ok(Copied::One) => return Ok(Done::One),
                Ok(Copied::Unsettled) => unsettled = true,
                // A full disk costs the copy, not the network.
                Err(error) => {
                    tracing::warn!("no copy of {}: {error}", plugin.plugin);
                    chores.given_up.insert(digest);
                }
            }
        }
        if unsettled {
            std::thread::sleep(SETTLING);
            return Ok(Done::One);
        }
        Ok(Done::Nothing)
    }

    /// Makes the copy of a plugin that is missing.
    fn copy(
        &self,
        bin: &Dir,
        plugin: &DesiredPlugin,
        digest: Sha256,
    ) -> Result<Copied, ReconcileError> {
        let name = plugin.plugin.file();
        if !self.store.has(&digest)? {
            let state = self.keeper.memory.observe(bin, name);
            if !matches!(state, FileState::Regular(file) if file.sha256 == digest) {
                return Ok(Copied::Both);
            }
            self.store.refill(&digest, bin, name)?;
            return Ok(Copied::One);
        }
        if !self.store.reaches(bin) {
            return Ok(Copied::Both);
        }
        let proven = || self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let known = proven().get(&digest).copied();
        if let Some(print) = known
            && self.store.is_proven(&digest, &print)?
        {
            return Ok(Copied::Both);
        }
        match self.store.spare(&digest) {
            Ok(Spare::Proven(print)) => drop(proven().insert(digest, print)),
            Ok(Spare::Made) => {}
            Ok(Spare::Unsettled) => return Ok(Copied::Unsettled),
            // The blob is removed: the next chore makes it again of what is in place.
            Err(error @ StoreError::Corrupt { .. }) => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
        Ok(Copied::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_meanwhile_is_not_forgotten() {
        let mut chores = Chores::default();
        assert!(!chores.add(Chores::default()));
        let mut sweep = Chores::default();
        sweep.sweep();
        assert!(chores.add(sweep));
        assert!(chores.unswept);
        let reading = Chores {
            unread: ["bridge".parse().unwrap()].into(),
            ..Chores::default()
        };
        assert!(chores.add(reading));
        assert_eq!(chores.unread.len(), 1);
        assert!(!chores.add(Chores::default()));
        assert_eq!(chores.unread.len(), 1);
    }
}
