//! Reading an archive's headers by hand and handing the wanted files over.
//!
//! The `tar` crate reads extension headers (long names, PAX records) into memory whatever their size, and lets
//! one of two contradicting names win. Here they are bounded, and a contradiction is refused.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::archive::{ArchiveError, Feed, HungUp, Step};
use super::caps::{Cap, Counter, Limits, Meter};
use super::elf::{self, HEAD};
use crate::model::{Artifact, Format, Member, Sha256};

/// The largest extension header: a path has at most 4096 bytes, PAX records hold a little more than that.
const EXTENSION: u64 = 64 << 10;
/// How much packed data is read at once.
const PACKED: usize = 128 << 10;
/// How many names are listed where a wanted one is missing.
const LISTED: usize = 20;

/// A path that is wanted, and the plugins that it becomes.
pub(super) struct Wanted<'a> {
    pub(super) path: String,
    pub(super) members: Vec<&'a Member>,
}

impl<'a> Wanted<'a> {
    /// The distinct paths of an artifact's members. A raw artifact is one file, whatever its members' paths say.
    pub(super) fn of(artifact: &'a Artifact) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for member in &artifact.members {
            let path = match artifact.format {
                Format::Raw => artifact.name.clone(),
                Format::Tar | Format::TarGz | Format::Image => {
                    normal(member.path.as_bytes()).unwrap_or_else(|| member.path.clone())
                }
            };
            match all.iter_mut().find(|wanted| wanted.path == path) {
                Some(wanted) => wanted.members.push(member),
                None => all.push(Self {
                    path,
                    members: vec![member],
                }),
            }
        }
        all
    }

    /// Compares with the members' own pins, where they have one.
    pub(super) fn prove(&self, actual: Sha256) -> Result<(), ArchiveError> {
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

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Bad(match Cap::within(&error) {
            Some(cap) => ArchiveError::Exceeds(cap),
            None => ArchiveError::Unreadable(error),
        })
    }
}

/// Reads all of an artifact's `size` bytes and hands the wanted files to `feed`.
pub(super) fn scan(
    bytes: impl Read,
    size: u64,
    artifact: &Artifact,
    wanted: &[Wanted<'_>],
    limits: &Limits,
    feed: Feed,
) -> Result<(), ArchiveError> {
    let scan = Scan {
        artifact,
        wanted,
        limits,
        feed,
    };
    let (packed, count) = Counter::new(bytes);
    let outcome = match artifact.format {
        Format::Raw => scan.file(0, packed, size),
        Format::Tar => scan.tar(Meter::new(packed, count, *limits)),
        Format::TarGz => {
            let inflated = MultiGzDecoder::new(BufReader::with_capacity(PACKED, packed));
            scan.tar(Meter::new(inflated, count, *limits))
        }
        // Its layers are read one by one, each with the format that its own bytes show.
        Format::Image => Err(Stop::from(io::Error::from(io::ErrorKind::Unsupported))),
    };
    match outcome {
        Err(Stop::Bad(error)) => Err(error),
        Ok(()) | Err(Stop::HungUp) => Ok(()),
    }
}

struct Scan<'a> {
    artifact: &'a Artifact,
    wanted: &'a [Wanted<'a>],
    limits: &'a Limits,
    feed: Feed,
}

impl Scan<'_> {
    fn tar(&self, mut bytes: impl Read) -> Result<(), Stop> {
        let mut found = vec![false; self.wanted.len()];
        let mut there = Listing::default();
        let mut archive = Archive::new(&mut bytes);
        let mut extension = Extension::default();
        let mut entries = 0_u64;
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry?;
            entries += 1;
            if entries > self.limits.entries {
                return Err(ArchiveError::from(Cap::Entries(self.limits.entries)).into());
            }
            if extension.extend(&mut entry)? {
                continue;
            }
            let told = std::mem::take(&mut extension);
            if told.size.is_some_and(|size| size != entry.size()) {
                return Err(ArchiveError::Ambiguous("a file has two sizes").into());
            }
            let name = match &told.path {
                Some(path) => Cow::Borrowed(path.as_slice()),
                None => entry.path_bytes(),
            };
            let Some(path) = normal(&name) else { continue };
            there.add(&path, entry.header().entry_type());
            let Some(index) = self.wanted.iter().position(|wanted| wanted.path == path) else {
                continue;
            };
            if std::mem::replace(&mut found[index], true) {
                return Err(ArchiveError::Twice(path).into());
            }
            // An old tar marks a directory by the slash alone.
            let kind = match entry.header().entry_type() {
                _ if told.sparse => Some("a sparse file"),
                EntryType::Regular if name.ends_with(b"/") => Some("a directory"),
                EntryType::Regular => None,
                other => Some(kind(other)),
            };
            if let Some(kind) = kind {
                return Err(ArchiveError::NotAFile { path, kind }.into());
            }
            drop(name);
            let size = entry.size();
            self.file(index, entry, size)?;
        }
        // What is behind the end mark is padding, but the checksum comes after it.
        let mut rest = self.feed.buffer()?;
        while bytes.read(&mut rest)? > 0 {}
        let missing: Vec<String> = self
            .wanted
            .iter()
            .zip(found)
            .filter(|(_, found)| !found)
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
            bytes.read_exact(&mut buffer)?;
            if !begun {
                let head = &buffer[..buffer.len().min(HEAD)];
                elf::check(head, self.artifact.arch).map_err(|source| {
                    ArchiveError::NotAPlugin {
                        path: self.wanted[index].path.clone(),
                        source,
                    }
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

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extension {
    /// Takes in an extension header; `false` for an entry that is none.
    fn extend(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, Stop> {
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let mut name = bounded(entry)?;
                let end = name.iter().position(|byte| *byte == 0);
                name.truncate(end.unwrap_or(name.len()));
                self.rename(name)?;
            }
            // Where a link points is of no interest: links are not followed.
            EntryType::GNULongLink => {}
            EntryType::XHeader => {
                for record in PaxExtensions::new(&bounded(entry)?) {
                    let record = record?;
                    self.record(record.key_bytes(), record.value_bytes())?;
                }
            }
            EntryType::XGlobalHeader => {
                // Git puts a comment here. A name or size for all files makes no sense but to confuse.
                let mut all = Self::default();
                for record in PaxExtensions::new(&bounded(entry)?) {
                    let record = record?;
                    all.record(record.key_bytes(), record.value_bytes())?;
                }
                if all.path.is_some() || all.size.is_some() || all.sparse {
                    return Err(ArchiveError::Ambiguous("a header renames all files").into());
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        match key {
            b"path" => self.rename(value.to_vec())?,
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if size.is_none() || self.size.is_some() {
                    return Err(ArchiveError::Ambiguous("a file has two sizes").into());
                }
                self.size = size;
            }
            key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }

    fn rename(&mut self, path: Vec<u8>) -> Result<(), Stop> {
        if self.path.as_ref().is_some_and(|other| *other != path) {
            return Err(ArchiveError::Ambiguous("a file has two names").into());
        }
        self.path = Some(path);
        Ok(())
    }
}

fn bounded(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Stop> {
    if entry.size() > EXTENSION {
        return Err(ArchiveError::from(Cap::Extension(EXTENSION)).into());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path in an archive without `./` and doubled slashes. `None` for one that is absolute, climbs by `..`, is the
/// archive's own root, or is not UTF-8: none of these can be wanted.
fn normal(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    if path.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

fn kind(entry: EntryType) -> &'static str {
    match entry {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Directory => "a directory",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of an unknown type",
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
    fn add(&mut self, path: &str, entry: EntryType) {
        if entry == EntryType::Directory {
            return;
        }
        self.count += 1;
        if self.count > LISTED {
            self.more += 1;
            return;
        }
        let comma = if self.names.is_empty() { "" } else { ", " };
        // Names come from outside: no control character reaches a terminal, no long one fills it.
        let path: String = path.escape_debug().take(80).collect();
        // Writing to a String cannot fail.
        let _ = write!(self.names, "{comma}{path}");
    }
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

    /// Fault 51: a path that leaves the archive is nobody's name.
    #[test]
    fn fault_51_paths_are_compared_in_their_plain_form() {
        for (path, plain) in [
            ("bridge", Some("bridge")),
            ("./bridge", Some("bridge")),
            ("././/bin/./cni//bridge", Some("bin/cni/bridge")),
            ("bridge/", Some("bridge")),
            ("/bridge", None),
            ("../bridge", None),
            ("bin/../bridge", None),
            ("./", None),
            ("", None),
        ] {
            assert_eq!(normal(path.as_bytes()).as_deref(), plain, "{path:?}");
        }
        assert_eq!(normal(b"\xff"), None);
    }

    #[test]
    fn a_listing_is_bounded_and_harmless() {
        let mut listing = Listing::default();
        assert_eq!(listing.to_string(), "no file");
        listing.add("dir", EntryType::Directory);
        listing.add("a\x1b[2J", EntryType::Regular);
        assert_eq!(listing.to_string(), "a\\u{1b}[2J");
        for n in 0..LISTED {
            listing.add(&"x".repeat(n * 100), EntryType::Symlink);
        }
        assert!(listing.to_string().ends_with("x and 1 more"));
        assert!(listing.to_string().len() < LISTED * 83);
    }
}
