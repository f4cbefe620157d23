//! What a running agent remembers of the files it read, so that a look costs a few `stat` calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host::{Dir, HashedFile};
use crate::model::{FileName, FileState};

/// What the plugins were when they were last read. One that remembers nothing, as commands that run once have it,
/// has every file read.
#[derive(Debug, Clone, Default)]
pub(super) struct FileStateCache(Option<Arc<Mutex<HashMap<FileName, HashedFile>>>>);

impl FileStateCache {
    /// A memory that is empty so far.
    pub(super) fn of_a_lifetime() -> Self {
        Self(Some(Arc::default()))
    }

    /// The state of a plugin, read only where it may have changed.
    pub(super) fn observe(&self, bin: &Dir, name: &FileName) -> FileState {
        let files = self.0.as_ref();
        let seen = files.and_then(|files| held(files).get(name).copied());
        self.observe_after(bin, name, seen)
    }

    /// The state of a plugin, read whatever its times say, and whatever others remember of it meanwhile.
    pub(super) fn read(&self, bin: &Dir, name: &FileName) -> FileState {
        self.observe_after(bin, name, None)
    }

    fn observe_after(&self, bin: &Dir, name: &FileName, mut seen: Option<HashedFile>) -> FileState {
        let Some(files) = &self.0 else {
            return bin.observe_file(name);
        };
        // Not while the lock is held: another thread may want to know of another file.
        let state = bin.observe_file_again(name, &mut seen);
        match seen {
            Some(seen) => held(files).insert(name.clone(), seen),
            None => held(files).remove(name),
        };
        state
    }

    /// Has a plugin read the next time, whatever its times say.
    pub(super) fn forget(&self, name: &FileName) {
        if let Some(files) = &self.0 {
            held(files).remove(name);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single call, so nothing is half done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
