//! The order in which an image's blobs are asked for, and where in them the wanted files are.

use std::io;

use super::manifest::{Descriptor, Document, ImageError, parse};
use super::nearby::Nearby;
use super::path_search::{Found, Progress, Search};
use super::platform::choose;
use crate::fetch::sources::error::{FetchError, Tried};
use crate::fetch::sources::partial::Verified;
use crate::fetch::spool::Spool;
use crate::fetch::unpack::layer::Layer;
use crate::fetch::unpack::limits::{Cap, Limits};
use crate::fetch::unpack::members::ArchiveError;
use crate::model::{Arch, Artifact, Pin};

/// Gives the blobs of an image.
pub(in crate::fetch) trait Blobs<S> {
    /// The verified bytes of `blob`. They need not have the size that the descriptor announces: that is looked at
    /// here.
    ///
    /// # Errors
    /// When no source gives the bytes that its digest names, or they cannot be kept.
    fn get(&mut self, blob: &Descriptor) -> impl Future<Output = Result<Verified<S>, FetchError>>;
}

/// How deep an index may lie within an index.
const DEEPEST: usize = 2;
/// Links make a search begin anew. What is read because of that may be so many times [`Limits::total`].
const ANEW: u64 = 4;

/// The layers of an image that hold wanted files, every byte of them verified, and where in them the files are.
#[derive(Debug)]
pub struct Image<S> {
    layers: Vec<Layer<S>>,
    /// For each member of the artifact.
    places: Vec<Found>,
    receipt: Receipt,
}

/// Where the blobs came from.
#[derive(Debug, Default)]
struct Receipt {
    bytes: u64,
    source: Option<String>,
    tried: Vec<Tried>,
}

impl<S> Image<S> {
    /// How many bytes were fetched, manifests and layers that proved of no use included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.receipt.bytes
    }

    /// The source that gave what the reference names, without user information and query.
    #[must_use]
    pub fn source(&self) -> &str {
        self.receipt.source.as_deref().unwrap_or_default()
    }

    /// What failed on the way.
    #[must_use]
    pub fn tried(&self) -> &[Tried] {
        &self.receipt.tried
    }

    /// Where the member of this number is; its layer as [`Self::into_layers`] gives them.
    pub(in crate::fetch) fn place(&self, member: usize) -> Option<&Found> {
        self.places.get(member)
    }

    pub(in crate::fetch) fn into_layers(self) -> Vec<Layer<S>> {
        self.layers
    }
}

/// Why files could not be gathered from an image.
#[derive(Debug, thiserror::Error)]
pub(in crate::fetch) enum GatherError {
    /// A blob of it cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
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

impl GatherError {
    /// The same, told of the artifact with this name.
    pub(in crate::fetch) fn of(self, artifact: &str) -> FetchError {
        let artifact = artifact.to_owned();
        match self {
            Self::Fetch(error) => error,
            Self::Image(source) => FetchError::Image {
                artifact,
                source: Box::new(source),
            },
            Self::Archive(source) => FetchError::Archive {
                artifact,
                source: Box::new(source),
            },
            Self::Spool(source) => FetchError::Spool { artifact, source },
        }
    }
}

/// Fetches what it takes of the image that `artifact` pins: index, manifest, and layers from the top down until
/// every wanted path is found.
///
/// # Errors
/// See [`GatherError`].
pub(in crate::fetch) async fn gather<S: Spool>(
    artifact: &Artifact,
    limits: &Limits,
    blobs: &mut impl Blobs<S>,
) -> Result<Image<S>, GatherError> {
    let mut receipt = Receipt::default();
    let descriptors = layers_of(artifact, blobs, &mut receipt).await?;
    let paths = artifact.members.iter();
    let mut hunt = Hunt {
        searches: paths.map(|member| Search::new(&member.path)).collect(),
        places: vec![None; artifact.members.len()],
        layers: Vec::new(),
        limits: *limits,
        read: 0,
    };
    while let Some(next) = hunt.next() {
        if next == hunt.layers.len() {
            let Some(descriptor) = descriptors.get(next) else {
                return Err(blocking(move || hunt.exhausted()).await.into());
            };
            let bytes = fetch(descriptor, blobs, &mut receipt).await?;
            let layer = Layer::new(descriptor.pin, descriptor.title.clone(), bytes);
            hunt.layers.push(layer);
        }
        hunt = blocking(move || hunt.look_into(next)).await?;
    }
    Ok(hunt.into_image(receipt))
}

/// The layers of the image, the topmost first.
async fn layers_of<S: Spool>(
    artifact: &Artifact,
    blobs: &mut impl Blobs<S>,
    receipt: &mut Receipt,
) -> Result<Vec<Descriptor>, GatherError> {
    let mut next = Descriptor::of_reference(artifact.pin);
    for _ in 0..=DEEPEST {
        let bytes = fetch(&next, blobs, receipt).await?;
        let (pin, arch) = (next.pin, artifact.arch);
        match blocking(move || read(bytes, pin, arch)).await? {
            Reading::Layers(layers) => return Ok(layers),
            Reading::Within(manifest) => next = manifest,
        }
    }
    Err(ImageError::Nested(next.pin).into())
}

/// What a manifest or index leads to.
enum Reading {
    Layers(Vec<Descriptor>),
    Within(Descriptor),
}

fn read<S: Spool>(mut bytes: Verified<S>, pin: Pin, arch: Arch) -> Result<Reading, GatherError> {
    let mut text = Vec::new();
    bytes
        .rewound()
        .and_then(|spool| spool.read_to_end(&mut text))
        .map_err(GatherError::Spool)?;
    Ok(match parse(pin, &text)? {
        Document::Manifest(layers) => Reading::Layers(layers),
        Document::Index(choices) => Reading::Within(choose(pin, choices, arch)?),
    })
}

/// A blob as large as announced.
async fn fetch<S: Spool>(
    blob: &Descriptor,
    blobs: &mut impl Blobs<S>,
    receipt: &mut Receipt,
) -> Result<Verified<S>, GatherError> {
    let mut bytes = blobs.get(blob).await?;
    receipt.bytes += bytes.bytes();
    receipt.tried.append(&mut bytes.take_tried());
    receipt
        .source
        .get_or_insert_with(|| bytes.source().to_owned());
    blob.hold_to_size(bytes.bytes())?;
    Ok(bytes)
}

/// Runs what reads spools beside the loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Nobody cancels it, so it panicked.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The searches for all wanted paths, and the layers that are here.
struct Hunt<S> {
    /// One for each member.
    searches: Vec<Search>,
    places: Vec<Option<Found>>,
    /// From the top down.
    layers: Vec<Layer<S>>,
    limits: Limits,
    /// Bytes that were unpacked so far, some of them more than once.
    read: u64,
}

impl<S: Spool> Hunt<S> {
    /// The searches that are still open.
    fn open(&self) -> impl Iterator<Item = &Search> {
        let all = self.searches.iter().zip(&self.places);
        all.filter(|(_, place)| place.is_none())
            .map(|(search, _)| search)
    }

    /// The layer to look at next.
    fn next(&self) -> Option<usize> {
        self.open().map(Search::layer).min()
    }

    /// Looks at a layer for all searches that are there.
    fn look_into(mut self, index: usize) -> Result<Self, ArchiveError> {
        let others = self.layers.iter().enumerate();
        let others = others.filter(|(other, _)| *other != index);
        let spent = others.map(|(_, layer)| layer.unpacked).sum();
        let (limits, layer) = (self.limits, &mut self.layers[index]);
        let pin = layer.pin;
        let searches = self.searches.iter_mut().zip(&mut self.places);
        let mut here: Vec<_> = searches
            .filter(|(search, place)| place.is_none() && search.layer() == index)
            .collect();
        layer
            .look_through(&limits, spent, |path, kind| {
                here.iter_mut()
                    .try_for_each(|(search, _)| search.see(path, kind))
            })
            .map_err(|error| error.in_layer(pin))?;
        self.read = self.read.saturating_add(layer.unpacked);
        let most = limits.total.saturating_mul(ANEW);
        if self.read > most {
            return Err(Cap::Anew(most).into());
        }
        let mut missing = Vec::new();
        for (search, place) in here {
            match search.end().map_err(|error| error.in_layer(pin))? {
                Progress::Open => {}
                Progress::Found(found) => *place = Some(found),
                Progress::Missing => missing.push(search.clone()),
            }
        }
        match missing.is_empty() {
            true => Ok(self),
            false => Err(self.not_here(&missing)),
        }
    }

    /// No layer is left.
    fn exhausted(mut self) -> ArchiveError {
        let missing: Vec<Search> = self.open().cloned().collect();
        self.not_here(&missing)
    }

    fn not_here(&mut self, missing: &[Search]) -> ArchiveError {
        let mut paths: Vec<String> = missing
            .iter()
            .map(|search| search.wanted().to_owned())
            .collect();
        paths.dedup();
        let path = missing.first().map_or("", Search::path);
        let mut nearby = Nearby::new(path);
        for layer in &mut self.layers {
            let seen = layer.look_through(&self.limits, 0, |path, _| {
                nearby.see(path);
                Ok(())
            });
            // It could be read before, and this is for a message only.
            drop(seen);
        }
        ArchiveError::NotInImage {
            paths,
            there: nearby.to_string(),
        }
    }

    /// What is kept of it once every search has ended.
    fn into_image(self, receipt: Receipt) -> Image<S> {
        let mut places: Vec<Found> = self.places.into_iter().flatten().collect();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.into_iter().enumerate() {
            let mut here = places
                .iter_mut()
                .filter(|place| place.layer == index)
                .peekable();
            if here.peek().is_none() {
                continue;
            }
            // Never more are kept than were there, so no place that is still to be looked at is met twice.
            here.for_each(|place| place.layer = layers.len());
            layers.push(layer);
        }
        Image {
            layers,
            places,
            receipt,
        }
    }
}
