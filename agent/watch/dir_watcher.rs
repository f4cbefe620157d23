//! The watched directories, each with its inotify watch.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use notify::{Config, INotifyWatcher, RecursiveMode, Watcher as _};

use super::error::WatchError;
use super::event_queue::EventQueue;
use super::hint::{Hint, PathFilter};
use super::unclosed_files::UnclosedFiles;
use crate::host::DirIdentity;

/// The watched directories: one inotify instance for the life of the agent.
///
/// Some changes are no event to the kernel:
/// - a mount over a directory and an unmount are found by the next [`DirWatcher::watch_dirs`];
/// - a change through a memory mapping or through a hard link in another directory is found when the disk is next
///   observed.
#[derive(Default)]
pub struct DirWatcher {
    queue: Arc<EventQueue>,
    watcher: Option<INotifyWatcher>,
}

impl DirWatcher {
    /// A watcher that watches nothing yet. It opens no inotify instance yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The files that somebody is writing, as far as events tell.
    #[must_use]
    pub fn unclosed_files(&self) -> UnclosedFiles {
        self.queue.unclosed.clone()
    }

    /// Watches exactly these directories, each without what is below it. They are paths of the machine with links
    /// followed. A directory that does not exist is skipped.
    ///
    /// A directory gets a new watch when its path leads to another directory than before (removed and created again,
    /// renamed, mounted over). The rules for that:
    /// - Its parent has to be watched as well, and its own path has to pass the filter.
    /// - No two of the paths may be one directory (a bind mount), since events would name only one of the two.
    ///
    /// Each call costs one stat for each directory where nothing has changed. Changes after it returns give a hint, so
    /// observe the disk afterwards.
    ///
    /// # Errors
    /// The first reason why a directory is not watched; all others are watched. The next call tries again.
    pub fn watch_dirs(
        &mut self,
        dirs: &BTreeSet<PathBuf>,
        filter: PathFilter,
    ) -> Result<(), WatchError> {
        self.queue.state().filter = Some(filter);
        self.unwatch_all_but(dirs);
        let mut outcome = Ok(());
        // In order, so that a parent is watched before its children.
        for dir in dirs {
            let watched = self.watch_dir(dir);
            if outcome.is_ok() {
                outcome = watched;
            }
        }
        outcome
    }

    /// Makes the next [`DirWatcher::watch_dirs`] renew every watch, for the resync. A file system that was unmounted
    /// and mounted again can have the same inode numbers as before, while the kernel has dropped the watch silently.
    pub fn invalidate(&mut self) {
        self.queue.state().invalidate();
    }

    /// The next hint: all events since the last one, as soon as there are any. If nothing is watched, it waits for
    /// ever. Cancel-safe: a hint leaves the queue only when it is returned.
    pub async fn next_hint(&mut self) -> Hint {
        self.queue.next_hint().await
    }

    fn unwatch_all_but(&mut self, dirs: &BTreeSet<PathBuf>) {
        let watched: Vec<PathBuf> = self.queue.state().watched.keys().cloned().collect();
        for dir in watched.iter().filter(|dir| !dirs.contains(*dir)) {
            self.unwatch_dir(dir);
        }
    }

    /// Errors are ignored: the kernel or notify may have dropped the watch before.
    fn unwatch_dir(&mut self, dir: &Path) {
        let was_watched = self.queue.state().watched.remove(dir).is_some();
        if let Some(watcher) = self.watcher.as_mut().filter(|_| was_watched) {
            let _ = watcher.unwatch(dir);
        }
    }

    fn watch_dir(&mut self, dir: &Path) -> Result<(), WatchError> {
        let Some(identity) = DirIdentity::of_path(dir)? else {
            self.unwatch_dir(dir);
            return Ok(());
        };
        if self.queue.state().watched.get(dir) == Some(&Some(identity)) {
            return Ok(());
        }
        self.unwatch_dir(dir);
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            empty => empty.insert(open_inotify(&self.queue)?),
        };
        // Recorded before the watch exists: the event that it is gone again may come before the call returns.
        let mut state = self.queue.state();
        state.watched.insert(dir.to_owned(), Some(identity));
        drop(state);
        if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
            self.queue.state().watched.remove(dir);
            return WatchError::from_refusal(dir.to_owned(), error).map_or(Ok(()), Err);
        }
        // The kernel first follows the path and then attaches the watch. A directory that is renamed in between is
        // watched under a path that leads elsewhere, and no event says so.
        if !matches!(DirIdentity::of_path(dir), Ok(Some(now)) if now == identity) {
            self.queue.state().watched.insert(dir.to_owned(), None);
            self.queue.add_path(dir.to_owned());
        }
        Ok(())
    }
}

/// Creates the inotify instance and the thread that reads it.
fn open_inotify(queue: &Arc<EventQueue>) -> Result<INotifyWatcher, WatchError> {
    // notify gives no error when it gets no thread, and panics at the next call. So try to start a thread first, ...
    match thread::Builder::new().spawn(|| ()) {
        Ok(thread) => thread.join().unwrap_or_default(),
        Err(source) => return Err(WatchError::NoThread { source }),
    }
    let reader = Arc::clone(queue);
    let held = Arc::strong_count(queue);
    let watcher = INotifyWatcher::new(move |event| reader.handle_event(event), Config::default())
        .map_err(WatchError::from_open_error)?;
    // ... and check afterwards whether the thread's reference was dropped. The watcher itself must not be dropped,
    // since it would panic too. Forgetting it leaks one descriptor, each time that this rare race is lost.
    if Arc::strong_count(queue) < held {
        mem::forget(watcher);
        let source = io::ErrorKind::WouldBlock.into();
        return Err(WatchError::NoThread { source });
    }
    Ok(watcher)
}

impl fmt::Debug for DirWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirWatcher")
            .field("watched", &self.queue.state().watched)
            .finish_non_exhaustive()
    }
}
