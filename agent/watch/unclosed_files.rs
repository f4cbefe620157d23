//! The files that somebody is writing: their content is complete once they are closed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many files are kept in mind at most. A node has some tens that matter.
const MOST: usize = 256;

/// How long after its last write a file counts as being written. A descriptor can stay open for ever.
const LONGEST: Duration = Duration::from_secs(10);

/// The watched files that were written to and not closed since. A shared handle: the thread that reads the events fills
/// it.
#[derive(Debug, Clone, Default)]
pub struct UnclosedFiles(Arc<Mutex<BTreeMap<PathBuf, Instant>>>);

impl UnclosedFiles {
    /// Whether somebody is writing this file. The path is one of the machine with links followed.
    #[must_use]
    pub fn is_written(&self, path: &Path) -> bool {
        let files = self.files();
        files.get(path).is_some_and(|last| last.elapsed() < LONGEST)
    }

    pub(super) fn note_write(&self, path: &Path) {
        let mut files = self.files();
        if files.len() < MOST || files.contains_key(path) {
            files.insert(path.to_owned(), Instant::now());
        }
    }

    /// The file was closed, or another one has its name.
    pub(super) fn note_end(&self, path: &Path) {
        self.files().remove(path);
    }

    /// Events were lost, the closing ones perhaps.
    pub(super) fn forget_all(&self) {
        self.files().clear();
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
