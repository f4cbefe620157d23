//! Remembers the state of each plugin that was read, so that the next observation costs only a few `stat` calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{Dir, HashedFile};
use crate::model::{FileName, FileState};

/// The state of each plugin when it was last read. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct FileStateCache(Arc<Mutex<HashMap<FileName, HashedFile>>>);

impl FileStateCache {
    /// The state of a plugin. The file is read only if its metadata has changed since the last time, and if it has at
    /// most `largest` bytes.
    pub(super) fn observe(&self, bin: &Dir, name: &FileName, largest: u64) -> FileState {
        let seen = lock_cache(&self.0).get(name).copied();
        self.observe_after(bin, name, largest, seen)
    }

    /// The state of a plugin. The file is read even if its metadata has not changed.
    pub(super) fn reread(&self, bin: &Dir, name: &FileName, largest: u64) -> FileState {
        self.observe_after(bin, name, largest, None)
    }

    fn observe_after(
        &self,
        bin: &Dir,
        name: &FileName,
        largest: u64,
        mut seen: Option<HashedFile>,
    ) -> FileState {
        // The lock is not held while the file is read: another thread may ask for another file.
        let state = bin.observe_file_again(name, largest, &mut seen);
        match seen {
            Some(seen) => lock_cache(&self.0).insert(name.clone(), seen),
            None => lock_cache(&self.0).remove(name),
        };
        state
    }

    /// Forgets a plugin, so that it is read the next time.
    pub(super) fn forget(&self, name: &FileName) {
        lock_cache(&self.0).remove(name);
    }
}

fn lock_cache<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single call, so nothing is half done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
