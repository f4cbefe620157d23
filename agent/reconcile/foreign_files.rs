//! Reads the files of others in the configuration directory, within limits for all of them together. Each content is
//! examined once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cni::{
    ConfForm, DirEntry, EntryKind, ExaminedFile, examine_file, has_conflist_extension,
};
use crate::host::{Dir, FileKind, HashedFile, HostError, ListedEntry};
use crate::model::{FileName, FileState, FileType, Sha256};

/// The largest conflist that is read, in bytes. Newer go-cni has the same limit (`MaxFileSize`).
pub(super) const LARGEST_CONFLIST: u64 = 2 << 20;

/// How many files are examined in one pass, and how many bytes they have together. What sorts first is examined first.
/// The rest counts as files that a runtime loads.
const MOST_FILES: usize = 1024;
const MOST_BYTES: u64 = 16 << 20;

/// The files that were examined in the last pass, by their paths. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ForeignFiles(Arc<Mutex<HashMap<PathBuf, KnownFile>>>);

#[derive(Debug, Clone)]
struct KnownFile {
    /// With it the file need not be read to know that it has not changed.
    seen: Option<HashedFile>,
    sha256: Sha256,
    file: Arc<ExaminedFile>,
}

/// What may still be examined in this pass, and what was.
#[derive(Debug)]
pub(super) struct ForeignReading {
    known: HashMap<PathBuf, KnownFile>,
    read: HashMap<PathBuf, KnownFile>,
    files_left: usize,
    bytes_left: u64,
}

impl ForeignFiles {
    /// Begins a pass.
    pub(super) fn begin_reading(&self) -> ForeignReading {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ForeignReading {
            known: known.clone(),
            read: HashMap::new(),
            files_left: MOST_FILES,
            bytes_left: MOST_BYTES,
        }
    }

    /// Remembers what was examined, and forgets the files that are gone.
    pub(super) fn end_reading(&self, reading: &mut ForeignReading) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.known.clear();
        known.clone_from(&reading.read);
    }
}

impl ForeignReading {
    /// The entries of a directory as libcni sees them, sorted: links are followed, and files are read. The file `ours` is
    /// examined whatever there is beside it.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn read_entries(
        &mut self,
        dir: &Dir,
        ours: Option<&FileName>,
    ) -> Result<Vec<DirEntry>, HostError> {
        let listed = dir.list_entries()?;
        let mut entries = Vec::with_capacity(listed.len());
        for ListedEntry { name, kind } in listed {
            let is_ours = ours.is_some_and(|ours| name == *ours.as_str());
            let kind = match kind {
                FileKind::Other(FileType::Directory) => EntryKind::Directory,
                // No runtime reads this file, so it is not read here either. It may have any size.
                _ if !has_conflist_extension(&name) => EntryKind::Examined(Arc::default()),
                kind => self.read_entry(dir, &name, kind, is_ours),
            };
            entries.push(DirEntry { name, kind });
        }
        Ok(entries)
    }

    fn read_entry(&mut self, dir: &Dir, name: &OsStr, kind: FileKind, is_ours: bool) -> EntryKind {
        if let Some(read) = self.read.get(&dir.path().join(name)) {
            return EntryKind::Examined(Arc::clone(&read.file));
        }
        if !is_ours {
            if self.files_left == 0 {
                return EntryKind::Examined(Arc::default());
            }
            self.files_left -= 1;
        }
        let file_name = name.to_str().and_then(|name| name.parse::<FileName>().ok());
        let Some(file_name) = file_name.filter(|_| kind == FileKind::Regular) else {
            return self.read_whole(dir, name, None, is_ours);
        };
        let size = dir
            .file_metadata(&file_name)
            .ok()
            .flatten()
            .map(|found| found.size);
        if let Some(size) = size
            && size <= LARGEST_CONFLIST
        {
            if size > self.bytes_left && !is_ours {
                return EntryKind::Examined(Arc::default());
            }
            let path = dir.path_of(&file_name);
            let known = self.known.get(&path).cloned();
            let mut seen = known.as_ref().and_then(|known| known.seen);
            let state = dir.observe_file_again(&file_name, LARGEST_CONFLIST, &mut seen);
            if let (Some(known), FileState::Regular(found)) = (known, state)
                && known.sha256 == found.sha256
            {
                self.bytes_left = self.bytes_left.saturating_sub(size);
                let kind = EntryKind::Examined(Arc::clone(&known.file));
                self.read.insert(path, KnownFile { seen, ..known });
                return kind;
            }
            return self.read_whole(dir, name, seen, is_ours);
        }
        self.read_whole(dir, name, None, is_ours)
    }

    fn read_whole(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        seen: Option<HashedFile>,
        is_ours: bool,
    ) -> EntryKind {
        let bytes = match dir.read_file(name, LARGEST_CONFLIST) {
            Ok(bytes) => bytes,
            Err(error) => return EntryKind::Unreadable(error.to_string()),
        };
        let size = bytes.len() as u64;
        if size > self.bytes_left && !is_ours {
            return EntryKind::Examined(Arc::default());
        }
        self.bytes_left = self.bytes_left.saturating_sub(size);
        let path = dir.path().join(name);
        let sha256 = Sha256::of(&bytes);
        let known = self.known.get(&path).filter(|known| known.sha256 == sha256);
        let file = match known {
            Some(known) => Arc::clone(&known.file),
            None => Arc::new(examine_file(&bytes, ConfForm::of_name(name))),
        };
        let examined = EntryKind::Examined(Arc::clone(&file));
        self.read.insert(path, KnownFile { seen, sha256, file });
        examined
    }
}
