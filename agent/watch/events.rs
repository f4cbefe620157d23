//! What becomes of the kernel's events, on the thread that reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use tokio::sync::Notify;

use super::{Hint, Interest};
use crate::host::Identity;

/// How many paths a hint names. A node has some tens of files that matter, and reaching this counts as an overflow.
const MAX_PATHS: usize = 1024;

/// What the two sides share: the thread that reads the events, and the loop that is told.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    told: Notify,
}

/// Held for a few instructions only: the thread that reads must never wait, or the kernel's queue runs over.
#[derive(Default)]
pub(super) struct State {
    pub(super) interest: Option<Interest>,
    /// The watched directories, each with what its path led to when it was armed. `None`: the watch may be
    /// gone, so the directory is to be armed again whatever its path leads to.
    pub(super) armed: BTreeMap<PathBuf, Option<Identity>>,
    pending: Option<Hint>,
}

/// What an event says of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// What was there has left the name.
    Left,
    /// Something else about it.
    Other,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one event, or that the events cannot be read.
    pub(super) fn take(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) | Err(_) => return self.lost_count(),
        };
        let Some(change) = Change::of(event.kind) else {
            return;
        };
        for path in event.paths {
            let (armed, interest) = {
                let mut state = self.state();
                (state.touches_armed(&path, change), state.interest.clone())
            };
            if armed || interest.is_some_and(|matters| matters(&path)) {
                self.tell(path);
            }
        }
    }

    /// Wakes the loop for a path.
    pub(super) fn tell(&self, path: PathBuf) {
        self.state().hint().add(path);
        self.told.notify_one();
    }

    /// Events are missing. The news that a watched directory was removed may be among them.
    fn lost_count(&self) {
        let mut state = self.state();
        state.distrust();
        state.hint().rescan = true;
        drop(state);
        self.told.notify_one();
    }

    /// What has come together since the last call, once there is something. Cancel-safe: it is taken only
    /// when it is returned.
    pub(super) async fn hint(&self) -> Hint {
        loop {
            let pending = self.state().pending.take();
            if let Some(hint) = pending {
                return hint;
            }
            self.told.notified().await;
        }
    }
}

impl State {
    /// Has every directory armed again.
    pub(super) fn distrust(&mut self) {
        self.armed
            .values_mut()
            .for_each(|identity| *identity = None);
    }

    /// Whether the path is a watched directory or leads to one. If what was there has left, so have those.
    fn touches_armed(&mut self, path: &Path, change: Change) -> bool {
        let from = (Bound::Included(path), Bound::Unbounded);
        let mut touched = false;
        for (dir, identity) in self.armed.range_mut::<Path, _>(from) {
            if !dir.starts_with(path) {
                break;
            }
            touched = true;
            if change == Change::Left {
                *identity = None;
            }
        }
        touched
    }

    fn hint(&mut self) -> &mut Hint {
        self.pending.get_or_insert_with(|| Hint {
            at: Instant::now(),
            rescan: false,
            paths: BTreeSet::new(),
        })
    }
}

impl Hint {
    fn add(&mut self, path: PathBuf) {
        if self.paths.len() < MAX_PATHS || self.paths.contains(&path) {
            self.paths.insert(path);
        } else {
            self.rescan = true;
        }
    }
}

impl Change {
    /// `None` for what changes nothing (a plugin is opened and read each time a pod starts, and by us when it
    /// is hashed) and for a write that has not ended: its close will be told.
    ///
    /// Creation counts, although a file made by `open` is closed later: of a link, a directory or a device the
    /// kernel tells nothing else.
    fn of(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                Some(Self::Left)
            }
            // notify tells a rename inside one directory again as a pair.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both) | ModifyKind::Data(_)) => None,
            EventKind::Access(kind) => {
                (kind == AccessKind::Close(AccessMode::Write)).then_some(Self::Other)
            }
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                Some(Self::Other)
            }
        }
    }
}
