//! The ways in which a file on the disk differs from its declaration.

use std::fmt;

use super::{FileMode, FileType, Owner, Sha256, label_enum};

label_enum! {
    /// The kinds of drift, each with the one spelling that logs, metrics and scripts see.
    pub enum DriftKind {
        /// A declared file is not there.
        Missing = "missing",
        /// A declared file has another content.
        Content = "content",
        /// A declared file has other permission bits.
        Mode = "mode",
        /// A declared file belongs to somebody else.
        Owner = "owner",
        /// A declared file has a set-uid, set-gid or sticky bit.
        Suid = "suid",
        /// A declared file has file capabilities.
        Capability = "capability",
        /// A declared file has an ACL that lets others write.
        Acl = "acl",
        /// A declared file is immutable or append-only.
        Flags = "flags",
        /// Something that is not a regular file has the name of a declared one.
        Type = "type",
        /// A declared file cannot be read.
        Unreadable = "unreadable",
        /// A declared file is there, and its digest is not known yet.
        Unrecorded = "unrecorded",
        /// A whole directory is not there.
        DirMissing = "dir-missing",
        /// A foreign conflist sorts before ours, so that the runtime uses its network.
        Shadowed = "shadowed",
        /// A foreign conflist sorts before ours and does not load, so that the runtime loads none.
        RuntimeBlocked = "runtime-blocked",
        /// libcni merges a foreign file into our network.
        DropIn = "dropin",
        /// A kind that only a newer agent knows.
        #[serde(other)]
        Unknown = "unknown",
    }
}

impl DriftKind {
    /// Whether it is about mode or owner, or about attributes.
    #[must_use]
    pub const fn is_metadata(self) -> bool {
        matches!(self, Self::Mode | Self::Owner | Self::Suid) || self.is_attribute()
    }

    /// Whether it is about something that a file has and must not have: capabilities, an ACL, flags.
    #[must_use]
    pub const fn is_attribute(self) -> bool {
        matches!(self, Self::Capability | Self::Acl | Self::Flags)
    }

    /// Whether it is about a foreign conflist that sorts before ours, which `drift.foreignConflists` decides about.
    #[must_use]
    pub const fn is_foreign_conflist(self) -> bool {
        matches!(self, Self::Shadowed | Self::RuntimeBlocked)
    }

    /// Whether it is about a file that nobody declared.
    #[must_use]
    pub const fn is_foreign_file(self) -> bool {
        self.is_foreign_conflist() || matches!(self, Self::DropIn)
    }
}

/// How one file differs from its declaration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum Difference {
    /// It is not there.
    Missing,
    /// Its content is not the declared one.
    Content {
        /// The declared digest.
        expected: Sha256,
        /// The digest found.
        actual: Sha256,
    },
    /// It is larger than it may be, so it was not read.
    Size {
        /// The size found, in bytes.
        actual: u64,
    },
    /// Its permission bits are not the declared ones.
    Mode {
        /// The declared bits.
        expected: FileMode,
        /// The bits found, in octal.
        actual: String,
    },
    /// It belongs to somebody else.
    Owner {
        /// The enforced owner.
        expected: Owner,
        /// The owner found.
        actual: Owner,
    },
    /// It has a set-uid, set-gid or sticky bit; the bits found, in octal.
    Suid {
        /// The bits found, in octal.
        actual: String,
    },
    /// It has file capabilities.
    Capability,
    /// Its access ACL lets others write.
    Acl,
    /// It is immutable or append-only.
    Flags,
    /// It is not a regular file.
    Type {
        /// What it is instead.
        actual: FileType,
    },
    /// It is there but cannot be read.
    Unreadable {
        /// The kernel's reason.
        reason: String,
    },
    /// It is there, but its digest is not known: its artifact has not been fetched here yet.
    Unrecorded,
}

impl Difference {
    /// Which kind of drift it is.
    #[must_use]
    pub const fn kind(&self) -> DriftKind {
        match self {
            Self::Missing => DriftKind::Missing,
            Self::Content { .. } | Self::Size { .. } => DriftKind::Content,
            Self::Mode { .. } => DriftKind::Mode,
            Self::Owner { .. } => DriftKind::Owner,
            Self::Suid { .. } => DriftKind::Suid,
            Self::Capability => DriftKind::Capability,
            Self::Acl => DriftKind::Acl,
            Self::Flags => DriftKind::Flags,
            Self::Type { .. } => DriftKind::Type,
            Self::Unreadable { .. } => DriftKind::Unreadable,
            Self::Unrecorded => DriftKind::Unrecorded,
        }
    }

    /// Whether the content is right and only mode and owner have to be set, and attributes to be removed.
    #[must_use]
    pub const fn is_metadata(&self) -> bool {
        self.kind().is_metadata()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Content { expected, actual } => {
                write!(
                    f,
                    "has sha256 {}, expected {}",
                    actual.short(),
                    expected.short()
                )
            }
            Self::Size { actual } => write!(f, "has {actual} bytes, more than it may have"),
            Self::Mode { expected, actual } => write!(f, "has mode {actual}, expected {expected}"),
            Self::Owner { expected, actual } => write!(
                f,
                "belongs to {}:{}, expected {}:{}",
                actual.uid, actual.gid, expected.uid, expected.gid
            ),
            Self::Suid { actual } => write!(f, "has mode {actual}: set-uid, set-gid or sticky"),
            Self::Capability => {
                f.write_str("has file capabilities (getcap), which whoever runs it gets")
            }
            Self::Acl => f.write_str("has an ACL that lets others write (getfacl)"),
            Self::Flags => f.write_str("is immutable or append-only (lsattr)"),
            Self::Type {
                actual: actual @ FileType::Directory,
            } => write!(
                f,
                "is {actual}, expected a regular file; a directory is never removed, move it away"
            ),
            Self::Type { actual } => write!(f, "is {actual}, expected a regular file"),
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
            Self::Unrecorded => f.write_str(
                "is there, but what it must be is not known before its artifact is fetched",
            ),
        }
    }
}
