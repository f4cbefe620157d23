//! The files that somebody is writing: their content is complete once they are closed. Where they stay open, or are
//! changed by `truncate(2)`, it is taken for complete when they have been quiet for a while.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many files are kept in mind at most. A node has some tens that matter.
const MOST: usize = 256;

/// How long after its last write an open file counts as being written. A descriptor can stay open for ever.
const LONGEST: Duration = Duration::from_secs(10);

/// A file that was not written to for so long is not changing any more.
const QUIET: Duration = Duration::from_millis(300);

/// The watched files that were written to and not closed since. A shared handle: the thread that reads the events fills
/// it.
#[derive(Debug, Clone, Default)]
pub struct UnclosedFiles(Arc<Mutex<BTreeMap<PathBuf, Writes>>>);

/// Writes to one file that follow each other closely.
#[derive(Debug, Clone, Copy)]
struct Writes {
    first: Instant,
    last: Instant,
    /// When the event loop was last told of them.
    told: Option<Instant>,
}

impl Writes {
    /// When the event loop is to be told; `None` if it knows. A writer that never pauses must not keep the file for ever.
    fn due(&self) -> Option<Instant> {
        let quiet = self.last + QUIET;
        match self.told {
            None => Some(quiet.min(self.first + LONGEST)),
            Some(told) => (self.last > told).then_some(quiet),
        }
    }

    fn is_going_on(&self, now: Instant) -> bool {
        now < self.last + QUIET && now < self.first + LONGEST
    }
}

impl UnclosedFiles {
    /// Whether somebody has this file open and is writing it. The path is one of the machine with links followed.
    #[must_use]
    pub fn is_written(&self, path: &Path) -> bool {
        let files = self.files();
        let last = files.get(path).map(|writes| writes.last);
        last.is_some_and(|last| last.elapsed() < LONGEST)
    }

    /// The files that are changing at this moment, as paths of the machine with links followed. Their content is half of
    /// something. A file is none of them for more than ten seconds in a row.
    #[must_use]
    pub fn list_changing(&self, now: Instant) -> Vec<PathBuf> {
        let files = self.files();
        let changing = files.iter().filter(|(_, writes)| writes.is_going_on(now));
        changing.map(|(path, _)| path.clone()).collect()
    }

    /// Notes a write. Returns `true` if [`UnclosedFiles::next_due`] may be earlier now.
    pub(super) fn note_write(&self, path: &Path, now: Instant) -> bool {
        let mut files = self.files();
        if let Some(writes) = files.get_mut(path) {
            let is_new = now >= writes.last + QUIET;
            writes.last = now;
            if is_new {
                (writes.first, writes.told) = (now, None);
            }
            return is_new;
        }
        if files.len() >= MOST {
            files.retain(|_, writes| now < writes.last + LONGEST);
        }
        if files.len() >= MOST {
            return false;
        }
        let writes = Writes {
            first: now,
            last: now,
            told: None,
        };
        files.insert(path.to_owned(), writes);
        true
    }

    /// The file was closed, or another one has its name.
    pub(super) fn note_end(&self, path: &Path) {
        self.files().remove(path);
    }

    /// When the event loop is to be told of a file that was not closed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.files().values().filter_map(Writes::due).min()
    }

    /// The files of which the event loop is to be told now, each once for the writes until then.
    pub(super) fn take_due(&self, now: Instant) -> Vec<PathBuf> {
        let mut files = self.files();
        let due = files
            .iter_mut()
            .filter(|(_, writes)| writes.due().is_some_and(|due| due <= now));
        due.map(|(path, writes)| {
            writes.told = Some(now);
            path.clone()
        })
        .collect()
    }

    /// Events were lost, the closing ones perhaps.
    pub(super) fn forget_all(&self) {
        self.files().clear();
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes every 50 ms for so long, and returns when the loop was told, in ms after the first write.
    fn tell_of(writes: u64, files: &UnclosedFiles, start: Instant) -> Vec<u64> {
        let path = Path::new("/opt/cni/bin/bridge");
        let mut told = Vec::new();
        for ms in 0..writes * 50 + 20_000 {
            let now = start + Duration::from_millis(ms);
            if ms % 50 == 0 && ms < writes * 50 {
                files.note_write(path, now);
            }
            if !files.take_due(now).is_empty() {
                told.push(ms);
            }
        }
        told
    }

    #[test]
    fn writes_are_told_once_they_have_ended() {
        for (writes, told) in [(1, vec![300]), (2, vec![350]), (40, vec![2250])] {
            let (files, start) = (UnclosedFiles::default(), Instant::now());
            assert_eq!(tell_of(writes, &files, start), told, "{writes} writes");
            assert_eq!(files.next_due(), None);
        }
    }

    #[test]
    fn a_writer_that_never_pauses_is_not_waited_for_longer_than_ten_seconds() {
        let (files, start) = (UnclosedFiles::default(), Instant::now());
        assert_eq!(tell_of(600, &files, start), [10_000, 30_250]);
    }

    #[test]
    fn a_file_is_changing_until_it_is_quiet_or_closed() {
        let (files, start) = (UnclosedFiles::default(), Instant::now());
        let path = PathBuf::from("/etc/cni/net.d/10-pods.conflist");
        let at = |ms| start + Duration::from_millis(ms);
        assert!(files.note_write(&path, start));
        assert_eq!(files.next_due(), Some(at(300)));
        assert!(!files.note_write(&path, at(200)), "the same writes");
        assert_eq!(files.list_changing(at(499)), std::slice::from_ref(&path));
        assert!(files.list_changing(at(500)).is_empty());
        assert!(files.note_write(&path, at(600)), "other writes");
        files.note_end(&path);
        assert!(files.list_changing(at(601)).is_empty());
        assert_eq!(files.next_due(), None);
    }

    #[test]
    fn files_that_are_never_closed_leave_room_for_others() {
        let (files, start) = (UnclosedFiles::default(), Instant::now());
        for number in 0..=MOST {
            files.note_write(Path::new(&number.to_string()), start);
        }
        assert_eq!(files.list_changing(start).len(), MOST);
        assert!(files.note_write(Path::new("another"), start + LONGEST));
    }
}
