//! Small files without a pin, such as a signed list: pins and signatures are read from them.

use super::fetch_error::FetchError;
use super::options::{CopyKey, SourceOptions};
use super::partial::PartialBlob;
use super::rounds::{BlobRequest, FetchReceipt, ask_sources};
use super::source::BlobSource;
use super::source_client::SourceClient;
use crate::fetch::spool::MemorySpool;
use crate::model::Pin;

/// Reads a small file of at most `limit` bytes from one source. `name` is what messages call it, and `url` is what a
/// kept copy is known by.
///
/// The content is not verified: the caller has to do that.
///
/// # Errors
/// When the source does not give it, with the reason; or when a copy cannot be kept.
pub(in crate::fetch) async fn read_small_file(
    name: &str,
    source: BlobSource,
    url: &str,
    options: &SourceOptions<'_>,
    limit: u64,
) -> Result<Vec<u8>, FetchError> {
    let request = BlobRequest {
        name,
        max_size: limit,
        sources: vec![source],
        receipt: &mut FetchReceipt::default(),
    };
    // No digest is asked for; the hasher runs for nothing.
    let blob = PartialBlob::new(MemorySpool::default(), Pin::Sha256([0; 32]));
    let complete = |blob: PartialBlob<MemorySpool>| Ok(blob.into_unverified());
    let content = ask_sources(request, &SourceClient::new(options), blob, complete).await?;
    let content = content.into_inner();
    if let Some(keeper) = options.keep {
        let kept = keeper.keep_copy(CopyKey::Url(url), &mut content.as_slice());
        kept.map_err(|source| FetchError::Copy {
            artifact: name.to_owned(),
            source,
        })?;
    }
    Ok(content)
}
