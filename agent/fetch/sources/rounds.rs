//! Rounds over the places of a blob until one of them gives the pinned bytes.

use std::io;
use std::time::Instant;

use super::error::{Failure, FetchError, TimeLimit, Tried};
use super::options::{Kept, Means};
use super::partial::{Intake, Judged, Verified};
use super::source::Place;
use super::source_client::Courier;
use crate::fetch::oci;
use crate::fetch::oci::gather::Blobs;
use crate::fetch::oci::manifest::{Descriptor, Kind};
use crate::fetch::spool::Spool;
use crate::fetch::unpack::fetched::Fetched;
use crate::fetch::unpack::limits::Limits;
use crate::model::{Artifact, FailureKind, Format, Pin};
use crate::retry::{Next, Rounds};

/// How often a body that breaks off, or runs out of its time, is resumed at once, in one visit to a place.
const RESUMES: u32 = 3;

/// One thing to get.
pub(in crate::fetch) struct Blob<'a> {
    /// What it is for, in messages: the operator's name of the artifact.
    pub(in crate::fetch) name: &'a str,
    pub(in crate::fetch) pin: Pin,
    /// The most bytes that it may have.
    pub(in crate::fetch) max_size: u64,
    /// In the order of preference.
    pub(in crate::fetch) places: Vec<Place>,
}

/// Gets an artifact from the first place that gives its pinned bytes: seeds, then its sources.
///
/// Goes through the places in order, up to `attempts` rounds, with a jittered pause between two. A place whose
/// failure lasts (404, a wrong digest, a certificate …) is left out of later rounds, and one whose server was found
/// dead is asked last. A body that broke off is resumed at the same place if a validator allows it, never at another
/// one. Dropping the future ends it: the writing thread lets go of the spool once its last piece is written.
///
/// # Errors
/// When every place failed, with the last reason for each; or when the spool cannot take the bytes.
pub async fn download<S: Spool>(
    artifact: &Artifact,
    means: &Means<'_>,
    spools: &dyn Fn() -> io::Result<S>,
) -> Result<Fetched<S>, FetchError> {
    let mut courier = Courier::new(means);
    if artifact.format == Format::Image {
        let mut layout = Layout {
            artifact,
            courier,
            spools,
        };
        let gathered = oci::gather::gather(artifact, &Limits::default(), &mut layout).await;
        let image = gathered.map_err(|error| error.of(&artifact.name))?;
        return Ok(Fetched::Image(image));
    }
    let sources = artifact.sources.iter().map(|source| Place::of(source));
    let blob = Blob {
        name: &artifact.name,
        pin: artifact.pin,
        max_size: means.settings.max_size,
        places: seeded(means, &artifact.pin).chain(sources).collect(),
    };
    Ok(Fetched::Whole(get(blob, &mut courier, spools).await?))
}

/// The places of a blob in all seeds.
fn seeded(means: &Means<'_>, pin: &Pin) -> impl Iterator<Item = Place> {
    means.seeds.iter().map(|seed| Place::in_seed(seed, pin))
}

/// Gets the blobs of an image, each by its digest from wherever it is.
struct Layout<'a, S> {
    artifact: &'a Artifact,
    courier: Courier<'a>,
    spools: &'a dyn Fn() -> io::Result<S>,
}

impl<S: Spool> Blobs<S> for Layout<'_, S> {
    async fn get(&mut self, blob: &Descriptor) -> Result<Verified<S>, FetchError> {
        let means = self.courier.means;
        let sources = self.artifact.sources.iter();
        let in_registry = |source: &String| Place::in_registry(source, means.settings, blob);
        let places = seeded(means, &blob.pin).chain(sources.map(in_registry));
        let wanted = Blob {
            name: &self.artifact.name,
            pin: blob.pin,
            max_size: blob.max_size(means.settings.max_size),
            places: places.collect(),
        };
        let got = get(wanted, &mut self.courier, self.spools).await;
        if blob.kind == Kind::Layer {
            // It is looked through now, which takes up to a zstd window of memory.
            self.courier.rest();
        }
        got
    }
}

/// Gets a blob from the first of its places that gives the pinned bytes. See [`download`].
pub(in crate::fetch) async fn get<S: Spool>(
    blob: Blob<'_>,
    courier: &mut Courier<'_>,
    spools: &dyn Fn() -> io::Result<S>,
) -> Result<Verified<S>, FetchError> {
    let spool = spools().map_err(|source| FetchError::Spool {
        artifact: blob.name.to_owned(),
        source,
    })?;
    let intake = Intake::new(spool, blob.pin);
    let errand = Errand {
        name: blob.name,
        max_size: blob.max_size,
        places: blob.places,
    };
    let keep = courier.means.keep;
    let (mut verified, tried) = errand.run(courier, intake, Intake::judge).await?;
    if let Some(keep) = keep {
        let copied = verified
            .rewound()
            .and_then(|spool| keep.keep(Kept::Blob(&blob.pin), spool))
            .and_then(|()| verified.rewound().map(drop));
        copied.map_err(|source| FetchError::Copy {
            artifact: blob.name.to_owned(),
            source,
        })?;
    }
    Ok(verified.after(tried))
}

/// Something to get, whatever is made of it then.
pub(in crate::fetch) struct Errand<'a> {
    pub(in crate::fetch) name: &'a str,
    pub(in crate::fetch) max_size: u64,
    pub(in crate::fetch) places: Vec<Place>,
}

impl Errand<'_> {
    /// Asks in rounds until `judge` takes what a place gave. Also returns what failed before that.
    pub(in crate::fetch) async fn run<S: Spool, T>(
        self,
        courier: &mut Courier<'_>,
        mut intake: Intake<S>,
        judge: impl Fn(Intake<S>, String) -> io::Result<Judged<T, S>>,
    ) -> Result<(T, Vec<Tried>), FetchError> {
        let means = courier.means;
        let mut sources = in_order(self.places, means);
        let mut rounds = Rounds::new(sources.len(), means.settings.attempts, means.rounds);
        loop {
            let index = match rounds.next(Instant::now(), means.spread.draw()) {
                Next::Ask(index) => index,
                Next::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Next::Over => {
                    return Err(FetchError::Sources {
                        artifact: self.name.to_owned(),
                        tried: tried(sources),
                    });
                }
            };
            let source = &mut sources[index];
            let visited = visit(courier, source, index, self.max_size, intake, &judge).await;
            let visited = visited.map_err(|source| FetchError::Spool {
                artifact: self.name.to_owned(),
                source,
            })?;
            let server = source.place.server.as_ref();
            match visited {
                Visited::Got(got) => {
                    if let Some(server) = server {
                        means.health.lock().worked(server);
                    }
                    return Ok((got, tried(sources)));
                }
                Visited::Failed(back, failure) => {
                    tell(self.name, &source.place.shown, &failure);
                    let now = Instant::now();
                    if let Some(server) = server {
                        means.health.lock().failed(server, failure.kind(), now);
                    }
                    rounds.failed(index, failure.kind(), failure.retry_after(), now);
                    source.reason = Some(failure);
                    intake = *back;
                }
            }
        }
    }
}

/// Logs a failure. A seed need not have everything: that is said only where nobody else had it either.
fn tell(artifact: &str, source: &str, failure: &Failure) {
    let kind = failure.kind().as_str();
    match failure {
        Failure::NotInSeed => tracing::debug!(artifact, source, kind, "{failure}"),
        _ => tracing::warn!(artifact, source, kind, "download failed: {failure}"),
    }
}

/// The places that may be asked, those of dead servers last.
fn in_order(mut places: Vec<Place>, means: &Means<'_>) -> Vec<Source> {
    places.retain(|place| !means.offline || place.is_local());
    let (health, now) = (means.health.lock(), Instant::now());
    places.sort_by_key(|place| {
        let server = place.server.as_ref();
        server.is_some_and(|server| health.is_down(server, now))
    });
    let fresh = |place| Source {
        place,
        attempts: 0,
        reason: None,
    };
    places.into_iter().map(fresh).collect()
}

/// A place and what is known of it so far.
struct Source {
    place: Place,
    attempts: u32,
    reason: Option<Failure>,
}

/// What failed, in the order in which it was tried.
fn tried(sources: Vec<Source>) -> Vec<Tried> {
    let failed = sources.into_iter().filter_map(|source| {
        Some(Tried {
            source: source.place.shown,
            attempts: source.attempts,
            reason: source.reason?,
        })
    });
    failed.collect()
}

/// What a visit to a place gave.
enum Visited<T, S> {
    Got(T),
    Failed(Box<Intake<S>>, Failure),
}

/// Whether it was the attempt's whole time that ended. Where many nodes share a mirror that is no reason to leave it: the
/// next place begins at zero, and by `scripts/fleet` two of them take turns at that for hours.
const fn is_out_of_time(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Timeout {
            limit: TimeLimit::Total,
            ..
        }
    )
}

/// Asks a place until it has given all its bytes or a reason to move on.
async fn visit<S: Spool, T>(
    courier: &mut Courier<'_>,
    source: &mut Source,
    index: usize,
    max_size: u64,
    mut intake: Intake<S>,
    judge: &impl Fn(Intake<S>, String) -> io::Result<Judged<T, S>>,
) -> io::Result<Visited<T, S>> {
    let mut resumes = 0;
    loop {
        source.attempts += 1;
        let before = intake.held_from(index).map_or(0, |_| intake.position());
        let attempted = courier.attempt(&source.place, index, max_size, intake);
        let (back, outcome) = attempted.await?;
        intake = back;
        match outcome {
            Ok(()) => {
                let joined = intake.joined();
                match judge(intake, source.place.shown.clone())? {
                    Judged::Right(got) => return Ok(Visited::Got(got)),
                    // A validator that lied may have joined two different things: once more, from zero.
                    Judged::Wrong(back, _) if joined => intake = *back,
                    Judged::Wrong(back, failure) => {
                        return Ok(Visited::Failed(back, failure));
                    }
                }
            }
            Err(failure) => {
                let broke_off =
                    matches!(failure.kind(), FailureKind::Truncated | FailureKind::Reset)
                        || is_out_of_time(&failure);
                let more = intake.held_from(index).is_some() && intake.position() > before;
                if !(broke_off && more && resumes < RESUMES) {
                    return Ok(Visited::Failed(Box::new(intake), failure));
                }
                resumes += 1;
            }
        }
    }
}
