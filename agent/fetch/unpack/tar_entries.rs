//! Reading a tar's headers by hand, entry by entry.
//!
//! The `tar` crate reads extension headers (long names, PAX records) into memory whatever their size, and lets
//! one of two contradicting names win. Here they are bounded, and a contradiction is refused.

use std::borrow::Cow;
use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::limits::Cap;
use super::members::ArchiveError;

/// The largest extension header: a path has at most 4096 bytes, PAX records hold a little more than that.
const EXTENSION: u64 = 64 << 10;

/// What a tar says about one of its entries, extension headers included.
pub(in crate::fetch) struct Told<'a> {
    /// Its name as it is written, see [`normal`].
    pub(in crate::fetch) name: &'a [u8],
    pub(in crate::fetch) kind: Kind<'a>,
    /// Bytes of content.
    pub(in crate::fetch) size: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) enum Kind<'a> {
    File,
    Directory,
    /// With what it points to, as it is written.
    Symlink(&'a [u8]),
    /// With the path of the file that it is another name of, as it is written.
    HardLink(&'a [u8]),
    /// In words.
    Other(&'static str),
}

impl Kind<'_> {
    /// For messages.
    pub(in crate::fetch) const fn describe(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink(_) => "a symbolic link",
            Self::HardLink(_) => "a hard link",
            Self::Other(words) => words,
        }
    }
}

/// Reads a tar to the very end and shows every entry to `visit`, which may read its content and gives the reason
/// if it wants no more. At most `limit` headers are read.
///
/// # Errors
/// That of `visit`, or why the tar cannot be read.
pub(in crate::fetch) fn each_entry<E: From<ArchiveError>>(
    mut bytes: impl Read,
    limit: u64,
    mut visit: impl FnMut(&Told<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let unreadable = |error| E::from(ArchiveError::of(error));
    let mut archive = Archive::new(&mut bytes);
    let mut extension = Extension::default();
    let mut entries = 0_u64;
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        entries += 1;
        if entries > limit {
            return Err(ArchiveError::from(Cap::Entries(limit)).into());
        }
        if extension.extend(&mut entry)? {
            continue;
        }
        let extension = std::mem::take(&mut extension);
        if extension.size.is_some_and(|size| size != entry.size()) {
            return Err(ArchiveError::Ambiguous("a file has two sizes").into());
        }
        let header = entry.header().clone();
        let name = match &extension.path {
            Some(path) => Cow::Borrowed(path.as_slice()),
            None => header.path_bytes(),
        };
        let link = match extension.link {
            Some(link) => Cow::Owned(link),
            None => header.link_name_bytes().unwrap_or_default(),
        };
        let kind = match header.entry_type() {
            _ if extension.sparse => Kind::Other("a sparse file"),
            // An old tar marks a directory by the slash alone.
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(&link),
            EntryType::Link => Kind::HardLink(&link),
            EntryType::Char | EntryType::Block => Kind::Other("a device"),
            EntryType::Fifo => Kind::Other("a pipe"),
            EntryType::GNUSparse => Kind::Other("a sparse file"),
            _ => Kind::Other("of an unknown type"),
        };
        let told = Told {
            name: &name,
            kind,
            size: entry.size(),
        };
        visit(&told, &mut entry)?;
    }
    // What is behind the end mark is padding, but the checksum comes after it.
    io::copy(&mut bytes, &mut io::sink()).map_err(unreadable)?;
    Ok(())
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extension {
    /// Takes in an extension header; `false` for an entry that is none.
    fn extend(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, ArchiveError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.rename(until_nul(bounded(entry)?))?,
            EntryType::GNULongLink => self.relink(until_nul(bounded(entry)?))?,
            EntryType::XHeader => self.records(&bounded(entry)?)?,
            EntryType::XGlobalHeader => {
                // Git puts a comment here. A name or size for all files makes no sense but to confuse.
                let mut all = Self::default();
                all.records(&bounded(entry)?)?;
                if all.path.is_some() || all.link.is_some() || all.size.is_some() || all.sparse {
                    return Err(ArchiveError::Ambiguous("a header renames all files"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn records(&mut self, records: &[u8]) -> Result<(), ArchiveError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(ArchiveError::of)?;
            self.record(record.key_bytes(), record.value_bytes())?;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match key {
            b"path" => self.rename(value.to_vec())?,
            b"linkpath" => self.relink(value.to_vec())?,
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if size.is_none() || self.size.is_some() {
                    return Err(ArchiveError::Ambiguous("a file has two sizes"));
                }
                self.size = size;
            }
            key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }

    fn rename(&mut self, path: Vec<u8>) -> Result<(), ArchiveError> {
        if self.path.as_ref().is_some_and(|other| *other != path) {
            return Err(ArchiveError::Ambiguous("a file has two names"));
        }
        self.path = Some(path);
        Ok(())
    }

    fn relink(&mut self, link: Vec<u8>) -> Result<(), ArchiveError> {
        if self.link.as_ref().is_some_and(|other| *other != link) {
            return Err(ArchiveError::Ambiguous("a link has two targets"));
        }
        self.link = Some(link);
        Ok(())
    }
}

fn bounded(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > EXTENSION {
        return Err(Cap::Extension(EXTENSION).into());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(ArchiveError::of)?;
    Ok(bytes)
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.unwrap_or(name.len()));
    name
}

/// A path in an archive without `./` and doubled slashes. `None` for one that is absolute, climbs by `..`, is the
/// archive's own root, or is not UTF-8: none of these can be wanted.
pub(in crate::fetch) fn normal(path: &[u8]) -> Option<String> {
    if path.starts_with(b"/") {
        return None;
    }
    normal_in_image(path)
}

/// The same for a path in a layer of an image, where a leading slash means the image's root.
pub(in crate::fetch) fn normal_in_image(path: &[u8]) -> Option<String> {
    let parts: Vec<&str> = std::str::from_utf8(path)
        .ok()?
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
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
        assert_eq!(
            normal_in_image(b"//opt/./bridge").as_deref(),
            Some("opt/bridge")
        );
        assert_eq!(normal_in_image(b"/../bridge"), None);
    }
}
