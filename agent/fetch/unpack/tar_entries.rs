//! Reading a tar's headers by hand, entry by entry.
//!
//! The `tar` crate reads extension headers (long names, PAX records) into memory whatever their size, and lets
//! one of two contradicting names win. Here they are bounded, and a contradiction is refused.

use std::borrow::Cow;
use std::io::{self, Read};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::error::ArchiveError;
use super::limits::LimitExceeded;

/// The largest extension header: a path has at most 4096 bytes, PAX records hold a little more than that.
const MAX_EXTENSION_SIZE: u64 = 64 << 10;

const TWO_NAMES: &str = "a file has two names";
const TWO_TARGETS: &str = "a link has two targets";
const TWO_SIZES: &str = "a file has two sizes";

/// What a tar says about one of its entries, extension headers included.
pub(in crate::fetch) struct TarEntry<'a> {
    /// Its name as it is written, see [`normalize_path`].
    pub(in crate::fetch) name: &'a [u8],
    pub(in crate::fetch) kind: TarEntryKind<'a>,
    /// Bytes of content.
    pub(in crate::fetch) size: u64,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) enum TarEntryKind<'a> {
    File,
    Directory,
    /// With what it points to, as it is written.
    Symlink(&'a [u8]),
    /// With the path of the file that it is another name of, as it is written.
    HardLink(&'a [u8]),
    /// In words.
    Other(&'static str),
}

impl TarEntryKind<'_> {
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
pub(super) fn for_each_entry<E: From<ArchiveError>>(
    mut bytes: impl Read,
    limit: u64,
    mut visit: impl FnMut(&TarEntry<'_>, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let unreadable = |error| E::from(ArchiveError::from_io(error));
    let mut archive = Archive::new(&mut bytes);
    let mut extension = ExtensionHeaders::default();
    let mut entries = 0_u64;
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        entries += 1;
        if entries > limit {
            return Err(ArchiveError::from(LimitExceeded::Entries(limit)).into());
        }
        if extension.read_extension(&mut entry)? {
            continue;
        }
        let extension = std::mem::take(&mut extension);
        if extension.size.is_some_and(|size| size != entry.size()) {
            return Err(ArchiveError::Ambiguous(TWO_SIZES).into());
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
            _ if extension.sparse => TarEntryKind::Other("a sparse file"),
            // An old tar marks a directory by the slash alone.
            EntryType::Regular if name.ends_with(b"/") => TarEntryKind::Directory,
            EntryType::Regular => TarEntryKind::File,
            EntryType::Directory => TarEntryKind::Directory,
            EntryType::Symlink => TarEntryKind::Symlink(&link),
            EntryType::Link => TarEntryKind::HardLink(&link),
            EntryType::Char | EntryType::Block => TarEntryKind::Other("a device"),
            EntryType::Fifo => TarEntryKind::Other("a pipe"),
            EntryType::GNUSparse => TarEntryKind::Other("a sparse file"),
            _ => TarEntryKind::Other("of an unknown type"),
        };
        let described = TarEntry {
            name: &name,
            kind,
            size: entry.size(),
        };
        visit(&described, &mut entry)?;
    }
    // After the end mark there is padding, and then the checksum.
    io::copy(&mut bytes, &mut io::sink()).map_err(unreadable)?;
    Ok(())
}

/// What extension headers say about the entry after them.
#[derive(Default)]
struct ExtensionHeaders {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl ExtensionHeaders {
    /// Reads an extension header; `false` for any other entry.
    fn read_extension(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, ArchiveError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                set_once(&mut self.path, until_nul(read_bounded(entry)?), TWO_NAMES)?;
            }
            EntryType::GNULongLink => {
                set_once(&mut self.link, until_nul(read_bounded(entry)?), TWO_TARGETS)?;
            }
            EntryType::XHeader => self.read_records(&read_bounded(entry)?)?,
            EntryType::XGlobalHeader => {
                // Git puts a comment here. A name or size for all files has no honest use.
                let mut all = Self::default();
                all.read_records(&read_bounded(entry)?)?;
                if all.path.is_some() || all.link.is_some() || all.size.is_some() || all.sparse {
                    return Err(ArchiveError::Ambiguous("a header renames all files"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn read_records(&mut self, records: &[u8]) -> Result<(), ArchiveError> {
        for record in PaxExtensions::new(records) {
            let record = record.map_err(ArchiveError::from_io)?;
            self.read_record(record.key_bytes(), record.value_bytes())?;
        }
        Ok(())
    }

    fn read_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match key {
            b"path" => set_once(&mut self.path, value.to_vec(), TWO_NAMES)?,
            b"linkpath" => set_once(&mut self.link, value.to_vec(), TWO_TARGETS)?,
            b"size" => {
                let size = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if size.is_none() || self.size.is_some() {
                    return Err(ArchiveError::Ambiguous(TWO_SIZES));
                }
                self.size = size;
            }
            key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Ok(())
    }
}

/// Sets what an extension header says, which no other may contradict.
fn set_once(
    field: &mut Option<Vec<u8>>,
    value: Vec<u8>,
    contradiction: &'static str,
) -> Result<(), ArchiveError> {
    if field.as_ref().is_some_and(|other| *other != value) {
        return Err(ArchiveError::Ambiguous(contradiction));
    }
    *field = Some(value);
    Ok(())
}

fn read_bounded(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > MAX_EXTENSION_SIZE {
        return Err(LimitExceeded::Extension(MAX_EXTENSION_SIZE).into());
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(ArchiveError::from_io)?;
    Ok(bytes)
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|byte| *byte == 0);
    name.truncate(end.unwrap_or(name.len()));
    name
}

/// A path in an archive without `./` and doubled slashes. `None` for one that is absolute, climbs by `..`, is the
/// archive's own root, or is not UTF-8: none of these can be wanted.
pub(super) fn normalize_path(path: &[u8]) -> Option<String> {
    if path.starts_with(b"/") {
        return None;
    }
    normalize_image_path(path)
}

/// The same for a path in a layer of an image, where a leading slash means the image's root.
pub(in crate::fetch) fn normalize_image_path(path: &[u8]) -> Option<String> {
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
            assert_eq!(
                normalize_path(path.as_bytes()).as_deref(),
                plain,
                "{path:?}"
            );
        }
        assert_eq!(normalize_path(b"\xff"), None);
        assert_eq!(
            normalize_image_path(b"//opt/./bridge").as_deref(),
            Some("opt/bridge")
        );
        assert_eq!(normalize_image_path(b"/../bridge"), None);
    }
}
