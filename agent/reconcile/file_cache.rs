//! What was seen of the files that were read, so that the next look costs a few `stat` calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{Dir, HashedFile};
use crate::model::{FileName, FileState};

/// What the plugins were when they were last read. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct FileStateCache(Arc<Mutex<HashMap<FileName, HashedFile>>>);

impl FileStateCache {
    /// The state of a plugin, read only where it may have changed.
    pub(super) fn observe(&self, bin: &Dir, name: &FileName) -> FileState {
        let seen = lock_cache(&self.0).get(name).copied();
        self.observe_after(bin, name, seen)
    }

    /// The state of a plugin, read whatever its times say, and whatever others remember of it meanwhile.
    pub(super) fn read_anew(&self, bin: &Dir, name: &FileName) -> FileState {
        self.observe_after(bin, name, None)
    }

    fn observe_after(&self, bin: &Dir, name: &FileName, mut seen: Option<HashedFile>) -> FileState {
        // Not while the lock is held: another thread may want to know of another file.
        let state = bin.observe_file_again(name, &mut seen);
        match seen {
            Some(seen) => lock_cache(&self.0).insert(name.clone(), seen),
            None => lock_cache(&self.0).remove(name),
        };
        state
    }

    /// Has a plugin read the next time, whatever its times say.
    pub(super) fn forget(&self, name: &FileName) {
        lock_cache(&self.0).remove(name);
    }
}

fn lock_cache<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single call, so nothing is half done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
