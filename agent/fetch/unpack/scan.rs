//! Reads an artifact to its end and sends the wanted files to the thread that writes them.
//!
//! A handful of buffers travel back and forth between the two threads.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender};

use super::content::FetchedArtifact;
use super::elf::{PLUGIN_HEADER_SIZE, check_plugin_header};
use super::error::ArchiveError;
use super::layer::{Layer, LayerContent};
use super::limits::{LimitExceeded, UnpackLimits};
use super::names::NameListing;
use super::tar_entries::{TarEntryKind, for_each_entry, normalize_image_path, normalize_path};
use crate::fetch::spool::DownloadSpool;
use crate::model::{Arch, Artifact, Format, Member, Sha256};

/// How many buffers there are.
pub(super) const BUFFERS: usize = 4;
/// The size of each in bytes: large enough that handing it over costs nothing.
const BUFFER_SIZE: usize = 64 << 10;

/// A path that is wanted, and the plugins that it becomes.
pub(super) struct WantedFile<'a> {
    pub(super) path: String,
    /// Which of the image's layers it is in; an archive is a single one.
    layer: usize,
    pub(super) members: Vec<&'a Member>,
}

impl<'a> WantedFile<'a> {
    /// The distinct files that an artifact's members are. A raw artifact is one file, whatever its members' paths
    /// say; where the files of an image are was found out before.
    pub(super) fn list_for<S>(artifact: &'a Artifact, fetched: &FetchedArtifact<S>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, member) in artifact.members.iter().enumerate() {
            let (layer, path) = match artifact.format {
                Format::Image => match fetched.files.get(index) {
                    Some(file) => (file.layer, file.path.clone()),
                    None => (usize::MAX, member.path.clone()),
                },
                Format::Raw => (0, artifact.name.clone()),
                Format::Tar | Format::TarGz => {
                    let path = normalize_path(member.path.as_bytes());
                    (0, path.unwrap_or_else(|| member.path.clone()))
                }
            };
            let same = |wanted: &&mut Self| wanted.layer == layer && wanted.path == path;
            match all.iter_mut().find(same) {
                Some(wanted) => wanted.members.push(member),
                None => all.push(Self {
                    path,
                    layer,
                    members: vec![member],
                }),
            }
        }
        all
    }

    /// Compares with the members' own pins, where they have one.
    pub(super) fn verify_pins(&self, actual: Sha256) -> Result<(), ArchiveError> {
        let pins = self.members.iter().filter_map(|member| member.sha256);
        match pins.into_iter().find(|pin| *pin != actual) {
            Some(expected) => Err(ArchiveError::Digest {
                path: self.path.clone(),
                expected,
                actual,
            }),
            None => Ok(()),
        }
    }
}

/// The next bytes of a wanted file.
pub(super) struct MemberChunk {
    /// The index of the file. Files come one after the other.
    pub(super) file: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) is_last: bool,
}

/// A reading of all layers.
pub(super) struct MemberScan<'a> {
    wanted: &'a [WantedFile<'a>],
    /// Which of them were met.
    found: Vec<bool>,
    /// What an archive holds, for the message about a file that is missing.
    there: NameListing,
    limits: &'a UnpackLimits,
    format: Format,
    arch: Arch,
    chunks: Sender<MemberChunk>,
    /// Buffers that were written out.
    buffers: Receiver<Vec<u8>>,
}

impl<'a> MemberScan<'a> {
    pub(super) fn new(
        artifact: &Artifact,
        wanted: &'a [WantedFile<'a>],
        limits: &'a UnpackLimits,
        chunks: Sender<MemberChunk>,
        buffers: Receiver<Vec<u8>>,
    ) -> Self {
        Self {
            wanted,
            found: vec![false; wanted.len()],
            there: NameListing::default(),
            limits,
            format: artifact.format,
            arch: artifact.arch,
            chunks,
            buffers,
        }
    }

    /// Reads every layer to its end.
    pub(super) fn send_members<S: DownloadSpool>(
        mut self,
        fetched: FetchedArtifact<S>,
    ) -> Result<(), ArchiveError> {
        let mut spent = 0;
        for (index, mut layer) in fetched.layers.into_iter().enumerate() {
            let scanned = self.scan_layer(index, &mut layer, spent);
            scanned.map_err(|error| match self.format {
                Format::Image => error.in_layer(layer.pin),
                Format::Raw | Format::Tar | Format::TarGz => error,
            })?;
            spent += layer.unpacked;
        }
        let missing = self.wanted.iter().zip(&self.found);
        let missing: Vec<String> = missing
            .filter(|(_, found)| !**found)
            .map(|(wanted, _)| wanted.path.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ArchiveError::Missing {
            paths: missing,
            there: self.there.to_string(),
        })
    }

    fn scan_layer<S: DownloadSpool>(
        &mut self,
        index: usize,
        layer: &mut Layer<S>,
        spent: u64,
    ) -> Result<(), ArchiveError> {
        let (size, max_entries) = (layer.unpacked, layer.max_entries(self.limits));
        let normalize = match self.format {
            Format::Image => normalize_image_path,
            Format::Raw | Format::Tar | Format::TarGz => normalize_path,
        };
        match layer.open_content(self.limits, spent)? {
            LayerContent::Tar(bytes) => for_each_entry(bytes, max_entries, |entry, content| {
                let Some(path) = normalize(entry.name) else {
                    return Ok(());
                };
                self.there.add_name(&path, entry.kind);
                self.send_if_wanted(index, path, entry.kind, entry.size, content)
            }),
            LayerContent::File { path, mut bytes } => {
                self.send_if_wanted(index, path, TarEntryKind::File, size, &mut bytes)
            }
        }
    }

    /// Sends a file of exactly `size` bytes if it is wanted.
    fn send_if_wanted(
        &mut self,
        layer: usize,
        path: String,
        kind: TarEntryKind<'_>,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let mut wanted = self.wanted.iter();
        let Some(file) = wanted.position(|file| file.layer == layer && file.path == path) else {
            return Ok(());
        };
        if std::mem::replace(&mut self.found[file], true) {
            return Err(ArchiveError::Twice(path));
        }
        if kind != TarEntryKind::File {
            let kind = kind.describe();
            return Err(ArchiveError::NotAFile { path, kind });
        }
        if size > self.limits.entry {
            return Err(LimitExceeded::Entry(self.limits.entry).into());
        }
        let mut left = size;
        loop {
            let mut bytes = self.buffers.recv().map_err(|_| writer_is_gone())?;
            bytes.resize(
                usize::try_from(left).map_or(BUFFER_SIZE, |left| left.min(BUFFER_SIZE)),
                0,
            );
            content
                .read_exact(&mut bytes)
                .map_err(ArchiveError::from_io)?;
            if left == size {
                let head = &bytes[..bytes.len().min(PLUGIN_HEADER_SIZE)];
                check_plugin_header(head, self.arch).map_err(|source| {
                    ArchiveError::NotAPlugin {
                        path: path.clone(),
                        source,
                    }
                })?;
            }
            left -= bytes.len() as u64;
            let chunk = MemberChunk {
                file,
                bytes,
                is_last: left == 0,
            };
            self.chunks.send(chunk).map_err(|_| writer_is_gone())?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// Ends the reading. Nobody sees this error: the thread that writes ended before, and has the reason.
fn writer_is_gone() -> ArchiveError {
    ArchiveError::Unreadable(io::ErrorKind::BrokenPipe.into())
}
