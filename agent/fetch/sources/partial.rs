//! The blocking side of a download: bytes into the spool and through the hasher, and the proof at the end.

use std::io::{self, Read, SeekFrom};

use bytes::Bytes;
use sha2::Digest;
use tokio::sync::mpsc;

use super::error::{Failure, Tried, WrongDigest};
use crate::fetch::http::range::Validator;
use crate::fetch::spool::Spool;
use crate::model::Pin;

/// How much of a local file is read at once.
const BLOCK: usize = 256 << 10;

/// The bytes of an artifact whose pinned digest matched. Only a download makes one, so whoever holds one may
/// decompress it.
#[derive(Debug)]
pub struct Verified<S> {
    spool: S,
    bytes: u64,
    source: String,
    tried: Vec<Tried>,
}

impl<S> Verified<S> {
    /// How many bytes it has.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The source that gave it, without user information and query.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What failed before that one.
    #[must_use]
    pub fn tried(&self) -> &[Tried] {
        &self.tried
    }

    /// The same, handed over.
    pub(in crate::fetch) fn take_tried(&mut self) -> Vec<Tried> {
        std::mem::take(&mut self.tried)
    }

    /// The same, after these failures.
    pub(in crate::fetch) fn after(self, tried: Vec<Tried>) -> Self {
        Self { tried, ..self }
    }

    /// The bytes, to be read from the start once more.
    pub(in crate::fetch) fn rewound(&mut self) -> io::Result<&mut S>
    where
        S: Spool,
    {
        self.spool.seek(SeekFrom::Start(0))?;
        Ok(&mut self.spool)
    }

    /// The bytes, read from the start.
    pub(in crate::fetch) fn into_spool(self) -> S {
        self.spool
    }
}

/// What came of complete bytes.
pub(in crate::fetch) enum Judged<T, S> {
    /// They are what they should be.
    Right(T),
    /// They are not, for this reason.
    Wrong(Box<Intake<S>>, Failure),
}

/// A part of an artifact, the state of its hasher, and where it came from.
pub(in crate::fetch) struct Intake<S> {
    spool: S,
    pin: Pin,
    hasher: Box<Hasher>,
    position: u64,
    /// The source that the part came from, and how to ask it for the rest.
    held: Option<(usize, Validator)>,
    /// Whether the bytes come from more than one answer.
    joined: bool,
}

enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    fn like(pin: &Pin) -> Box<Self> {
        Box::new(match pin {
            Pin::Sha256(_) => Self::Sha256(sha2::Sha256::new()),
            Pin::Sha512(_) => Self::Sha512(sha2::Sha512::new()),
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Pin {
        match self {
            Self::Sha256(hasher) => Pin::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Pin::Sha512(hasher.finalize().into()),
        }
    }
}

impl<S: Spool> Intake<S> {
    pub(in crate::fetch) fn new(spool: S, pin: Pin) -> Self {
        Self {
            spool,
            pin,
            hasher: Hasher::like(&pin),
            position: 0,
            held: None,
            joined: false,
        }
    }

    /// How many bytes are here.
    pub(in crate::fetch) const fn position(&self) -> u64 {
        self.position
    }

    /// How to ask the source `index` for the rest; `None` where nothing of it is here.
    pub(in crate::fetch) fn held_from(&self, index: usize) -> Option<&Validator> {
        match &self.held {
            Some((from, validator)) if *from == index && self.position > 0 => Some(validator),
            _ => None,
        }
    }

    /// The bytes as they came, proven by nothing.
    pub(in crate::fetch) fn unproven(self) -> S {
        self.spool
    }

    /// Whether the bytes come from more than one answer.
    pub(in crate::fetch) const fn joined(&self) -> bool {
        self.joined
    }

    /// The next bytes come from the start of what `held` names.
    pub(in crate::fetch) fn restart(&mut self, held: Option<(usize, Validator)>) -> io::Result<()> {
        self.spool.seek(SeekFrom::Start(0))?;
        self.spool.truncate(0)?;
        self.hasher = Hasher::like(&self.pin);
        self.position = 0;
        self.held = held;
        self.joined = false;
        Ok(())
    }

    /// The next bytes are the rest, from another answer.
    pub(in crate::fetch) const fn join(&mut self) {
        self.joined = true;
    }

    /// Takes in what comes until the other end hangs up. Blocks.
    pub(in crate::fetch) fn absorb(
        mut self,
        mut chunks: mpsc::Receiver<Bytes>,
    ) -> io::Result<Self> {
        while let Some(chunk) = chunks.blocking_recv() {
            self.take(&chunk)?;
        }
        Ok(self)
    }

    /// Takes in a whole local file of at most `max_size` bytes. Blocks.
    ///
    /// The outer error is the spool's, the inner one the file's.
    pub(in crate::fetch) fn copy(
        mut self,
        mut file: impl Read,
        max_size: u64,
    ) -> io::Result<(Self, Result<(), Failure>)> {
        self.restart(None)?;
        let mut block = vec![0; BLOCK];
        loop {
            let got = match file.read(&mut block) {
                Ok(0) => return Ok((self, Ok(()))),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok((self, Err(Failure::File(error)))),
            };
            if self.position.saturating_add(got as u64) > max_size {
                return Ok((self, Err(Failure::TooLarge { limit: max_size })));
            }
            self.take(&block[..got])?;
        }
    }

    /// Compares the digest of what is here with the pin.
    pub(in crate::fetch) fn judge(mut self, source: String) -> io::Result<Judged<Verified<S>, S>> {
        let bytes = self.position;
        let hasher = std::mem::replace(&mut self.hasher, Hasher::like(&self.pin));
        let actual = hasher.finish();
        if actual != self.pin {
            // Without its hasher's state this part is of no more use.
            self.restart(None)?;
            let wrong = Box::new(WrongDigest {
                bytes,
                expected: self.pin,
                actual,
            });
            return Ok(Judged::Wrong(Box::new(self), Failure::Digest(wrong)));
        }
        self.spool.seek(SeekFrom::Start(0))?;
        Ok(Judged::Right(Verified {
            spool: self.spool,
            bytes,
            source,
            tried: Vec::new(),
        }))
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.spool.write_all(bytes)?;
        self.hasher.update(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::spool::Memory;

    /// What a failed source left must not stay behind a shorter artifact: it was not hashed.
    #[test]
    fn a_verified_spool_holds_the_hashed_bytes_and_no_others() {
        let pin = Pin::Sha256(sha2::Sha256::digest(b"short").into());
        let mut intake = Intake::new(Memory::default(), pin);
        for bytes in [&b"a longer thing"[..], b"short"] {
            let (back, outcome) = intake.copy(bytes, 100).unwrap();
            outcome.unwrap();
            intake = back;
        }
        let Judged::Right(verified) = intake.judge("file:///a".to_owned()).unwrap() else {
            panic!("a wrong digest");
        };
        assert_eq!(verified.bytes(), 5);
        let mut held = Vec::new();
        verified.into_spool().read_to_end(&mut held).unwrap();
        assert_eq!(held, b"short");
    }
}
