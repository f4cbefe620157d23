//! What the watcher tells the event loop: that something may have changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How many paths a hint names at most. A node has some tens of files that matter; more count as an overflow.
const MAX_PATHS: usize = 1024;

/// Which paths matter. It is called for each change on the thread that reads the events, so it must not block.
/// Watched directories always matter.
pub type PathFilter = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// When the first of the events came that this hint stands for.
    pub at: Instant,
    /// Whether events were lost, in the kernel's queue or in this one. Then anything may have changed, also paths
    /// that are not named.
    pub rescan: bool,
    /// What may have changed; a bounded number of paths.
    pub paths: BTreeSet<PathBuf>,
}

impl Hint {
    pub(super) const fn new(at: Instant) -> Self {
        Self {
            at,
            rescan: false,
            paths: BTreeSet::new(),
        }
    }

    pub(super) fn add_path(&mut self, path: PathBuf) {
        if self.paths.len() < MAX_PATHS || self.paths.contains(&path) {
            self.paths.insert(path);
        } else {
            self.rescan = true;
        }
    }
}
