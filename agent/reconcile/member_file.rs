//! A member of an artifact while it is unpacked. Where memory has no room for it, it is only counted, so that the message
//! can say how much is needed.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256 as Hasher};

use crate::host::{MemoryLimitError, Temp};
use crate::model::Sha256;

/// A member that is being written.
pub(super) enum MemberFile {
    /// It is kept.
    Kept(Temp),
    /// The memory limit leaves no room for it.
    Counted {
        hasher: Hasher,
        /// How many bytes it has so far.
        size: u64,
        refused: MemoryLimitError,
    },
}

/// What members need in memory, and what they lack there.
#[derive(Debug, Default)]
pub(super) struct MemoryNeed {
    /// How many bytes all members have.
    pub(super) total: u64,
    /// How many bytes those have that were only counted.
    pub(super) lacking: u64,
    /// What the first of them met.
    pub(super) refused: Option<MemoryLimitError>,
}

impl MemoryNeed {
    /// Adds a complete member. Returns its temp if it is kept, and its digest otherwise.
    pub(super) fn add(&mut self, member: MemberFile) -> Result<Temp, Sha256> {
        match member {
            MemberFile::Kept(temp) => {
                self.total += temp.size();
                Ok(temp)
            }
            MemberFile::Counted {
                hasher,
                size,
                refused,
            } => {
                self.total += size;
                self.lacking += size;
                self.refused.get_or_insert(refused);
                Err(Sha256::from_bytes(hasher.finalize().into()))
            }
        }
    }
}

impl Write for MemberFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Kept(temp) => match temp.write(bytes) {
                Err(error) if let Some(refused) = find_refusal(&error) => {
                    // The temp is removed, which frees its memory.
                    *self = Self::Counted {
                        hasher: temp.hasher().clone(),
                        size: temp.size(),
                        refused,
                    };
                    self.write(bytes)
                }
                written => written,
            },
            Self::Counted { hasher, size, .. } => {
                hasher.update(bytes);
                *size += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn find_refusal(error: &io::Error) -> Option<MemoryLimitError> {
    error.get_ref()?.downcast_ref().copied()
}
