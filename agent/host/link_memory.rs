//! The links on the way to directories, kept in mind. Where one is missing, its directory is not to be made: whoever
//! exchanges a link in two steps, as k3s and snapd do, would find that directory in the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many links are kept in mind at most. A node has a few on the paths that it uses.
const MOST: usize = 256;

/// A link that led to a directory, and is missing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} was a link to {} and is missing; cni-keeper waits for it and makes no directory in its place; make the link \
     again, or start cni-keeper again to have a directory there",
    path.display(), target.display()
)]
pub struct MissingLink {
    /// Where it was, `--host-root` included.
    pub path: PathBuf,
    /// What it contained.
    pub target: PathBuf,
}

/// What each link contained, by its path inside the root, the links before it resolved.
#[derive(Debug, Default)]
pub(super) struct LinkMemory(Mutex<BTreeMap<PathBuf, PathBuf>>);

impl LinkMemory {
    pub(super) fn remember(&self, passed: &[(PathBuf, PathBuf)]) {
        if passed.is_empty() {
            return;
        }
        let mut links = self.links();
        for (path, target) in passed {
            if links.len() == MOST && !links.contains_key(path) {
                links.pop_first();
            }
            links.insert(path.clone(), target.clone());
        }
    }

    /// Something that is no link stands there now.
    pub(super) fn forget(&self, path: &Path) {
        self.links().remove(path);
    }

    /// What the link at this path contained, if one was there.
    pub(super) fn find_target(&self, path: &Path) -> Option<PathBuf> {
        self.links().get(path).cloned()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<PathBuf, PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
