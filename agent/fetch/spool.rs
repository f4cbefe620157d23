//! Where the bytes of a download go: a file, or memory for what is small.

use std::io::{self, Cursor, Read, Seek, Write};

use crate::host;

/// Where the bytes of an artifact go until they are verified and read; starts out empty.
///
/// The agent's own is an unlinked temporary file, which no crash can leave behind.
pub trait DownloadSpool: Read + Write + Seek + Send + 'static {
    /// Cuts it to `length` bytes, as `ftruncate(2)` does: the position stays where it is.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl DownloadSpool for host::SpoolFile {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        Self::truncate(self, length)
    }
}

/// Keeps what comes in memory.
pub(in crate::fetch) type MemorySpool = Cursor<Vec<u8>>;

impl DownloadSpool for MemorySpool {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.get_mut().truncate(length);
        Ok(())
    }
}
