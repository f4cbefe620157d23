//! The content of a configuration directory, as the caller has read it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::examined_file::ExaminedFile;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name; the runtimes sort names as bytes.
    pub name: OsString,
    /// What is there.
    pub kind: EntryKind,
}

/// What a directory entry is to libcni.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A file that can be read, through a symbolic link or not, and its content.
    File(Vec<u8>),
    /// The same, examined already.
    Examined(Arc<ExaminedFile>),
    /// An entry that libcni tries to read and cannot: a dangling link, a link to a directory, no permission. The reason
    /// is one line.
    Unreadable(String),
    /// A directory, which libcni skips. A link to one is [`EntryKind::Unreadable`].
    Directory,
}

/// A configuration directory.
#[derive(Clone, Copy)]
pub struct ConfDir<'a> {
    /// Its entries, in any order.
    pub entries: &'a [DirEntry],
    /// Lists `<confDir>/<argument>`. The argument is a cleaned relative path. In a foreign file it can be `.` or begin
    /// with `..`. A link to a directory is followed.
    pub drop_ins: &'a dyn Fn(&str) -> DropIns,
}

/// The content of the directory `<confDir>/<network name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DropIns {
    /// There is no such directory.
    Absent,
    /// It is not a directory or cannot be listed; the reason is one line.
    Unreadable(String),
    /// Its entries, in any order.
    Entries(Arc<[DirEntry]>),
}

/// Whether the runtimes read this entry: it is not a directory and has one of their extensions. They also read hidden
/// files, but no file whose extension has capitals.
pub(super) fn is_candidate(entry: &DirEntry) -> bool {
    entry.kind != EntryKind::Directory && has_conflist_extension(&entry.name)
}

/// Whether the name ends as the runtimes want it. As in Go, a name that is nothing but an extension (`.conf`) has it too.
#[must_use]
pub fn has_conflist_extension(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let mut extensions = [".conf", ".conflist", ".json"].iter();
    extensions.any(|extension| name.ends_with(extension.as_bytes()))
}

/// Whether the name ends in one of these, dots included.
pub(super) fn has_extension(entry: &DirEntry, extensions: &[&str]) -> bool {
    let name = entry.name.as_bytes();
    extensions
        .iter()
        .any(|extension| name.ends_with(extension.as_bytes()))
}
