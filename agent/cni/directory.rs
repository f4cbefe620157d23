//! A configuration directory as the caller read it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

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
    /// Something that can be read, through a symbolic link or not, and its content.
    File(Vec<u8>),
    /// Something that libcni tries to read and cannot: a dangling link, a link to a directory, no permission. The
    /// reason is one line.
    Unreadable(String),
    /// A directory, which libcni skips. A link to one is [`EntryKind::Unreadable`].
    Directory,
}

/// A configuration directory.
#[derive(Clone, Copy)]
pub struct ConfDir<'a> {
    /// Its entries, in any order.
    pub entries: &'a [DirEntry],
    /// Lists `<confDir>/<argument>`; the argument is a cleaned relative path, which a foreign file can
    /// make `.` or let begin with `..`. A link to a directory is followed.
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
    Entries(Vec<DirEntry>),
}

/// Whether the runtimes read it: it is not a directory and has one of their extensions. They read hidden files too, but
/// no extension in capitals.
pub(super) fn is_candidate(entry: &DirEntry) -> bool {
    entry.kind != EntryKind::Directory && ends_in(entry, &[".conf", ".conflist", ".json"])
}

/// Whether the name ends in one of these, dots included.
pub(super) fn ends_in(entry: &DirEntry, extensions: &[&str]) -> bool {
    let name = entry.name.as_bytes();
    extensions
        .iter()
        .any(|extension| name.ends_with(extension.as_bytes()))
}
