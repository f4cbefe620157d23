//! From a verified artifact to its wanted members.
//!
//! Inflating takes most of the time, so it has a thread to itself; what is done with what it gave goes on
//! beside it, over a handful of buffers that travel back and forth.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::elf::NotAPlugin;
use super::fetched::Fetched;
use super::limits::{Cap, Limits};
use super::scan;
use super::scan::Wanted;
use crate::fetch::spool::Spool;
use crate::model::{Artifact, FailureKind, Member, Pin, Sha256};

/// Buffers between the two threads, and the size of each: large enough that handing over costs nothing.
const BUFFERS: usize = 4;
const BUFFER: usize = 64 << 10;

/// Takes the wanted members, one after the other.
///
/// Nothing that it took may be published before [`read_members`] has returned `Ok`: an archive may prove bad at
/// its very end.
pub trait MemberSink {
    /// A file of `size` bytes begins. `plugins` are what it becomes: mostly one, more where one member is
    /// installed under several names, as Calico's is.
    ///
    /// # Errors
    /// As the kernel gives them; the archive is then given up.
    fn begin(&mut self, plugins: &[&Member], size: u64) -> io::Result<()>;

    /// The next bytes of it.
    ///
    /// # Errors
    /// As the kernel gives them; the archive is then given up.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// It is complete, and is a plugin for the architecture asked for. Returns the digest of what was
    /// written, which is then compared with the member's own pin if it has one.
    ///
    /// # Errors
    /// As the kernel gives them; the archive is then given up.
    fn end(&mut self) -> io::Result<Sha256>;
}

/// Why an archive, whose digest was right, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not an archive of its format, damaged, or with something after its end.
    #[error(
        "the archive cannot be read: {0}; check that the pin is of a good file and that format is right"
    )]
    Unreadable(#[source] io::Error),
    /// It costs more than it may.
    #[error("the archive is refused: {0}")]
    Exceeds(#[from] Cap),
    /// Its headers can be read in two ways.
    #[error("the archive is refused: {0}, which tools read in different ways")]
    Ambiguous(&'static str),
    /// A wanted member is not a regular file.
    #[error("'{path}' in the archive is {kind}, not a regular file")]
    NotAFile {
        /// Its path in the archive.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A wanted member is in it twice.
    #[error("'{0}' is in the archive more than once")]
    Twice(String),
    /// Wanted members are not in it.
    #[error("the archive has no {}; it holds {there}", quoted(paths))]
    Missing {
        /// Their paths.
        paths: Vec<String>,
        /// What is there, shortened.
        there: String,
    },
    /// Wanted files are not in the image.
    #[error("the image has no {}; {there}", quoted(paths))]
    NotInImage {
        /// Their paths.
        paths: Vec<String>,
        /// What is near them, shortened.
        there: String,
    },
    /// Links lead on and on.
    #[error("'{0}' in the image leads through more links than Linux follows")]
    Links(String),
    /// A layer of an image is at fault.
    #[error("layer {layer} of the image: {source}")]
    Layer {
        /// Its digest.
        layer: Pin,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// A layer of an image holds neither files nor is one.
    #[error(
        "it is neither a tar nor a file with a name (org.opencontainers.image.title); encrypted layers cannot be read"
    )]
    Nameless,
    /// A wanted member cannot run here.
    #[error("'{path}' in the archive cannot be a plugin here: {source}")]
    NotAPlugin {
        /// Its path in the archive.
        path: String,
        /// Why.
        #[source]
        source: NotAPlugin,
    },
    /// A wanted member has a pin of its own and does not match it.
    #[error(
        "'{path}' in the archive is not the pinned one: expected sha256:{expected}, got sha256:{actual}"
    )]
    Digest {
        /// Its path in the archive.
        path: String,
        /// The member's pin.
        expected: Sha256,
        /// What is there.
        actual: Sha256,
    },
    /// The sink cannot take it.
    #[error("cannot keep '{path}': {source}")]
    Sink {
        /// The member's path in the archive.
        path: String,
        /// As the sink gave it.
        #[source]
        source: io::Error,
    },
    /// The node gives no thread.
    #[error(
        "cannot start a thread to unpack: {0}; raise the limit on processes (pids.max, ulimit -u)"
    )]
    Thread(#[source] io::Error),
}

impl ArchiveError {
    /// The kind for metrics and machine-readable output.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unreadable(_) => FailureKind::Archive,
            Self::Exceeds(_) => FailureKind::ArchiveTooLarge,
            Self::Ambiguous(_) => FailureKind::ArchiveAmbiguous,
            Self::NotAFile { .. } => FailureKind::MemberType,
            Self::Twice(_) => FailureKind::MemberTwice,
            Self::Missing { .. } | Self::NotInImage { .. } => FailureKind::MemberMissing,
            Self::Links(_) => FailureKind::MemberLinks,
            Self::Layer { source, .. } => source.kind(),
            Self::Nameless => FailureKind::LayerNameless,
            Self::NotAPlugin { .. } => FailureKind::MemberNotAPlugin,
            Self::Digest { .. } => FailureKind::MemberDigest,
            Self::Sink { .. } => FailureKind::Io,
            Self::Thread(_) => FailureKind::Thread,
        }
    }

    /// From an error that reading gave, in which a cap may be.
    pub(in crate::fetch) fn of(error: io::Error) -> Self {
        match Cap::within(&error) {
            Some(cap) => Self::Exceeds(cap),
            None => Self::Unreadable(error),
        }
    }

    /// The same, told of a layer.
    pub(in crate::fetch) fn in_layer(self, layer: Pin) -> Self {
        Self::Layer {
            layer,
            source: Box::new(self),
        }
    }
}

/// Reads the members of `artifact` out of its verified bytes, which are an archive or layers of an image, into
/// `sink`. Blocks.
///
/// Only wanted paths are looked at, and only regular files are taken. The archive's owners, modes, links and
/// directories mean nothing here; those of an image did their part when it was gathered. All is read to its very
/// end, so that a damaged one is found. Several gzip members in a row are one stream, as for gzip itself; anything
/// else after the end is refused.
///
/// # Errors
/// See [`ArchiveError`]. What the sink took until then must be discarded.
pub fn read_members<S: Spool>(
    fetched: impl Into<Fetched<S>>,
    artifact: &Artifact,
    limits: &Limits,
    sink: &mut dyn MemberSink,
) -> Result<(), ArchiveError> {
    let fetched = fetched.into();
    let wanted = Wanted::of(artifact, &fetched);
    let (steps, arriving) = channel();
    let (returned, spare) = channel();
    for _ in 0..BUFFERS {
        // The other end is in this very function.
        let _ = returned.send(vec![0; BUFFER]);
    }
    let feed = Feed { steps, spare };
    thread::scope(|scope| {
        let inflating = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, || {
                scan::scan(fetched, artifact, &wanted, limits, feed)
            })
            .map_err(ArchiveError::Thread)?;
        let delivered = deliver(&arriving, &returned, &wanted, sink);
        // With nobody to take or give buffers, the other thread ends.
        drop((arriving, returned));
        let scanned = inflating
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        delivered.and(scanned)
    })
}

/// What the inflating thread hands over.
pub(in crate::fetch) enum Step {
    /// The wanted file of this index begins and has this size.
    Begin(usize, u64),
    /// Its next bytes.
    Bytes(Vec<u8>),
    /// It is complete.
    End,
}

/// The inflating thread's end.
pub(in crate::fetch) struct Feed {
    steps: Sender<Step>,
    spare: Receiver<Vec<u8>>,
}

/// The receiving side gave up; it has the reason.
#[derive(Debug)]
pub(in crate::fetch) struct HungUp;

impl Feed {
    /// An empty buffer of full capacity; waits until the other side has written one out.
    pub(in crate::fetch) fn buffer(&self) -> Result<Vec<u8>, HungUp> {
        let mut buffer = self.spare.recv().map_err(|_| HungUp)?;
        buffer.resize(BUFFER, 0);
        Ok(buffer)
    }

    pub(in crate::fetch) fn send(&self, step: Step) -> Result<(), HungUp> {
        self.steps.send(step).map_err(|_| HungUp)
    }
}

/// Passes on what arrives until the inflating thread is done.
fn deliver(
    arriving: &Receiver<Step>,
    returned: &Sender<Vec<u8>>,
    wanted: &[Wanted<'_>],
    sink: &mut dyn MemberSink,
) -> Result<(), ArchiveError> {
    let mut index = 0;
    for step in arriving {
        let kept = match step {
            Step::Begin(next, size) => {
                index = next;
                sink.begin(&wanted[index].members, size)
            }
            Step::Bytes(buffer) => {
                let written = sink.write(&buffer);
                // If the other side is done, it needs no more buffers.
                let _ = returned.send(buffer);
                written
            }
            Step::End => match sink.end() {
                Ok(digest) => {
                    wanted[index].prove(digest)?;
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        kept.map_err(|source| ArchiveError::Sink {
            path: wanted[index].path.clone(),
            source,
        })?;
    }
    Ok(())
}

fn quoted(paths: &[String]) -> String {
    paths
        .iter()
        .map(|path| format!("'{path}'"))
        .collect::<Vec<_>>()
        .join(", ")
}
