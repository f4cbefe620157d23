//! From a verified artifact to its wanted members.
//!
//! Inflating takes most of the time, so it has a thread to itself; what is done with what it gave goes on
//! beside it, over a handful of buffers that travel back and forth.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::content::FetchedContent;
use super::error::ArchiveError;
use super::handover::{BUFFER_SIZE, BUFFERS, MemberSender, MemberStep};
use super::limits::UnpackLimits;
use super::scan::{WantedFile, scan_content};
use crate::fetch::spool::DownloadSpool;
use crate::model::{Artifact, Member, Sha256};

/// Takes the wanted members, one after the other.
///
/// Nothing may be published before [`read_members`] has returned `Ok`: an archive may turn out to be damaged at its
/// end.
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

/// Reads the members of `artifact` out of its verified bytes, which are an archive or layers of an image, into
/// `sink`. Blocks.
///
/// - Only wanted paths are read, and only regular files are taken.
/// - The archive's owners, modes, links and directories are ignored; the links of an image were followed when it was
///   gathered.
/// - Everything is read to the end, so that damage is found.
/// - Several gzip members in a row are one stream, as for gzip itself; anything else after the end is refused.
///
/// # Errors
/// See [`ArchiveError`]. What the sink took until then must be discarded.
pub fn read_members<S: DownloadSpool>(
    content: FetchedContent<S>,
    artifact: &Artifact,
    limits: &UnpackLimits,
    sink: &mut dyn MemberSink,
) -> Result<(), ArchiveError> {
    let wanted = WantedFile::list_for(artifact, &content);
    let (steps, arriving) = channel();
    let (returned, spare) = channel();
    for _ in 0..BUFFERS {
        // The other end is in this very function.
        let _ = returned.send(vec![0; BUFFER_SIZE]);
    }
    let sender = MemberSender { steps, spare };
    thread::scope(|scope| {
        let inflating = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, || {
                scan_content(content, artifact, &wanted, limits, sender)
            })
            .map_err(ArchiveError::Thread)?;
        let delivered = deliver_members(&arriving, &returned, &wanted, sink);
        // With nobody to take or give buffers, the other thread ends.
        drop((arriving, returned));
        let scanned = inflating
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        delivered.and(scanned)
    })
}

/// Passes on what arrives until the inflating thread is done.
fn deliver_members(
    arriving: &Receiver<MemberStep>,
    returned: &Sender<Vec<u8>>,
    wanted: &[WantedFile<'_>],
    sink: &mut dyn MemberSink,
) -> Result<(), ArchiveError> {
    let mut index = 0;
    for step in arriving {
        let kept = match step {
            MemberStep::Begin(next, size) => {
                index = next;
                sink.begin(&wanted[index].members, size)
            }
            MemberStep::Bytes(buffer) => {
                let written = sink.write(&buffer);
                // If the other side is done, it needs no more buffers.
                let _ = returned.send(buffer);
                written
            }
            MemberStep::End => match sink.end() {
                Ok(digest) => {
                    wanted[index].verify_pins(digest)?;
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
