//! Turns the kernel's events into a pending hint, on the thread that reads them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use tokio::sync::Notify;

use super::hint::{Hint, PathFilter};
use super::unclosed_files::UnclosedFiles;
use crate::host::DirIdentity;

/// The hints that wait: the thread that reads the events adds to them, and the event loop takes them.
#[derive(Default)]
pub(super) struct EventQueue {
    state: Mutex<QueueState>,
    pub(super) unclosed: UnclosedFiles,
    wakeup: Notify,
}

/// The lock is held for a few instructions only: the reading thread must never wait, or the kernel's queue overflows.
#[derive(Default)]
pub(super) struct QueueState {
    pub(super) filter: Option<PathFilter>,
    /// The watched directories, each with what its path led to when the watch was made. `None`: the watch may be
    /// gone and has to be renewed, whatever the path leads to.
    pub(super) watched: BTreeMap<PathBuf, Option<DirIdentity>>,
    pending: Option<Hint>,
}

/// What an event says about a name in a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The file was removed or renamed away.
    Left,
    /// Any other change.
    Other,
}

impl EventQueue {
    pub(super) fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles one event, or an error in reading the events.
    pub(super) fn handle_event(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) | Err(_) => return self.handle_overflow(),
        };
        if let EventKind::Modify(ModifyKind::Data(_)) = event.kind {
            return self.note_writes(&event.paths);
        }
        let Some(change) = Change::from_kind(event.kind) else {
            return;
        };
        for path in event.paths {
            // A new owner or mode ends no write.
            if !matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_))) {
                self.unclosed.note_end(&path);
            }
            let (is_watched, filter) = {
                let mut state = self.state();
                (state.touches_watched(&path, change), state.filter.clone())
            };
            if is_watched || filter.is_some_and(|matters| matters(&path)) {
                self.add_path(path);
            }
        }
    }

    /// Notes that somebody writes these files. Nothing has to be done before they are closed or have been quiet for a
    /// while. The event loop is woken once, to wait for that.
    fn note_writes(&self, paths: &[PathBuf]) {
        let filter = self.state().filter.clone();
        let Some(matters) = filter else {
            return;
        };
        for path in paths.iter().filter(|path| matters(path)) {
            if self.unclosed.note_write(path, Instant::now()) {
                self.wakeup.notify_one();
            }
        }
    }

    /// Adds a path to the pending hint and wakes the event loop.
    pub(super) fn add_path(&self, path: PathBuf) {
        self.state().pending_hint().add_path(path);
        self.wakeup.notify_one();
    }

    /// Events were lost. The removal of a watched directory may be among them.
    fn handle_overflow(&self) {
        self.unclosed.forget_all();
        let mut state = self.state();
        state.invalidate();
        state.pending_hint().rescan = true;
        drop(state);
        self.wakeup.notify_one();
    }

    /// All events since the last call, as soon as there are any. Cancel-safe: the hint leaves the queue only when it
    /// is returned.
    pub(super) async fn next_hint(&self) -> Hint {
        loop {
            let quiet = self.unclosed.take_due(Instant::now());
            let pending = {
                let mut state = self.state();
                let paths = quiet.into_iter();
                paths.for_each(|path| state.pending_hint().add_path(path));
                state.pending.take()
            };
            if let Some(hint) = pending {
                return hint;
            }
            let woken = self.wakeup.notified();
            match self.unclosed.next_due() {
                // Whether it was woken or the time has come, it looks again.
                Some(due) => drop(tokio::time::timeout_at(due.into(), woken).await),
                None => woken.await,
            }
        }
    }
}

impl QueueState {
    /// Marks every watch, so that it is renewed.
    pub(super) fn invalidate(&mut self) {
        self.watched
            .values_mut()
            .for_each(|identity| *identity = None);
    }

    /// Whether the path is a watched directory or leads to one. If the path was removed or renamed, so were those.
    fn touches_watched(&mut self, path: &Path, change: Change) -> bool {
        let from = (Bound::Included(path), Bound::Unbounded);
        let mut touched = false;
        for (dir, identity) in self.watched.range_mut::<Path, _>(from) {
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

    fn pending_hint(&mut self) -> &mut Hint {
        self.pending
            .get_or_insert_with(|| Hint::new(Instant::now()))
    }
}

impl Change {
    /// `None` for
    /// - events that change nothing: each start of a pod opens and reads plugins, and so do we to hash them;
    /// - a write, which ends later: see [`EventQueue::note_writes`].
    ///
    /// Creation counts, although a file that is created by `open` gives another event when it is closed: for a link, a
    /// directory or a device it is the only event.
    fn from_kind(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                Some(Self::Left)
            }
            // notify reports a rename inside one directory once more, as a pair.
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
