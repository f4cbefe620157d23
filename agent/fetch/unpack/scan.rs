//! Looking an archive through and handing the wanted files over.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::elf;
use super::elf::HEAD;
use super::fetched::Fetched;
use super::layer::{Content, Layer};
use super::limits::{Cap, Counter, Limits, Meter};
use super::members::{ArchiveError, Feed, HungUp, Step};
use super::tar_entries::{Kind, Told, each_entry, normal, normal_in_image};
use crate::fetch::oci::gather::Image;
use crate::fetch::sources::partial::Verified;
use crate::fetch::spool::Spool;
use crate::model::{Arch, Artifact, Format, Member, Pin, Sha256, escape_name};

/// How much packed data is read at once.
pub(in crate::fetch) const PACKED: usize = 128 << 10;
/// How many names are listed where a wanted one is missing.
pub(in crate::fetch) const LISTED: usize = 20;

/// A path that is wanted, and the plugins that it becomes.
pub(in crate::fetch) struct Wanted<'a> {
    pub(in crate::fetch) path: String,
    /// Which of the image's layers it is in; an archive is a single one.
    layer: usize,
    pub(in crate::fetch) members: Vec<&'a Member>,
}

impl<'a> Wanted<'a> {
    /// The distinct files that an artifact's members are. A raw artifact is one file, whatever its members' paths
    /// say; where the files of an image are was found out before.
    pub(in crate::fetch) fn of<S>(artifact: &'a Artifact, fetched: &Fetched<S>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, member) in artifact.members.iter().enumerate() {
            let (layer, path) = match (fetched, artifact.format) {
                (Fetched::Image(image), _) => match image.place(index) {
                    Some(place) => (place.layer, place.path.clone()),
                    None => (usize::MAX, member.path.clone()),
                },
                (Fetched::Whole(_), Format::Raw) => (0, artifact.name.clone()),
                (Fetched::Whole(_), _) => {
                    let path = normal(member.path.as_bytes());
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
    pub(in crate::fetch) fn prove(&self, actual: Sha256) -> Result<(), ArchiveError> {
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

/// Why scanning ended early.
enum Stop {
    Bad(ArchiveError),
    /// The receiving side has the reason.
    HungUp,
}

impl From<ArchiveError> for Stop {
    fn from(error: ArchiveError) -> Self {
        Self::Bad(error)
    }
}

impl From<HungUp> for Stop {
    fn from(_: HungUp) -> Self {
        Self::HungUp
    }
}

/// Reads all that was fetched and hands the wanted files to `feed`.
pub(in crate::fetch) fn scan<S: Spool>(
    fetched: Fetched<S>,
    artifact: &Artifact,
    wanted: &[Wanted<'_>],
    limits: &Limits,
    feed: Feed,
) -> Result<(), ArchiveError> {
    let mut scan = Scan {
        arch: artifact.arch,
        wanted,
        found: vec![false; wanted.len()],
        limits,
        feed,
    };
    let outcome = match fetched {
        Fetched::Whole(bytes) => scan.archive(bytes, artifact.format),
        Fetched::Image(image) => scan.image(image),
    };
    match outcome {
        Err(Stop::Bad(error)) => Err(error),
        Ok(()) | Err(Stop::HungUp) => Ok(()),
    }
}

struct Scan<'a> {
    arch: Arch,
    wanted: &'a [Wanted<'a>],
    /// Which of them were there.
    found: Vec<bool>,
    limits: &'a Limits,
    feed: Feed,
}

impl Scan<'_> {
    fn archive<S: Spool>(&mut self, bytes: Verified<S>, format: Format) -> Result<(), Stop> {
        let size = bytes.bytes();
        let (packed, count) = Counter::new(bytes.into_spool());
        match format {
            Format::Raw => self.file(0, packed, size),
            Format::Tar => self.whole(Meter::new(packed, count, *self.limits)),
            Format::TarGz => {
                let inflated = MultiGzDecoder::new(BufReader::with_capacity(PACKED, packed));
                self.whole(Meter::new(inflated, count, *self.limits))
            }
            // An image is gathered, which gives its layers.
            Format::Image => {
                Err(ArchiveError::Unreadable(io::ErrorKind::Unsupported.into()).into())
            }
        }
    }

    fn whole(&mut self, bytes: impl Read) -> Result<(), Stop> {
        let mut there = Listing::default();
        each_entry(bytes, self.limits.entries, |told, content| {
            let Some(path) = normal(told.name) else {
                return Ok(());
            };
            there.add(&path, told.kind);
            self.entry(0, path, told, content)
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
        Err(Stop::Bad(ArchiveError::Missing {
            paths: missing,
            there: there.to_string(),
        }))
    }

    /// What its search found is there: these are the same bytes, which were verified and are this process's own.
    fn image<S: Spool>(&mut self, image: Image<S>) -> Result<(), Stop> {
        let mut spent = 0;
        for (index, mut layer) in image.into_layers().into_iter().enumerate() {
            let (pin, unpacked) = (layer.pin, layer.unpacked);
            self.layer(index, &mut layer, spent)
                .map_err(|stop| stop.in_layer(pin))?;
            spent += unpacked;
        }
        Ok(())
    }

    fn layer<S: Spool>(
        &mut self,
        index: usize,
        layer: &mut Layer<S>,
        spent: u64,
    ) -> Result<(), Stop> {
        let size = layer.unpacked;
        match layer.content(self.limits, spent)? {
            Content::Tar(bytes) => {
                each_entry(
                    bytes,
                    self.limits.layer_entries,
                    |told, content| match normal_in_image(told.name) {
                        Some(path) => self.entry(index, path, told, content),
                        None => Ok(()),
                    },
                )
            }
            Content::File { path, bytes } => match self.wanted_at(index, &path) {
                Some(wanted) => self.file(wanted, bytes, size),
                None => Ok(()),
            },
        }
    }

    fn wanted_at(&self, layer: usize, path: &str) -> Option<usize> {
        let mut all = self.wanted.iter();
        all.position(|wanted| wanted.layer == layer && wanted.path == path)
    }

    /// Hands an entry over if it is wanted.
    fn entry(
        &mut self,
        layer: usize,
        path: String,
        told: &Told<'_>,
        content: &mut dyn Read,
    ) -> Result<(), Stop> {
        let Some(index) = self.wanted_at(layer, &path) else {
            return Ok(());
        };
        if std::mem::replace(&mut self.found[index], true) {
            return Err(ArchiveError::Twice(path).into());
        }
        if told.kind != Kind::File {
            let kind = told.kind.describe();
            return Err(ArchiveError::NotAFile { path, kind }.into());
        }
        self.file(index, content, told.size)
    }

    /// Hands over the wanted file `index`, which must have exactly `size` bytes.
    fn file(&self, index: usize, mut bytes: impl Read, size: u64) -> Result<(), Stop> {
        if size > self.limits.entry {
            return Err(ArchiveError::from(Cap::Entry(self.limits.entry)).into());
        }
        let mut left = size;
        let mut begun = false;
        while left > 0 || !begun {
            let mut buffer = self.feed.buffer()?;
            buffer.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            bytes.read_exact(&mut buffer).map_err(ArchiveError::of)?;
            if !begun {
                let head = &buffer[..buffer.len().min(HEAD)];
                elf::check(head, self.arch).map_err(|source| ArchiveError::NotAPlugin {
                    path: self.wanted[index].path.clone(),
                    source,
                })?;
                self.feed.send(Step::Begin(index, size))?;
                begun = true;
            }
            left -= buffer.len() as u64;
            self.feed.send(Step::Bytes(buffer))?;
        }
        Ok(self.feed.send(Step::End)?)
    }
}

impl Stop {
    fn in_layer(self, layer: Pin) -> Self {
        match self {
            Self::Bad(error) => Self::Bad(error.in_layer(layer)),
            Self::HungUp => Self::HungUp,
        }
    }
}

/// The first few names in an archive, for the message about one that is missing.
#[derive(Default)]
struct Listing {
    names: String,
    more: usize,
    count: usize,
}

impl Listing {
    fn add(&mut self, path: &str, kind: Kind<'_>) {
        if kind == Kind::Directory {
            return;
        }
        self.count += 1;
        if self.count > LISTED {
            self.more += 1;
            return;
        }
        let comma = if self.names.is_empty() { "" } else { ", " };
        let path = harmless(path);
        // Writing to a String cannot fail.
        let _ = write!(self.names, "{comma}{path}");
    }
}

/// Names come from outside: no control character reaches a terminal, no long one fills it.
pub(in crate::fetch) fn harmless(name: &str) -> String {
    escape_name(name, 80)
}

impl std::fmt::Display for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.count, self.more) {
            (0, _) => f.write_str("no file"),
            (_, 0) => f.write_str(&self.names),
            (_, more) => write!(f, "{} and {more} more", self.names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_bounded_and_harmless() {
        let mut listing = Listing::default();
        assert_eq!(listing.to_string(), "no file");
        listing.add("dir", Kind::Directory);
        listing.add("a\x1b[2J", Kind::File);
        assert_eq!(listing.to_string(), "a\\u{1b}[2J");
        for n in 0..LISTED {
            listing.add(&"x".repeat(n * 100), Kind::Symlink(b""));
        }
        assert!(listing.to_string().ends_with("x… and 1 more"));
        assert!(listing.to_string().len() < LISTED * 83);
    }
}
