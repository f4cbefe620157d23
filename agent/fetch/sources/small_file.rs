//! Small files without a pin, such as a signed list: pins and signatures are read from them.

use super::fetch_error::FetchError;
use super::options::{CopyKey, SourceOptions};
use super::partial::{AttemptError, PartialBlob};
use super::rounds::{BlobRequest, FetchReceipt, ask_sources};
use super::source::BlobSource;
use super::source_client::SourceClient;
use crate::fetch::spool::MemorySpool;

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
        pin: None,
        sources: vec![source],
        receipt: &mut FetchReceipt::default(),
    };
    let new_spool = || Ok(MemorySpool::default());
    let complete = |blob: PartialBlob<MemorySpool>| {
        let content = blob.into_unverified().into_inner();
        if let Some(keeper) = options.keep {
            let kept = keeper.keep_copy(CopyKey::Url(url), &mut content.as_slice());
            kept.map_err(AttemptError::Copy)?;
        }
        Ok(content)
    };
    ask_sources(request, &SourceClient::new(options), new_spool, complete).await
}
