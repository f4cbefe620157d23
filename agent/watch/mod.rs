//! Noticing changes at once: inotify, boiled down to "something may have changed".
//!
//! What a hint says is never believed, only looked after: the disk is the truth.

mod error;
mod events;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use notify::{Config, INotifyWatcher, RecursiveMode, Watcher as _};

pub use error::WatchError;
use events::Shared;

use crate::host::Identity;

/// Which paths matter; asked for each change, on the thread that reads the events, so it must not wait for
/// anything. Watched directories always matter.
pub type Interest = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// Something may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// When the first event came that it stands for.
    pub at: Instant,
    /// Whether a queue ran over, the kernel's or this one: anything may have changed, also what is not named.
    pub rescan: bool,
    /// What may have changed, a bounded number.
    pub paths: BTreeSet<PathBuf>,
}

/// The watched directories: one inotify instance for the life of the agent.
///
/// Not everything is an event to the kernel. What is mounted over a directory or unmounted is found by the next
/// [`Watch::arm`]; what is changed by `truncate(2)`, through a mapping or through a hard link in another
/// directory, by the next look at the disk.
#[derive(Default)]
pub struct Watch {
    shared: Arc<Shared>,
    watcher: Option<INotifyWatcher>,
}

impl Watch {
    /// Watches nothing yet, and needs nothing of the kernel yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the watched directories exactly these, each without what is below it. They are paths of the
    /// machine with links followed; one that is not there is passed over.
    ///
    /// A directory is armed again when its path leads to another one (removed and made again, renamed,
    /// mounted over). For that to be noticed, its parent has to be watched as well, and to come back its own
    /// path has to be of interest. No two of them may be one directory under two paths (a bind mount): it would
    /// be told of under one of the two. Costs a stat each where nothing changed. What changes after it returns
    /// is told, so the disk is to be looked at afterwards.
    ///
    /// # Errors
    /// When a directory is not watched, by the first one; the others are. The next call tries again.
    pub fn arm(&mut self, dirs: &BTreeSet<PathBuf>, interest: Interest) -> Result<(), WatchError> {
        self.shared.state().interest = Some(interest);
        self.disarm_all_but(dirs);
        let mut outcome = Ok(());
        // In order, so that a parent is watched before what is in it.
        for dir in dirs {
            let armed = self.arm_one(dir);
            if outcome.is_ok() {
                outcome = armed;
            }
        }
        outcome
    }

    /// Has the next [`Watch::arm`] arm every directory again: for the resync. What is unmounted and mounted
    /// again can have the same numbers as before, while the kernel has dropped the watch without a word.
    pub fn distrust(&mut self) {
        self.shared.state().distrust();
    }

    /// The next hint: all that came since the last one, once anything has come. Pending for ever where nothing
    /// is watched. Cancel-safe: a hint is lost only by being returned.
    pub async fn hint(&mut self) -> Hint {
        self.shared.hint().await
    }

    fn disarm_all_but(&mut self, dirs: &BTreeSet<PathBuf>) {
        let armed: Vec<PathBuf> = self.shared.state().armed.keys().cloned().collect();
        for dir in armed.iter().filter(|dir| !dirs.contains(*dir)) {
            self.disarm(dir);
        }
    }

    /// The kernel and notify may have dropped the watch before: then there is nothing to do.
    fn disarm(&mut self, dir: &Path) {
        let was_armed = self.shared.state().armed.remove(dir).is_some();
        if let Some(watcher) = self.watcher.as_mut().filter(|_| was_armed) {
            let _ = watcher.unwatch(dir);
        }
    }

    fn arm_one(&mut self, dir: &Path) -> Result<(), WatchError> {
        let Some(identity) = Identity::of(dir)? else {
            self.disarm(dir);
            return Ok(());
        };
        if self.shared.state().armed.get(dir) == Some(&Some(identity)) {
            return Ok(());
        }
        self.disarm(dir);
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(open(&self.shared)?),
        };
        // Before the watch is there: events that say it is gone again may come before the call returns.
        let mut state = self.shared.state();
        state.armed.insert(dir.to_owned(), Some(identity));
        drop(state);
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            self.shared.state().armed.remove(dir);
            return WatchError::refused(dir.to_owned(), error).map_or(Ok(()), Err);
        }
        // The kernel follows the path first and attaches the watch afterwards. What is renamed in between is watched
        // under a path that leads elsewhere, and no event tells.
        if !matches!(Identity::of(dir), Ok(Some(now)) if now == identity) {
            self.shared.state().armed.insert(dir.to_owned(), None);
            self.shared.tell(dir.to_owned());
        }
        Ok(())
    }
}

/// Makes the inotify instance and the thread that reads it.
fn open(shared: &Arc<Shared>) -> Result<INotifyWatcher, WatchError> {
    // notify says nothing when it gets no thread, and panics at the next call. So ask before, ...
    match thread::Builder::new().spawn(|| ()) {
        Ok(thread) => thread.join().unwrap_or_default(),
        Err(source) => return Err(WatchError::Thread { source }),
    }
    let reader = Arc::clone(shared);
    let held = Arc::strong_count(shared);
    let watcher = INotifyWatcher::new(move |event| reader.take(event), Config::default())
        .map_err(WatchError::no_instance)?;
    // ... and look afterwards whether what the thread holds was dropped. The watcher itself must not be: it
    // would panic too. That leaks a descriptor, once in a race that is lost.
    if Arc::strong_count(shared) < held {
        mem::forget(watcher);
        let source = io::ErrorKind::WouldBlock.into();
        return Err(WatchError::Thread { source });
    }
    Ok(watcher)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("armed", &self.shared.state().armed)
            .finish_non_exhaustive()
    }
}
