//! The files of this machine that a download reads: `file://` sources, seeds, credentials and authorities.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::host::{FileKind, Host};
use crate::model::FileType;

/// Opens the files that `file://` sources name.
pub trait FileSource: Sync {
    /// Opens `path` for reading. It must be a regular file: a pipe could block for ever.
    ///
    /// # Errors
    /// As the kernel gives them.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// As the kernel gives them; [`io::ErrorKind::FileTooLarge`] for a larger one.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = self.open(path)?;
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            let what = format!("it has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        Ok(content)
    }
}

/// Opens files at this machine's own root: `--host-root` is not for them, since a bundle, a secret or an authority lies
/// beside the agent and not on the host.
#[derive(Debug, Clone, Copy)]
pub struct LocalFiles;

impl LocalFiles {
    /// The files of a directory, links included, in the order of their names; nothing else in it.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub(super) fn list_files(self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let machine = Host::open(Path::new("/")).map_err(|error| error.source)?;
        let dir = machine.open_dir(path).map_err(|error| error.source)?;
        let listed = dir.list_entries().map_err(|error| error.source)?;
        let files = listed.into_iter().filter(|entry| {
            matches!(
                entry.kind,
                FileKind::Regular | FileKind::Other(FileType::Symlink)
            )
        });
        Ok(files.map(|entry| path.join(entry.name)).collect())
    }
}

impl FileSource for LocalFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let machine = Host::open(Path::new("/")).map_err(|error| error.source)?;
        let reader = machine.open_file(path).map_err(|error| error.source)?;
        Ok(Box::new(reader))
    }
}
