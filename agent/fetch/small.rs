//! Small files without a pin: what vouches for pins, such as a signed list.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use super::courier::Courier;
use super::download::Errand;
use super::intake::{Intake, Judged};
use super::place::Place;
use super::{FetchError, Kept, Means, Spool};
use crate::model::{Companion, Pin};

/// Reads a small file of at most `limit` bytes: from a seed, or from the first of its sources that answers. `name` is
/// what messages call it.
///
/// Nothing about what comes is proven; whoever asks has to do that.
///
/// # Errors
/// When every place failed, with the last reason for each.
pub async fn read_small(
    name: &str,
    file: &Companion,
    means: &Means<'_>,
    limit: u64,
) -> Result<Vec<u8>, FetchError> {
    let seeds = means.seeds.iter();
    let seeded = seeds.map(|seed| Place::by_url(seed, &file.url));
    let sources = file.sources.iter().map(|source| Place::of(source));
    let errand = Errand {
        name,
        max_size: limit,
        places: seeded.chain(sources).collect(),
    };
    // No digest is asked for; the hasher runs for nothing.
    let intake = Intake::new(Memory::default(), Pin::Sha256([0; 32]));
    let taken = |intake: Intake<Memory>, _| Ok(Judged::Right(intake.unproven()));
    let (memory, _) = errand.run(&mut Courier::new(means), intake, taken).await?;
    let content = memory.0.into_inner();
    if let Some(keep) = means.keep {
        let kept = keep.keep(Kept::Url(&file.url), &mut content.as_slice());
        kept.map_err(|source| FetchError::Copy {
            artifact: name.to_owned(),
            source,
        })?;
    }
    Ok(content)
}

/// Keeps what comes in memory.
#[derive(Debug, Default)]
struct Memory(Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Spool for Memory {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.0.get_mut().truncate(length);
        Ok(())
    }
}
