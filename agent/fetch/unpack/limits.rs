//! The limits of unpacking: a few kilobytes can unpack to terabytes.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::model::LARGEST_PLUGIN;

/// Unpacked bytes that the ratio does not apply to: a small tar is mostly padding, which packs to almost nothing.
const PADDING: u64 = 1 << 20;

/// How much packed data is read at once, in bytes.
pub(super) const PACKED_BUFFER: usize = 128 << 10;

/// The most that an archive, or an image, may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Of one wanted file, in bytes.
    pub entry: u64,
    /// Of the whole archive unpacked, wanted or not, in bytes; of an image, of all layers that are looked at.
    pub total: u64,
    /// Of headers in it.
    pub entries: u64,
    /// Of headers in one layer of an image, which may be a whole operating system.
    pub layer_entries: u64,
    /// Unpacked bytes for each packed byte.
    pub ratio: u64,
}

impl Default for UnpackLimits {
    /// Three times and more of what the largest upstream release needs (Calico's, 1 GiB unpacked); Go binaries
    /// pack to about a half.
    fn default() -> Self {
        Self {
            entry: LARGEST_PLUGIN,
            total: 4 << 30,
            entries: 20_000,
            layer_entries: 250_000,
            ratio: 200,
        }
    }
}

/// A limit that an archive went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// [`UnpackLimits::entry`].
    #[error("a file in it is larger than {0} bytes")]
    Entry(u64),
    /// [`UnpackLimits::total`].
    #[error("it unpacks to more than {0} bytes")]
    Total(u64),
    /// [`UnpackLimits::entries`].
    #[error("it holds more than {0} entries")]
    Entries(u64),
    /// [`UnpackLimits::ratio`].
    #[error("it unpacks to more than {0} times its own size")]
    Ratio(u64),
    /// Following the links of an image reads its layers again too often.
    #[error("following its links takes more than {0} bytes to be unpacked")]
    Rereading(u64),
    /// A zstd window larger than memory here is meant for.
    #[error(
        "it needs a zstd window of more than {0} bytes to unpack; pack it again with a lower level, or without --long"
    )]
    Window(u64),
    /// A header's extension (a long name, PAX records) larger than any real one.
    #[error("a header in it is larger than {0} bytes")]
    Extension(u64),
}

impl LimitExceeded {
    /// The limit inside an error that a [`LimitedReader`] gave.
    pub(in crate::fetch) fn from_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<LimitExceeded> for io::Error {
    fn from(cap: LimitExceeded) -> Self {
        Self::other(cap)
    }
}

/// Counts packed bytes for a [`LimitedReader`] further up.
pub(super) struct CountingReader<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R> CountingReader<R> {
    pub(super) fn new(inner: R) -> (Self, Rc<Cell<u64>>) {
        let count = Rc::new(Cell::new(0));
        let counter = Self {
            inner,
            count: Rc::clone(&count),
        };
        (counter, count)
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.count.set(self.count.get().saturating_add(got as u64));
        Ok(got)
    }
}

/// Ends reading with a [`LimitExceeded`] once the unpacked bytes go over [`UnpackLimits::total`] or [`UnpackLimits::ratio`].
pub(super) struct LimitedReader<R> {
    inner: R,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
    /// What counts for the total as well: other layers of the same image.
    before: u64,
    limits: UnpackLimits,
}

impl<R> LimitedReader<R> {
    pub(super) const fn new(inner: R, packed: Rc<Cell<u64>>, limits: UnpackLimits) -> Self {
        Self {
            inner,
            packed,
            unpacked: 0,
            before: 0,
            limits,
        }
    }

    /// The same, where so many bytes were unpacked of other layers.
    pub(super) fn with_earlier_bytes(self, before: u64) -> Self {
        Self { before, ..self }
    }
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.unpacked = self.unpacked.saturating_add(got as u64);
        if self.before.saturating_add(self.unpacked) > self.limits.total {
            return Err(LimitExceeded::Total(self.limits.total).into());
        }
        let fair = self.packed.get().saturating_mul(self.limits.ratio);
        if self.unpacked > fair.max(PADDING) {
            return Err(LimitExceeded::Ratio(self.limits.ratio).into());
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: UnpackLimits = UnpackLimits {
        entry: 10,
        total: 10 << 20,
        entries: 10,
        layer_entries: 10,
        ratio: 3,
    };

    /// Fault 52: exactly the limit passes, one byte more does not.
    #[test]
    fn fault_52_the_meter_stops_one_byte_over() {
        let read = |unpacked: usize, packed: u64| {
            let mut meter = LimitedReader::new(
                io::repeat(7).take(unpacked as u64),
                Rc::new(Cell::new(packed)),
                LIMITS,
            );
            meter
                .read_to_end(&mut Vec::new())
                .map_err(|error| LimitExceeded::from_io(&error).unwrap())
        };
        const MIB: usize = 1 << 20;
        assert_eq!(read(10 * MIB, 10 << 20), Ok(10 * MIB));
        assert_eq!(
            read(10 * MIB + 1, 10 << 20),
            Err(LimitExceeded::Total(10 << 20))
        );
        assert_eq!(read(3 * MIB, 1 << 20), Ok(3 * MIB));
        assert_eq!(read(3 * MIB + 1, 1 << 20), Err(LimitExceeded::Ratio(3)));
        assert_eq!(read(MIB, 1), Ok(MIB), "padding");
    }
}
