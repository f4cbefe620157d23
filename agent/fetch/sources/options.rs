//! What a download needs beside the artifact.

use std::io::{self, Read};
use std::path::PathBuf;

use super::health::Health;
use crate::config;
use crate::fetch::local_files::FileSource;
use crate::model::Pin;
use crate::retry::{RoundsPolicy, Spread};

/// What a download needs beside the artifact.
pub struct Means<'a> {
    /// Time limits, sizes, rounds and trust.
    pub settings: &'a config::FetchSettings,
    /// Directories that are asked before any source, by digest.
    pub seeds: &'a [PathBuf],
    /// Whether everything but seeds and `file://` sources is left alone.
    pub offline: bool,
    /// Opens this machine's files: on threads of their own, since a mount may hang.
    pub files: &'static dyn FileSource,
    /// Which servers were found dead.
    pub health: &'a Health,
    /// Who watches; `&()` for nobody.
    pub progress: &'a dyn Progress,
    /// The pauses between rounds.
    pub rounds: RoundsPolicy,
    /// Who keeps copies of what was proven; `None` for nobody.
    pub keep: Option<&'a dyn Keep>,
    /// What spreads them over a cluster's nodes.
    pub spread: &'a Spread,
}

/// Keeps copies of what was downloaded.
pub trait Keep {
    /// Takes all of something, once it was proven as far as it can be.
    ///
    /// # Errors
    /// As the kernel gives them; the download then fails.
    fn keep(&self, what: Kept<'_>, bytes: &mut dyn Read) -> io::Result<()>;
}

/// What a copy is known by.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    /// Its digest, which matched.
    Blob(&'a Pin),
    /// The URL that it is declared by; nothing was proven.
    Url(&'a str),
}

/// Somebody who watches a download, such as a progress bar.
pub trait Progress {
    /// `position` bytes are here of `total`, where that is known. A restart from zero shows as a fall.
    fn moved(&self, position: u64, total: Option<u64>);
}

/// Nobody watches.
impl Progress for () {
    fn moved(&self, _position: u64, _total: Option<u64>) {}
}
