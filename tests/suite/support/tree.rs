//! What a directory holds, so that a test can find out what was changed in it and what was not even touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cni_keeper::model::Sha256;

/// Everything below a directory, by its path from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

/// One thing in it. Times and inode show a rewrite even of the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File(Sha256),
    Link(PathBuf),
    Directory,
    Other,
}

impl Tree {
    /// Reads everything except the paths for which `skip` is true.
    pub(crate) fn of(root: &Path, skip: impl Fn(&str) -> bool) -> Self {
        let mut entries = BTreeMap::new();
        let mut pending = vec![root.to_owned()];
        while let Some(directory) = pending.pop() {
            for found in fs::read_dir(directory).unwrap() {
                let path = found.unwrap().path();
                let inside = path.strip_prefix(root).unwrap().to_string_lossy();
                if skip(&inside) {
                    continue;
                }
                let entry = Entry::of(&path);
                if entry.what == What::Directory {
                    pending.push(path.clone());
                }
                entries.insert(inside.into_owned(), entry);
            }
        }
        Self(entries)
    }

    pub(crate) fn get(&self, path: &str) -> &Entry {
        let found = self.0.get(path);
        found.unwrap_or_else(|| panic!("{path} is not in {:?}", self.paths()))
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The paths that are new, gone or other than they were. A directory in which something was renamed
    /// is still the same one.
    pub(crate) fn changes(&self, after: &Self) -> Vec<String> {
        let mut changed: Vec<String> = after
            .0
            .iter()
            .filter(|(path, entry)| !self.0.get(*path).is_some_and(|old| old.is_still(entry)))
            .map(|(path, _)| path.clone())
            .collect();
        let gone = self.0.keys().filter(|path| !after.0.contains_key(*path));
        changed.extend(gone.cloned());
        changed.sort();
        changed
    }

    /// Whether it holds the same things, whichever inodes they have by now.
    pub(crate) fn has_same_content(&self, after: &Self) -> bool {
        self.differences(after).is_empty()
    }

    /// What is not the same thing any more, whichever inodes there are by now: what was there and what is.
    pub(crate) fn differences<'a>(
        &'a self,
        after: &'a Self,
    ) -> Vec<(&'a str, Option<&'a Entry>, Option<&'a Entry>)> {
        let paths: BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        let both = |path: &'a String| (path.as_str(), self.0.get(path), after.0.get(path));
        let differs = |(_, old, new): &(&str, Option<&Entry>, Option<&Entry>)| match (old, new) {
            (Some(old), Some(new)) => !old.has_same_content(new),
            _ => true,
        };
        paths.into_iter().map(both).filter(differs).collect()
    }
}

impl Entry {
    fn of(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        let kind = metadata.file_type();
        let what = if kind.is_file() {
            What::File(Sha256::of(&fs::read(path).unwrap()))
        } else if kind.is_symlink() {
            What::Link(fs::read_link(path).unwrap())
        } else if kind.is_dir() {
            What::Directory
        } else {
            What::Other
        };
        Self {
            what,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether it is the same thing, whichever inode it has by now.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        (&self.what, self.mode, self.owner) == (&other.what, other.mode, other.owner)
    }

    fn is_still(&self, after: &Self) -> bool {
        if self.what == What::Directory {
            return (&self.what, self.mode, self.owner, self.inode)
                == (&after.what, after.mode, after.owner, after.inode);
        }
        self == after
    }
}
