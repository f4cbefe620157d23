//! The part of a blob that is here: bytes go into the spool and through the hasher.

use std::io::{self, Read, SeekFrom};

use super::options::{CopyKeeper, CopyKey};
use super::source_error::SourceError;
use crate::fetch::http::{HttpError, ResumeValidator};
use crate::fetch::spool::DownloadSpool;
use crate::fetch::verify::{DigestHasher, Verified, verify_digest};
use crate::model::Pin;

/// How much of a local file is read at once.
const FILE_BLOCK: usize = 64 << 10;

/// The part of a blob that is here, the state of its hasher, and where it came from.
pub(in crate::fetch) struct PartialBlob<S> {
    spool: S,
    pin: Pin,
    hasher: Box<DigestHasher>,
    position: u64,
    /// The source that the part came from, and how to ask it for the rest.
    resume: Option<(usize, ResumeValidator)>,
    /// Whether the bytes come from more than one answer.
    is_joined: bool,
}

/// Why an attempt did not give the blob.
pub(in crate::fetch) enum AttemptError<S> {
    /// The source failed. The next attempt gets what is here.
    Source(Box<PartialBlob<S>>, SourceError),
    /// The spool cannot take the bytes, which is final.
    Spool(io::Error),
    /// A copy of what was verified cannot be kept, which is final.
    Copy(io::Error),
}

impl<S> From<io::Error> for AttemptError<S> {
    fn from(error: io::Error) -> Self {
        Self::Spool(error)
    }
}

impl<S> PartialBlob<S> {
    /// Ends an attempt that failed.
    pub(in crate::fetch) fn failed(self, error: impl Into<SourceError>) -> AttemptError<S> {
        AttemptError::Source(Box::new(self), error.into())
    }
}

impl<S: DownloadSpool> PartialBlob<S> {
    pub(in crate::fetch) fn new(spool: S, pin: Pin) -> Self {
        Self {
            spool,
            pin,
            hasher: Box::new(DigestHasher::for_pin(&pin)),
            position: 0,
            resume: None,
            is_joined: false,
        }
    }

    /// How many bytes are here.
    pub(in crate::fetch) const fn position(&self) -> u64 {
        self.position
    }

    /// How to ask the source `index` for the rest; `None` where no part of it is here.
    pub(in crate::fetch) fn resume_from(&self, index: usize) -> Option<&ResumeValidator> {
        match &self.resume {
            Some((from, validator)) if *from == index && self.position > 0 => Some(validator),
            _ => None,
        }
    }

    /// The bytes as they came, verified by nothing.
    pub(in crate::fetch) fn into_unverified(self) -> S {
        self.spool
    }

    /// Whether the bytes come from more than one answer.
    pub(in crate::fetch) const fn is_joined(&self) -> bool {
        self.is_joined
    }

    /// The next bytes come from the start; `resume` says how to ask their source for the rest.
    pub(in crate::fetch) fn restart(
        &mut self,
        resume: Option<(usize, ResumeValidator)>,
    ) -> io::Result<()> {
        self.spool.seek(SeekFrom::Start(0))?;
        self.spool.truncate(0)?;
        *self.hasher = DigestHasher::for_pin(&self.pin);
        self.position = 0;
        self.resume = resume;
        self.is_joined = false;
        Ok(())
    }

    /// The next bytes are the rest, from another answer.
    pub(in crate::fetch) const fn join_rest(&mut self) {
        self.is_joined = true;
    }

    /// Writes the next bytes and hashes them. Blocks.
    pub(in crate::fetch) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.spool.write_all(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes a whole local file of at most `max_size` bytes. Blocks.
    pub(in crate::fetch) fn copy_from(
        mut self,
        mut file: impl Read,
        max_size: u64,
    ) -> Result<Self, AttemptError<S>> {
        self.restart(None)?;
        let mut block = vec![0; FILE_BLOCK];
        loop {
            let got = match file.read(&mut block) {
                Ok(0) => return Ok(self),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(SourceError::File(error))),
            };
            if self.position.saturating_add(got as u64) > max_size {
                return Err(self.failed(HttpError::TooLarge { limit: max_size }));
            }
            self.append(&block[..got])?;
        }
    }

    /// Compares the digest of the bytes with the pin, and gives `keeper` a copy. Where the digests differ, the blob that
    /// is given back is empty again.
    pub(in crate::fetch) fn verify(
        self,
        keeper: Option<&dyn CopyKeeper>,
    ) -> Result<Verified<S>, AttemptError<S>> {
        let pin = self.pin;
        match verify_digest(self.spool, self.position, *self.hasher, pin) {
            Ok(mut verified) => {
                if let Some(keeper) = keeper {
                    let spool = verified.rewound()?;
                    let kept = keeper.keep_copy(CopyKey::Blob(&pin), spool);
                    kept.map_err(AttemptError::Copy)?;
                }
                Ok(verified)
            }
            Err((spool, mismatch)) => {
                let mut blob = Self::new(spool, pin);
                blob.restart(None)?;
                Err(blob.failed(SourceError::Digest(mismatch)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;
    use crate::fetch::spool::MemorySpool;

    /// What a failed source left must not stay behind a shorter artifact: it was not hashed.
    #[test]
    fn a_verified_spool_holds_the_hashed_bytes_and_no_others() {
        let pin = Pin::Sha256(sha2::Sha256::digest(b"short").into());
        let mut blob = PartialBlob::new(MemorySpool::default(), pin);
        for bytes in [&b"a longer thing"[..], b"short"] {
            let Ok(copied) = blob.copy_from(bytes, 100) else {
                panic!("not copied");
            };
            blob = copied;
        }
        let Ok(mut verified) = blob.verify(None) else {
            panic!("a wrong digest");
        };
        assert_eq!(verified.bytes(), 5);
        let mut held = Vec::new();
        verified.rewound().unwrap().read_to_end(&mut held).unwrap();
        assert_eq!(held, b"short");
    }
}
