//! The way in: gets an artifact from the first source that gives its pinned bytes.

use std::io;

use super::oci::{BlobDescriptor, BlobFetcher, BlobKind, GatherError, gather_image};
use super::sources::{
    BlobRequest, BlobSource, FetchError, FetchReceipt, PartialBlob, SourceClient, SourceOptions,
    ask_sources,
};
use super::spool::DownloadSpool;
use super::unpack::{FetchedArtifact, Layer, UnpackLimits};
use super::verify::Verified;
use crate::model::{Artifact, Format};

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
    let client = SourceClient::new(options);
    let mut receipt = FetchReceipt::default();
    let fetched = match artifact.format {
        Format::Image => {
            let mut fetcher = ImageBlobFetcher {
                artifact,
                client,
                new_spool,
                receipt: &mut receipt,
            };
            let limits = UnpackLimits::default();
            let gathered = gather_image(artifact, &limits, &mut fetcher).await;
            gathered.map_err(|error| into_fetch_error(error, &artifact.name))?
        }
        Format::Raw | Format::Tar | Format::TarGz => {
            let sources = artifact.sources.iter().map(|url| BlobSource::from_url(url));
            let request = BlobRequest {
                name: &artifact.name,
                max_size: options.settings.max_size,
                pin: Some(artifact.pin),
                sources: sources.collect(),
                receipt: &mut receipt,
            };
            let complete = |blob: PartialBlob<S>| blob.verify(options.keep);
            let verified = ask_sources(request, &client, new_spool, complete).await?;
            FetchedArtifact {
                layers: vec![Layer::from_artifact(artifact, verified)],
                files: Vec::new(),
            }
        }
    };
    Ok((fetched, receipt))
}

/// Gets the blobs of an image, each by its digest from wherever it is.
struct ImageBlobFetcher<'a, S> {
    artifact: &'a Artifact,
    client: SourceClient<'a>,
    new_spool: &'a dyn Fn() -> io::Result<S>,
    receipt: &'a mut FetchReceipt,
}

impl<S: DownloadSpool> BlobFetcher<S> for ImageBlobFetcher<'_, S> {
    type Error = FetchError;

    async fn fetch_blob(&mut self, blob: &BlobDescriptor) -> Result<Verified<S>, FetchError> {
        let options = self.client.options;
        let sources = self.artifact.sources.iter();
        let sources = sources.map(|source| BlobSource::in_registry(source, options.settings, blob));
        let request = BlobRequest {
            name: &self.artifact.name,
            max_size: blob.max_size(options.settings.max_size),
            pin: Some(blob.pin),
            sources: sources.collect(),
            receipt: self.receipt,
        };
        let complete = |blob: PartialBlob<S>| blob.verify(options.keep);
        let fetched = ask_sources(request, &self.client, self.new_spool, complete).await;
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
