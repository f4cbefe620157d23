//! The way in: gets an artifact from the first source that gives its pinned bytes.

use std::io;

use super::oci::{BlobDescriptor, BlobFetcher, BlobKind, GatherError, gather_image};
use super::sources::{
    BlobRequest, BlobSource, CopyKey, FetchError, FetchReceipt, PartialBlob, SourceClient,
    SourceOptions, ask_sources,
};
use super::spool::DownloadSpool;
use super::unpack::{FetchedArtifact, Layer, UnpackLimits};
use super::verify::Verified;
use crate::model::{Artifact, Format, Pin};

/// Gets an artifact from the first source that gives its pinned bytes: seeds, then its sources.
///
/// Dropping the future ends it: the writing thread lets go of the spool once its last chunk is written.
///
/// # Errors
/// When every source failed, with the last reason for each; or when the spool cannot take the bytes.
pub async fn download<S: DownloadSpool>(
    artifact: &Artifact,
    options: &SourceOptions<'_>,
    new_spool: &dyn Fn() -> io::Result<S>,
) -> Result<(FetchedArtifact<S>, FetchReceipt), FetchError> {
    let mut fetcher = VerifiedFetcher {
        artifact,
        client: SourceClient::new(options),
        new_spool,
        receipt: FetchReceipt::default(),
    };
    let fetched = match artifact.format {
        Format::Image => {
            let limits = UnpackLimits::default();
            let gathered = gather_image(artifact, &limits, &mut fetcher).await;
            gathered.map_err(|error| into_fetch_error(error, &artifact.name))?
        }
        Format::Raw | Format::Tar | Format::TarGz => {
            let sources = artifact.sources.iter();
            let sources = sources.map(|source| BlobSource::from_url(source)).collect();
            let max_size = options.settings.max_size;
            let verified = fetcher.fetch_verified(artifact.pin, max_size, sources);
            FetchedArtifact {
                layers: vec![Layer::from_artifact(artifact, verified.await?)],
                files: Vec::new(),
            }
        }
    };
    Ok((fetched, fetcher.receipt))
}

/// Gets the blobs of one artifact, each by its digest from wherever it is.
struct VerifiedFetcher<'a, S> {
    artifact: &'a Artifact,
    client: SourceClient<'a>,
    new_spool: &'a dyn Fn() -> io::Result<S>,
    receipt: FetchReceipt,
}

impl<S: DownloadSpool> VerifiedFetcher<'_, S> {
    /// Gets a blob from a seed, or from the first of `sources` that gives the pinned bytes.
    async fn fetch_verified(
        &mut self,
        pin: Pin,
        max_size: u64,
        sources: Vec<BlobSource>,
    ) -> Result<Verified<S>, FetchError> {
        let name = &self.artifact.name;
        let spool = (self.new_spool)().map_err(|source| FetchError::Spool {
            artifact: name.clone(),
            source,
        })?;
        let options = self.client.options;
        let seeds = options.seeds.iter();
        let seeds = seeds.map(|seed| BlobSource::in_seed(seed, &pin));
        let request = BlobRequest {
            name,
            max_size,
            sources: seeds.chain(sources).collect(),
            receipt: &mut self.receipt,
        };
        let blob = PartialBlob::new(spool, pin);
        let mut verified = ask_sources(request, &self.client, blob, PartialBlob::verify).await?;
        self.receipt.bytes += verified.bytes();
        if let Some(keeper) = options.keep {
            let copied = verified
                .rewound()
                .and_then(|spool| keeper.keep_copy(CopyKey::Blob(&pin), spool));
            copied.map_err(|source| FetchError::Copy {
                artifact: name.clone(),
                source,
            })?;
        }
        Ok(verified)
    }
}

impl<S: DownloadSpool> BlobFetcher<S> for VerifiedFetcher<'_, S> {
    type Error = FetchError;

    async fn fetch_blob(&mut self, blob: &BlobDescriptor) -> Result<Verified<S>, FetchError> {
        let settings = self.client.options.settings;
        let sources = self.artifact.sources.iter();
        let sources = sources.map(|source| BlobSource::in_registry(source, settings, blob));
        let max_size = blob.max_size(settings.max_size);
        let fetched = self.fetch_verified(blob.pin, max_size, sources.collect());
        let fetched = fetched.await;
        if blob.kind == BlobKind::Layer {
            // It is searched now, which takes up to a zstd window of memory.
            self.client.release_connections();
        }
        fetched
    }
}

fn into_fetch_error(error: GatherError<FetchError>, artifact: &str) -> FetchError {
    let artifact = artifact.to_owned();
    match error {
        GatherError::Fetch(error) => error,
        GatherError::Image(source) => FetchError::Image {
            artifact,
            source: Box::new(source),
        },
        GatherError::Archive(source) => FetchError::Archive {
            artifact,
            source: Box::new(source),
        },
        GatherError::Spool(source) => FetchError::Spool { artifact, source },
    }
}
