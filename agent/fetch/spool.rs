//! Where the bytes of a download go: a file, or memory for what is small.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

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
#[derive(Debug, Default)]
pub(in crate::fetch) struct MemorySpool(Cursor<Vec<u8>>);

impl MemorySpool {
    pub(in crate::fetch) fn into_content(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

impl Read for MemorySpool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for MemorySpool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemorySpool {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl DownloadSpool for MemorySpool {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.0.get_mut().truncate(length);
        Ok(())
    }
}
