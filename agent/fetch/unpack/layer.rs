//! A verified archive or layer as a stream of files.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::error::ArchiveError;
use super::limits::{CountingReader, LimitExceeded, LimitedReader, PACKED_BUFFER, UnpackLimits};
use super::tar_entries::{TarEntryKind, for_each_entry, normalize_image_path};
use crate::fetch::spool::DownloadSpool;
use crate::fetch::verify::Verified;
use crate::model::{Artifact, Format, Pin};

/// The largest window, as a power of two: 8 MiB, what every decoder has to take (RFC 8878) and more than common
/// builders use.
const WINDOW_LOG: u32 = 23;
/// The size of a tar header, and where in it the magic `ustar` is.
const TAR_BLOCK: usize = 512;
const USTAR_MAGIC: std::ops::Range<usize> = 257..262;

/// A layer of an image, or an artifact that is a single blob.
#[derive(Debug)]
pub(in crate::fetch) struct Layer<S> {
    pub(in crate::fetch) pin: Pin,
    /// How many bytes it has unpacked. Before it is read: of an artifact that is one file, its size.
    pub(in crate::fetch) unpacked: u64,
    /// How it is packed. Of [`Format::Image`] the bytes themselves decide, not the media type.
    format: Format,
    /// Its name, if it is a file and no archive.
    title: Option<String>,
    bytes: Verified<S>,
}

/// What a layer is, unpacked.
pub(in crate::fetch) enum LayerContent<'a> {
    Tar(Box<dyn Read + 'a>),
    /// The layer is itself a file.
    File {
        path: String,
        bytes: Box<dyn Read + 'a>,
    },
}

impl<S> Layer<S> {
    /// The only layer of an artifact that is one blob.
    pub(in crate::fetch) fn from_artifact(artifact: &Artifact, bytes: Verified<S>) -> Self {
        Self {
            pin: artifact.pin,
            unpacked: bytes.bytes(),
            format: artifact.format,
            title: Some(artifact.name.clone()),
            bytes,
        }
    }
}

impl<S: DownloadSpool> Layer<S> {
    /// A layer of an image. `title` is its name, if the manifest gives it one.
    pub(in crate::fetch) const fn new(pin: Pin, title: Option<String>, bytes: Verified<S>) -> Self {
        Self {
            pin,
            unpacked: 0,
            format: Format::Image,
            title,
            bytes,
        }
    }

    /// The content from the start, where other layers have used up `spent` bytes of [`UnpackLimits::total`].
    pub(in crate::fetch) fn open_content(
        &mut self,
        limits: &UnpackLimits,
        spent: u64,
    ) -> Result<LayerContent<'_>, ArchiveError> {
        let title = self.title.clone();
        let bytes = self.bytes.rewound().map_err(ArchiveError::from_io)?;
        let unpacked = decompress(bytes, self.format, *limits, spent);
        let unpacked = unpacked.map_err(ArchiveError::from_io)?;
        match self.format {
            Format::Raw => Ok(LayerContent::File {
                path: title.unwrap_or_default(),
                bytes: Box::new(unpacked),
            }),
            Format::Tar | Format::TarGz => Ok(LayerContent::Tar(Box::new(unpacked))),
            Format::Image => detect_content(unpacked, title),
        }
    }

    /// The most headers that a tar of this kind may have.
    pub(super) const fn max_entries(&self, limits: &UnpackLimits) -> u64 {
        match self.format {
            Format::Image => limits.layer_entries,
            Format::Raw | Format::Tar | Format::TarGz => limits.entries,
        }
    }

    /// Shows every entry to `visit`, reading to the very end.
    pub(in crate::fetch) fn visit_entries(
        &mut self,
        limits: &UnpackLimits,
        spent: u64,
        mut visit: impl FnMut(&str, TarEntryKind<'_>) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let unpacked =
            match self.open_content(limits, spent)? {
                LayerContent::Tar(bytes) => {
                    let (bytes, unpacked) = CountingReader::new(bytes);
                    for_each_entry(bytes, limits.layer_entries, |entry, _| {
                        match normalize_image_path(entry.name) {
                            Some(path) => visit(&path, entry.kind),
                            None => Ok(()),
                        }
                    })?;
                    unpacked.get()
                }
                LayerContent::File { path, mut bytes } => {
                    visit(&path, TarEntryKind::File)?;
                    io::copy(&mut bytes, &mut io::sink()).map_err(ArchiveError::from_io)?
                }
            };
        self.unpacked = unpacked;
        Ok(())
    }
}

/// Unpacks what is packed, within the limits.
fn decompress<'a>(
    bytes: impl Read + 'a,
    format: Format,
    limits: UnpackLimits,
    spent: u64,
) -> io::Result<LimitedReader<Box<dyn Read + 'a>>> {
    let (packed, count) = CountingReader::new(bytes);
    let buffered = |packed| BufReader::with_capacity(PACKED_BUFFER, packed);
    let unpacked: Box<dyn Read> = match format {
        Format::Raw | Format::Tar => Box::new(packed),
        Format::TarGz => Box::new(MultiGzDecoder::new(buffered(packed))),
        Format::Image => decompress_by_magic(buffered(packed))?,
    };
    Ok(LimitedReader::new(unpacked, count, limits).with_earlier_bytes(spent))
}

/// Unpacks what the first bytes say.
fn decompress_by_magic<'a>(mut packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = read_head(&mut packed, 4)?;
    let kind = head.clone();
    let packed = Cursor::new(head).chain(packed);
    Ok(match kind[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(packed)),
        // A frame, or one to be skipped (RFC 8878, section 3.1).
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(open_zstd(packed)?),
        _ => Box::new(packed),
    })
}

/// Whether a layer is a tar, or a file that has a name.
fn detect_content<'a>(
    mut unpacked: impl Read + 'a,
    title: Option<String>,
) -> Result<LayerContent<'a>, ArchiveError> {
    let path = title.and_then(|title| normalize_image_path(title.as_bytes()));
    let head = read_head(&mut unpacked, TAR_BLOCK).map_err(ArchiveError::from_io)?;
    let is_tar = match head.get(USTAR_MAGIC) {
        Some(magic) => magic == b"ustar" || head.iter().all(|byte| *byte == 0),
        None => false,
    };
    let is_empty = head.is_empty();
    let bytes = Box::new(Cursor::new(head).chain(unpacked));
    match path {
        _ if is_tar => Ok(LayerContent::Tar(bytes)),
        Some(path) => Ok(LayerContent::File { path, bytes }),
        None if is_empty => Ok(LayerContent::Tar(bytes)),
        None => Err(ArchiveError::Nameless),
    }
}

/// The first bytes, fewer only where there are no more.
fn read_head(bytes: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(length);
    bytes.take(length as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn open_zstd<'a>(packed: impl BufRead + 'a) -> io::Result<impl Read + 'a> {
    let mut decoder = ZstdDecoder::with_buffer(packed)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(ZstdWindowReader(decoder))
}

/// Turns the error for a too large window, which the library marks by its text alone, into a limit of ours.
struct ZstdWindowReader<R>(R);

impl<R: Read> Read for ZstdWindowReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            // `ZSTD_error_frameParameter_windowTooLarge`; zstd returns its errors as negative numbers.
            let words = zstd::zstd_safe::get_error_name(0_usize.wrapping_sub(16));
            match error.to_string() == words {
                true => LimitExceeded::Window(1 << WINDOW_LOG).into(),
                false => error,
            }
        })
    }
}
