//! From a verified artifact to its wanted members.
//!
//! Inflating takes most of the time, so it has a thread to itself; what it gives is written beside it.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::content::FetchedArtifact;
use super::error::ArchiveError;
use super::limits::UnpackLimits;
use super::scan::{BUFFERS, MemberChunk, MemberScan, WantedFile};
use crate::fetch::spool::DownloadSpool;
use crate::model::{Artifact, Member, Sha256};

/// Reads the members of `artifact` out of its verified bytes, which are an archive or layers of an image. Each is
/// written to a file that `new_file` makes. A complete file goes to `keep`, with what it becomes: mostly one plugin,
/// more where one member is installed under several names, as Calico's is. `keep` returns the file's digest, which is
/// then compared with the member's own pin if it has one. Blocks.
///
/// - Only wanted paths are read, and only regular files are taken.
/// - The archive's owners, modes, links and directories are ignored; the links of an image were followed when it was
///   gathered.
/// - Everything is read to the end, so that damage is found. Nothing may be published before this returned `Ok`.
/// - Several gzip members in a row are one stream, as for gzip itself; anything else after the end is refused.
///
/// # Errors
/// See [`ArchiveError`]. What was kept until then must be discarded.
pub fn read_members<S: DownloadSpool, F: Write>(
    fetched: FetchedArtifact<S>,
    artifact: &Artifact,
    limits: &UnpackLimits,
    new_file: impl FnMut() -> io::Result<F>,
    keep: impl FnMut(&[&Member], F) -> io::Result<Sha256>,
) -> Result<(), ArchiveError> {
    let wanted = WantedFile::list_for(artifact, &fetched);
    let (chunks, arriving) = channel();
    let (written, buffers) = channel();
    for _ in 0..BUFFERS {
        // The other end is in this very function.
        let _ = written.send(Vec::new());
    }
    let scan = MemberScan::new(artifact, &wanted, limits, chunks, buffers);
    thread::scope(|scope| {
        let inflating = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, || scan.send_members(fetched))
            .map_err(ArchiveError::Thread)?;
        let kept = write_members(arriving, &written, &wanted, new_file, keep);
        // With nobody to take or give buffers, the other thread ends.
        drop(written);
        let scanned = inflating
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        kept.and(scanned)
    })
}

/// Writes what arrives until the inflating thread is done.
fn write_members<F: Write>(
    arriving: Receiver<MemberChunk>,
    written: &Sender<Vec<u8>>,
    wanted: &[WantedFile<'_>],
    mut new_file: impl FnMut() -> io::Result<F>,
    mut keep: impl FnMut(&[&Member], F) -> io::Result<Sha256>,
) -> Result<(), ArchiveError> {
    let mut open = None;
    for chunk in arriving {
        let wanted = &wanted[chunk.file];
        let sink_error = |source| ArchiveError::Sink {
            path: wanted.path.clone(),
            source,
        };
        let mut file = open
            .take()
            .map_or_else(&mut new_file, Ok)
            .map_err(sink_error)?;
        file.write_all(&chunk.bytes).map_err(sink_error)?;
        // If the other thread is done, it needs no more buffers.
        let _ = written.send(chunk.bytes);
        if chunk.is_last {
            let digest = keep(&wanted.members, file).map_err(sink_error)?;
            wanted.verify_pins(digest)?;
        } else {
            open = Some(file);
        }
    }
    Ok(())
}
