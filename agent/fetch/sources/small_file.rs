//! Small files without a pin: what vouches for pins, such as a signed list.

use super::error::FetchError;
use super::options::Kept;
use super::options::Means;
use super::partial::{Intake, Judged};
use super::rounds::Errand;
use super::source::Place;
use super::source_client::Courier;
use crate::fetch::spool::Memory;
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
    let content = memory.into_content();
    if let Some(keep) = means.keep {
        let kept = keep.keep(Kept::Url(&file.url), &mut content.as_slice());
        kept.map_err(|source| FetchError::Copy {
            artifact: name.to_owned(),
            source,
        })?;
    }
    Ok(content)
}
