//! Reads an archive to its end and hands the wanted files over.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::content::{FetchedContent, ImageContent};
use super::elf::{PLUGIN_HEADER_SIZE, check_plugin_header};
use super::error::ArchiveError;
use super::handover::{MemberSender, MemberStep, ReceiverGone};
use super::layer::{Layer, LayerContent};
use super::limits::{CountingReader, LimitExceeded, LimitedReader, PACKED_BUFFER, UnpackLimits};
use super::names::NameListing;
use super::tar_entries::{
    TarEntry, TarEntryKind, for_each_entry, normalize_image_path, normalize_path,
};
use crate::fetch::spool::DownloadSpool;
use crate::fetch::verify::Verified;
use crate::model::{Arch, Artifact, Format, Member, Pin, Sha256};

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
    pub(super) fn list_for<S>(artifact: &'a Artifact, content: &FetchedContent<S>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, member) in artifact.members.iter().enumerate() {
            let (layer, path) = match (content, artifact.format) {
                (FetchedContent::Image(image), _) => match image.files.get(index) {
                    Some(file) => (file.layer, file.path.clone()),
                    None => (usize::MAX, member.path.clone()),
                },
                (FetchedContent::Blob(_), Format::Raw) => (0, artifact.name.clone()),
                (FetchedContent::Blob(_), _) => {
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

/// Why the scan ended early.
enum ScanStop {
    Bad(ArchiveError),
    /// The receiving side ended, and has the reason.
    ReceiverGone,
}

impl From<ArchiveError> for ScanStop {
    fn from(error: ArchiveError) -> Self {
        Self::Bad(error)
    }
}

impl From<ReceiverGone> for ScanStop {
    fn from(_: ReceiverGone) -> Self {
        Self::ReceiverGone
    }
}

/// Reads all that was fetched and hands the wanted files to `sender`.
pub(super) fn scan_content<S: DownloadSpool>(
    content: FetchedContent<S>,
    artifact: &Artifact,
    wanted: &[WantedFile<'_>],
    limits: &UnpackLimits,
    sender: MemberSender,
) -> Result<(), ArchiveError> {
    let mut scan = MemberScan {
        arch: artifact.arch,
        wanted,
        found: vec![false; wanted.len()],
        limits,
        sender,
    };
    let outcome = match content {
        FetchedContent::Blob(bytes) => scan.scan_blob(bytes, artifact.format),
        FetchedContent::Image(image) => scan.scan_image(image),
    };
    match outcome {
        Err(ScanStop::Bad(error)) => Err(error),
        Ok(()) | Err(ScanStop::ReceiverGone) => Ok(()),
    }
}

struct MemberScan<'a> {
    arch: Arch,
    wanted: &'a [WantedFile<'a>],
    /// Which of them were there.
    found: Vec<bool>,
    limits: &'a UnpackLimits,
    sender: MemberSender,
}

impl MemberScan<'_> {
    fn scan_blob<S: DownloadSpool>(
        &mut self,
        bytes: Verified<S>,
        format: Format,
    ) -> Result<(), ScanStop> {
        let size = bytes.bytes();
        let (packed, count) = CountingReader::new(bytes.into_spool());
        match format {
            Format::Raw => self.send_file(0, packed, size),
            Format::Tar => self.scan_tar(LimitedReader::new(packed, count, *self.limits)),
            Format::TarGz => {
                let inflated = MultiGzDecoder::new(BufReader::with_capacity(PACKED_BUFFER, packed));
                self.scan_tar(LimitedReader::new(inflated, count, *self.limits))
            }
            // An image is gathered, which gives its layers.
            Format::Image => {
                Err(ArchiveError::Unreadable(io::ErrorKind::Unsupported.into()).into())
            }
        }
    }

    fn scan_tar(&mut self, bytes: impl Read) -> Result<(), ScanStop> {
        let mut there = NameListing::default();
        for_each_entry(bytes, self.limits.entries, |entry, content| {
            let Some(path) = normalize_path(entry.name) else {
                return Ok(());
            };
            there.add_name(&path, entry.kind);
            self.send_entry(0, path, entry, content)
        })?;
        let missing: Vec<String> = self
            .wanted
            .iter()
            .zip(&self.found)
            .filter(|(_, found)| !**found)
            .map(|(wanted, _)| wanted.path.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(ScanStop::Bad(ArchiveError::Missing {
            paths: missing,
            there: there.to_string(),
        }))
    }

    /// Every file that the search found is there: these are the same verified bytes, which belong to this process.
    fn scan_image<S: DownloadSpool>(&mut self, image: ImageContent<S>) -> Result<(), ScanStop> {
        let mut spent = 0;
        for (index, mut layer) in image.layers.into_iter().enumerate() {
            let (pin, unpacked) = (layer.pin, layer.unpacked);
            self.scan_layer(index, &mut layer, spent)
                .map_err(|stop| stop.in_layer(pin))?;
            spent += unpacked;
        }
        Ok(())
    }

    fn scan_layer<S: DownloadSpool>(
        &mut self,
        index: usize,
        layer: &mut Layer<S>,
        spent: u64,
    ) -> Result<(), ScanStop> {
        let size = layer.unpacked;
        match layer.open_content(self.limits, spent)? {
            LayerContent::Tar(bytes) => {
                for_each_entry(bytes, self.limits.layer_entries, |entry, content| {
                    match normalize_image_path(entry.name) {
                        Some(path) => self.send_entry(index, path, entry, content),
                        None => Ok(()),
                    }
                })
            }
            LayerContent::File { path, bytes } => match self.wanted_at(index, &path) {
                Some(wanted) => self.send_file(wanted, bytes, size),
                None => Ok(()),
            },
        }
    }

    fn wanted_at(&self, layer: usize, path: &str) -> Option<usize> {
        let mut all = self.wanted.iter();
        all.position(|wanted| wanted.layer == layer && wanted.path == path)
    }

    /// Hands an entry over if it is wanted.
    fn send_entry(
        &mut self,
        layer: usize,
        path: String,
        entry: &TarEntry<'_>,
        content: &mut dyn Read,
    ) -> Result<(), ScanStop> {
        let Some(index) = self.wanted_at(layer, &path) else {
            return Ok(());
        };
        if std::mem::replace(&mut self.found[index], true) {
            return Err(ArchiveError::Twice(path).into());
        }
        if entry.kind != TarEntryKind::File {
            let kind = entry.kind.describe();
            return Err(ArchiveError::NotAFile { path, kind }.into());
        }
        self.send_file(index, content, entry.size)
    }

    /// Hands over the wanted file `index`, which must have exactly `size` bytes.
    fn send_file(&self, index: usize, mut bytes: impl Read, size: u64) -> Result<(), ScanStop> {
        if size > self.limits.entry {
            return Err(ArchiveError::from(LimitExceeded::Entry(self.limits.entry)).into());
        }
        let mut left = size;
        let mut begun = false;
        while left > 0 || !begun {
            let mut buffer = self.sender.take_buffer()?;
            buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            bytes
                .read_exact(&mut buffer)
                .map_err(ArchiveError::from_io)?;
            if !begun {
                let head = &buffer[..buffer.len().min(PLUGIN_HEADER_SIZE)];
                check_plugin_header(head, self.arch).map_err(|source| {
                    ArchiveError::NotAPlugin {
                        path: self.wanted[index].path.clone(),
                        source,
                    }
                })?;
                self.sender.send_step(MemberStep::Begin(index, size))?;
                begun = true;
            }
            left -= buffer.len() as u64;
            self.sender.send_step(MemberStep::Bytes(buffer))?;
        }
        Ok(self.sender.send_step(MemberStep::End)?)
    }
}

impl ScanStop {
    fn in_layer(self, layer: Pin) -> Self {
        match self {
            Self::Bad(error) => Self::Bad(error.in_layer(layer)),
            Self::ReceiverGone => Self::ReceiverGone,
        }
    }
}
