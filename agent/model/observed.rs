//! The observed state of files.

use super::Sha256;

/// User and group of a file, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A kind of directory entry that is not a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileType {
    /// A symbolic link, never followed.
    Symlink,
    /// A directory.
    Directory,
    /// A device, socket or FIFO.
    Special,
}

/// A regular file: everything that is enforced about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regular {
    /// Digest of the content.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
    /// Mode bits, set-uid, set-gid and sticky included (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub owner: Owner,
    /// What it has beside these.
    pub attributes: FileAttributes,
}

/// What a file of ours must not have: it would give rights away, or keep the file from being repaired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileAttributes {
    /// It has file capabilities (`security.capability`): whoever runs it gets them.
    pub has_capabilities: bool,
    /// Its access ACL (`system.posix_acl_access`) has an entry with which others may write to it.
    pub acl_grants_writing: bool,
    /// It is immutable or append-only (`chattr`).
    pub is_locked: bool,
}

/// The largest plugin, in bytes: a larger file in an archive is refused, and a larger file on the disk is not read.
pub const LARGEST_PLUGIN: u64 = 512 << 20;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// The name does not exist.
    Absent,
    /// A regular file.
    Regular(Regular),
    /// A regular file that is larger than it may be, with its size in bytes. It was not read.
    TooLarge(u64),
    /// Something that is not a regular file.
    Other(FileType),
    /// It is there but cannot be read; the reason is one line.
    Unreadable(String),
}

impl FileState {
    /// The digest of the content, if this is a regular file.
    #[must_use]
    pub const fn digest(&self) -> Option<Sha256> {
        match self {
            Self::Regular(file) => Some(file.sha256),
            _ => None,
        }
    }
}

impl std::fmt::Display for FileType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Symlink => "a symbolic link",
            Self::Directory => "a directory",
            Self::Special => "a device, socket or FIFO",
        })
    }
}

/// A directory that the agent places files in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ManagedDir {
    /// `binDir`.
    Bin,
    /// `confDir`.
    Conf,
}
