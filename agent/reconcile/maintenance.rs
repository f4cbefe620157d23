//! The work of the running agent while nothing is wrong, in small steps: it reads every plugin again, and keeps copies
//! of the plugins in the store. Each plugin has a blob there. If a rename reaches the bin directory, it has a proven
//! spare as well.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::context::Context;
use super::error::ReconcileError;
use super::observer::Observer;
use super::state_lock::StateLock;
use crate::host::Dir;
use crate::model::{FileName, FileState, LARGEST_PLUGIN, ManagedDir, PluginName, Sha256};
use crate::plan::DesiredPlugin;
use crate::store::{SpareState, StoreError};

/// How long to wait after a copy was made, before it is read again. A file whose times are too young cannot be told
/// from one that changed meanwhile.
const SETTLING: Duration = Duration::from_millis(5);

/// The maintenance work that is left to do.
#[derive(Debug, Default)]
pub struct Maintenance {
    /// Plugins that are read even if their metadata has not changed: a failing disk can change a file that nobody
    /// wrote.
    unread: VecDeque<FileName>,
    /// Copies that could not be made. They are tried again after [`Self::restart`].
    given_up: HashSet<Sha256>,
    /// Whether the store may hold copies that are no longer needed.
    unswept: bool,
    /// Whether a download failed because the disk is full, so that no copies are made.
    disk_is_full: bool,
}

/// The result of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaintenanceOutcome {
    /// There is nothing to do.
    Nothing,
    /// One step was done. There may be more.
    One,
    /// The last plugin was read, so that every plugin was read once.
    AllRead,
    /// A plugin has changed since it was last read.
    Drift,
}

/// How far the copies of a plugin in the store are.
enum CopyProgress {
    /// Nothing is left to do now.
    Both,
    /// One step was done.
    One,
    /// A copy is too young to be proven.
    Unsettled,
}

impl Maintenance {
    /// Requests that every declared plugin is read again, and that every copy is tried again.
    pub fn restart(&mut self, context: &Context) {
        let plugins = context
            .settings()
            .artifacts
            .iter()
            .flat_map(|artifact| &artifact.members);
        self.unread = plugins.map(|member| member.plugin.file().clone()).collect();
        self.given_up.clear();
        self.unswept = true;
    }

    /// Adds what was requested while a step was running. Returns `true` if anything was.
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

    /// Records whether the disk is full. If it is, downloads need the space more than second copies do.
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.disk_is_full = is_full;
    }

    /// Requests that unneeded copies are removed from the store, because a file was placed or the declaration has
    /// changed.
    pub fn request_sweep(&mut self) {
        self.given_up.clear();
        self.unswept = true;
    }
}

/// Does one step of maintenance: reads one plugin if one is left to read, otherwise maintains the store. It is short,
/// unless the disk is slow. Blocks.
pub(super) fn run_maintenance_step(
    observer: &Observer,
    state: Option<Arc<StateLock>>,
    maintenance: &mut Maintenance,
) -> MaintenanceOutcome {
    if let Some(outcome) = read_next_plugin(observer, maintenance) {
        return outcome;
    }
    let Some(state) = state else {
        return MaintenanceOutcome::Nothing;
    };
    maintain_store(&state, maintenance).unwrap_or_else(|error| {
        if !error.is_told_elsewhere() {
            tracing::warn!("the store cannot be maintained: {error}");
        }
        MaintenanceOutcome::Nothing
    })
}

/// Reads one plugin, if one is left to read.
fn read_next_plugin(
    observer: &Observer,
    maintenance: &mut Maintenance,
) -> Option<MaintenanceOutcome> {
    let name = maintenance.unread.pop_front()?;
    let Ok(Some(bin)) = observer.context.open_bin_dir() else {
        // Passes report this problem.
        return Some(MaintenanceOutcome::One);
    };
    let before = observer.files.observe(&bin, &name, LARGEST_PLUGIN);
    let changed = observer.files.reread(&bin, &name, LARGEST_PLUGIN) != before;
    Some(match (changed, maintenance.unread.is_empty()) {
        (true, _) => MaintenanceOutcome::Drift,
        (false, true) => MaintenanceOutcome::AllRead,
        (false, false) => MaintenanceOutcome::One,
    })
}

/// Does one step of maintenance in the store.
fn maintain_store(
    state: &StateLock,
    maintenance: &mut Maintenance,
) -> Result<MaintenanceOutcome, ReconcileError> {
    if maintenance.unswept {
        maintenance.unswept = false;
        let needed = state.needed_contents(&state.store.load_ledger()?);
        state.store.prune_blobs(&needed.digests)?;
        return Ok(MaintenanceOutcome::One);
    }
    if maintenance.disk_is_full {
        return Ok(match state.store.drop_spares()? {
            true => MaintenanceOutcome::One,
            false => MaintenanceOutcome::Nothing,
        });
    }
    let Some(bin) = state.context().open_bin_dir()? else {
        return Ok(MaintenanceOutcome::Nothing);
    };
    let ledger = state.store.load_ledger()?;
    let mut unsettled = false;
    for plugin in state.observer.build_desired(&ledger, None).plugins {
        let wanted = plugin.sha256;
        let Some(digest) = wanted.filter(|digest| !maintenance.given_up.contains(digest)) else {
            continue;
        };
        match advance_copies(state, &bin, &plugin, digest) {
            Ok(CopyProgress::Both) => {}
            Ok(CopyProgress::One) => return Ok(MaintenanceOutcome::One),
            Ok(CopyProgress::Unsettled) => unsettled = true,
            // Without the copy the network still works.
            Err(error) => {
                tracing::warn!("no copy of {}: {error}", plugin.plugin);
                maintenance.given_up.insert(digest);
            }
        }
    }
    if unsettled {
        std::thread::sleep(SETTLING);
        return Ok(MaintenanceOutcome::One);
    }
    Ok(MaintenanceOutcome::Nothing)
}

/// Makes the missing copies of a plugin, one at a time: first the blob, then the spare.
fn advance_copies(
    state: &StateLock,
    bin: &Dir,
    plugin: &DesiredPlugin,
    digest: Sha256,
) -> Result<CopyProgress, ReconcileError> {
    let store = &state.store;
    if !store.has_blob(&digest)? {
        let name = plugin.plugin.file();
        let there = state.observer.files.observe(bin, name, LARGEST_PLUGIN);
        if there.digest() != Some(digest) {
            return Ok(CopyProgress::Both);
        }
        store.refill_blob_durably(&digest, bin, name)?;
        return Ok(CopyProgress::One);
    }
    if !store.has_use_for_spares(bin) {
        return Ok(CopyProgress::Both);
    }
    let known = state.proven_spares().get(&digest).copied();
    if let Some(print) = known
        && store.is_proven(&digest, &print)?
    {
        return Ok(CopyProgress::Both);
    }
    match store.advance_spare(&digest) {
        Ok(SpareState::Proven(print)) => drop(state.proven_spares().insert(digest, print)),
        Ok(SpareState::Made) => {}
        Ok(SpareState::Unsettled) => return Ok(CopyProgress::Unsettled),
        // The corrupt blob was removed. The next step makes it again from the plugin that is in place.
        Err(error @ StoreError::Corrupt { .. }) => tracing::warn!("{error}"),
        Err(error) => return Err(error.into()),
    }
    Ok(CopyProgress::One)
}

/// Completes the store at the end of `install`: every plugin in place gets a blob, and everything that is neither
/// declared nor in place is removed. If an upgrade failed, the old set that is still in place can then be verified and
/// repaired as before. A failure here is only a warning, because the network works without the copies. `seen` is the
/// state of the plugins after the pass. Blocks.
///
/// # Errors
/// When the ledger or a directory cannot be read.
pub(super) fn complete_store(
    state: &StateLock,
    seen: &BTreeMap<PluginName, FileState>,
) -> Result<(), ReconcileError> {
    let mut ledger = state.store.load_ledger()?;
    let needed = state.needed_contents(&ledger);
    // Passes report a directory that cannot be opened.
    let bin = state.context().open_bin_dir().ok().flatten();
    for plugin in state.observer.build_desired(&ledger, None).plugins {
        let name = plugin.plugin.file();
        if let (Some(bin), Some(digest)) = (&bin, plugin.sha256)
            && let Some(found) = seen.get(&plugin.plugin)
            && found.digest() == Some(digest)
            && ledger.owns_content(ManagedDir::Bin, name, &digest)
            && let Err(error) = state.store.refill_blob(&digest, bin, name)
        {
            tracing::warn!("no copy of {}: {error}", plugin.plugin);
        }
    }
    let pruned = state.store.prune_blobs(&needed.digests);
    let pruned = pruned.and_then(|()| state.store.sync_names());
    if let Err(error) = pruned {
        tracing::warn!("{error}");
    }
    let before = ledger.clone();
    ledger.retain_members(&needed.pins);
    if ledger != before
        && let Err(error) = state.store.save_ledger(&ledger)
    {
        tracing::warn!("{error}");
    }
    Ok(())
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
