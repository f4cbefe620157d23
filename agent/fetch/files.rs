//! The two ends of a download on a real machine.

use std::io::{self, Read};
use std::path::Path;

use super::{FileSource, Spool};
use crate::host::{self, Host};

impl Spool for host::Spool {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        Self::truncate(self, length)
    }
}

/// Opens files at this machine's own root: `--host-root` is not for them, since a bundle, a secret or an authority lies
/// beside the agent and not on the host.
#[derive(Debug, Clone, Copy)]
pub struct LocalFiles;

impl FileSource for LocalFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let machine = Host::open(Path::new("/")).map_err(|error| error.source)?;
        let reader = machine.reader(path).map_err(|error| error.source)?;
        Ok(Box::new(reader))
    }
}
