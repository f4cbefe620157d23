//! Which blobs of an image are fetched, in which order, and where in them the wanted files are.

use std::io;

use super::manifest::{BlobDescriptor, ImageError, ManifestDocument, parse_manifest};
use super::nearby::NearbyPaths;
use super::path_search::{PathSearch, SearchStep};
use super::platform::choose_manifest;
use crate::fetch::spool::DownloadSpool;
use crate::fetch::unpack::{
    ArchiveError, FetchedArtifact, FileLocation, Layer, LimitExceeded, UnpackLimits,
};
use crate::fetch::verify::Verified;
use crate::model::{Arch, Artifact, Pin};

/// Gives the blobs of an image.
pub(in crate::fetch) trait BlobFetcher<S> {
    type Error;

    /// The verified bytes of `blob`. They need not have the size that the descriptor announces: that is compared
    /// afterwards.
    ///
    /// # Errors
    /// When no source gives the bytes that its digest names, or they cannot be kept.
    fn fetch_blob(
        &mut self,
        blob: &BlobDescriptor,
    ) -> impl Future<Output = Result<Verified<S>, Self::Error>>;
}

/// How deep an index may lie within an index.
const MAX_INDEX_DEPTH: usize = 2;
/// A link makes a search start again. All reading together may be this many times [`UnpackLimits::total`].
const MAX_REREADS: u64 = 4;

/// Why files could not be gathered from an image.
#[derive(Debug, thiserror::Error)]
pub(in crate::fetch) enum GatherError<E> {
    /// A blob of it cannot be had.
    #[error("{0}")]
    Fetch(E),
    /// What was pinned is no image that can be used here.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its layers are bad, or the wanted files are not in them.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A manifest cannot be read back on this node.
    #[error("cannot read the manifest of the image back: {0}")]
    Spool(#[source] io::Error),
}

/// Fetches index, manifest and layers of the image that `artifact` pins: layers from the top down, until every wanted
/// path is found.
///
/// # Errors
/// See [`GatherError`].
pub(in crate::fetch) async fn gather_image<S: DownloadSpool, F: BlobFetcher<S>>(
    artifact: &Artifact,
    limits: &UnpackLimits,
    fetcher: &mut F,
) -> Result<FetchedArtifact<S>, GatherError<F::Error>> {
    let descriptors = fetch_layer_list(artifact, fetcher).await?;
    let paths = artifact.members.iter();
    let mut search = ImageSearch {
        searches: paths.map(|member| PathSearch::new(&member.path)).collect(),
        files: vec![None; artifact.members.len()],
        layers: Vec::new(),
        limits: *limits,
        read: 0,
    };
    while let Some(next) = search.next_layer() {
        if next == search.layers.len() {
            let Some(descriptor) = descriptors.get(next) else {
                return Err(run_blocking(move || search.into_missing_error())
                    .await
                    .into());
            };
            let bytes = fetch_sized(descriptor, fetcher).await?;
            let layer = Layer::new(descriptor.pin, descriptor.title.clone(), bytes);
            search.layers.push(layer);
        }
        search = run_blocking(move || search.search_layer(next)).await?;
    }
    Ok(search.into_fetched_artifact())
}

/// The layers of the image, the topmost first.
async fn fetch_layer_list<S: DownloadSpool, F: BlobFetcher<S>>(
    artifact: &Artifact,
    fetcher: &mut F,
) -> Result<Vec<BlobDescriptor>, GatherError<F::Error>> {
    let mut next = BlobDescriptor::from_reference(artifact.pin);
    for _ in 0..=MAX_INDEX_DEPTH {
        let bytes = fetch_sized(&next, fetcher).await?;
        let text = run_blocking(move || read_all(bytes)).await;
        let text = text.map_err(GatherError::Spool)?;
        let (pin, arch) = (next.pin, artifact.arch);
        match run_blocking(move || read_manifest(&text, pin, arch)).await? {
            ManifestContent::Layers(layers) => return Ok(layers),
            ManifestContent::Inner(manifest) => next = manifest,
        }
    }
    Err(ImageError::Nested(next.pin).into())
}

/// What a manifest or index leads to.
enum ManifestContent {
    Layers(Vec<BlobDescriptor>),
    Inner(BlobDescriptor),
}

fn read_manifest(text: &[u8], pin: Pin, arch: Arch) -> Result<ManifestContent, ImageError> {
    Ok(match parse_manifest(pin, text)? {
        ManifestDocument::Manifest(layers) => ManifestContent::Layers(layers),
        ManifestDocument::Index(entries) => {
            ManifestContent::Inner(choose_manifest(pin, entries, arch)?)
        }
    })
}

fn read_all<S: DownloadSpool>(mut bytes: Verified<S>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    bytes.rewound()?.read_to_end(&mut text)?;
    Ok(text)
}

/// Fetches a blob and compares its size with the announced one.
async fn fetch_sized<S: DownloadSpool, F: BlobFetcher<S>>(
    blob: &BlobDescriptor,
    fetcher: &mut F,
) -> Result<Verified<S>, GatherError<F::Error>> {
    let bytes = fetcher.fetch_blob(blob).await;
    let bytes = bytes.map_err(GatherError::Fetch)?;
    blob.check_size(bytes.bytes())?;
    Ok(bytes)
}

/// Runs blocking work on a thread of its own.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The task is never cancelled, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The searches for all wanted paths, and the layers that are here.
struct ImageSearch<S> {
    /// One for each member.
    searches: Vec<PathSearch>,
    files: Vec<Option<FileLocation>>,
    /// From the top down.
    layers: Vec<Layer<S>>,
    limits: UnpackLimits,
    /// Bytes that were unpacked so far, some of them more than once.
    read: u64,
}

impl<S: DownloadSpool> ImageSearch<S> {
    /// The searches that are still open.
    fn open_searches(&self) -> impl Iterator<Item = &PathSearch> {
        let all = self.searches.iter().zip(&self.files);
        all.filter(|(_, file)| file.is_none())
            .map(|(search, _)| search)
    }

    /// The layer to read next.
    fn next_layer(&self) -> Option<usize> {
        self.open_searches().map(PathSearch::layer).min()
    }

    /// Reads a layer once for all searches that have arrived at it.
    fn search_layer(mut self, index: usize) -> Result<Self, ArchiveError> {
        let others = self.layers.iter().enumerate();
        let others = others.filter(|(other, _)| *other != index);
        let spent = others.map(|(_, layer)| layer.unpacked).sum();
        let (limits, layer) = (self.limits, &mut self.layers[index]);
        let pin = layer.pin;
        let searches = self.searches.iter_mut().zip(&mut self.files);
        let mut here: Vec<_> = searches
            .filter(|(search, file)| file.is_none() && search.layer() == index)
            .collect();
        layer
            .visit_entries(&limits, spent, |path, kind| {
                here.iter_mut()
                    .try_for_each(|(search, _)| search.add_entry(path, kind))
            })
            .map_err(|error| error.in_layer(pin))?;
        self.read = self.read.saturating_add(layer.unpacked);
        let most = limits.total.saturating_mul(MAX_REREADS);
        if self.read > most {
            return Err(LimitExceeded::Rereading(most).into());
        }
        let mut missing = Vec::new();
        for (search, file) in here {
            match search.end_layer().map_err(|error| error.in_layer(pin))? {
                SearchStep::Open => {}
                SearchStep::Found(found) => *file = Some(found),
                SearchStep::Missing => missing.push(search.clone()),
            }
        }
        match missing.is_empty() {
            true => Ok(self),
            false => Err(self.missing_files_error(&missing)),
        }
    }

    /// The error where no layer is left to search.
    fn into_missing_error(mut self) -> ArchiveError {
        let missing: Vec<PathSearch> = self.open_searches().cloned().collect();
        self.missing_files_error(&missing)
    }

    fn missing_files_error(&mut self, missing: &[PathSearch]) -> ArchiveError {
        let mut paths: Vec<String> = missing
            .iter()
            .map(|search| search.wanted().to_owned())
            .collect();
        paths.dedup();
        let path = missing.first().map_or("", PathSearch::path);
        let mut nearby = NearbyPaths::new(path);
        for layer in &mut self.layers {
            let seen = layer.visit_entries(&self.limits, 0, |path, _| {
                nearby.add_path(path);
                Ok(())
            });
            // The layer was readable before, and this is for a message only.
            drop(seen);
        }
        ArchiveError::NotInImage {
            paths,
            there: nearby.to_string(),
        }
    }

    /// The layers with wanted files, once every search has ended.
    fn into_fetched_artifact(self) -> FetchedArtifact<S> {
        let mut files: Vec<FileLocation> = self.files.into_iter().flatten().collect();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.into_iter().enumerate() {
            let mut here = files
                .iter_mut()
                .filter(|file| file.layer == index)
                .peekable();
            if here.peek().is_none() {
                continue;
            }
            // Never more are kept than were there, so no file that is still to be looked at is met twice.
            here.for_each(|file| file.layer = layers.len());
            layers.push(layer);
        }
        FetchedArtifact { layers, files }
    }
}
