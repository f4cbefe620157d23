//! Rounds over the sources of a blob until one of them gives it, with retries, pauses and resumes.

use std::io;
use std::time::Instant;

use super::fetch_error::FetchError;
use super::http_transfer::HttpTransfer;
use super::options::SourceOptions;
use super::partial::{AttemptError, PartialBlob};
use super::source::{BlobSource, SourceLocation};
use super::source_client::SourceClient;
use super::source_error::{FailedSource, SourceError};
use crate::fetch::http::{HttpError, TimeLimit};
use crate::fetch::spool::DownloadSpool;
use crate::model::{FailureKind, FileName, Pin};
use crate::retry::{Next, Rounds};

/// Stands for the pin of a file that has none: no bytes have this digest.
const NO_PIN: Pin = Pin::Sha256([0; 32]);

/// A blob to get.
pub(in crate::fetch) struct BlobRequest<'a> {
    /// What messages call it: the operator's name of the artifact.
    pub(in crate::fetch) name: &'a str,
    /// The most bytes that it may have.
    pub(in crate::fetch) max_size: u64,
    /// The pin of its bytes; `None` for a small file whose digest nobody declares.
    pub(in crate::fetch) pin: Option<Pin>,
    /// In the order of preference. Seeds are added to them.
    pub(in crate::fetch) sources: Vec<BlobSource>,
    /// Where the source that gave it is noted, and what failed before.
    pub(in crate::fetch) receipt: &'a mut FetchReceipt,
}

/// Where the bytes of an artifact came from.
#[derive(Debug, Default)]
pub struct FetchReceipt {
    /// How many bytes were fetched; of an image with its manifests, and with layers that proved of no use.
    pub bytes: u64,
    /// The source that gave them, without user information and query; of an image the one of what its reference
    /// names, which is fetched first.
    pub source: String,
    /// The sources that failed before.
    pub failed_sources: Vec<FailedSource>,
}

/// A source and what is known of it so far.
struct SourceState {
    source: BlobSource,
    attempts: u32,
    error: Option<SourceError>,
}

impl SourceState {
    /// The seeds for what is pinned, then the sources.
    fn list_for(sources: Vec<BlobSource>, pin: Option<&Pin>, options: &SourceOptions) -> Vec<Self> {
        let mut names: Vec<FileName> = sources.iter().filter_map(BlobSource::file_name).collect();
        names.dedup();
        let seeds = options.seeds.iter();
        let seeds = pin.map(|pin| {
            seeds.flat_map(|seed| BlobSource::all_in_seed(seed, pin, &names).collect::<Vec<_>>())
        });
        let all = seeds.into_iter().flatten().chain(sources).collect();
        let ordered = order_sources(all, options, |source| source).into_iter();
        let states = ordered.map(|source| Self {
            source,
            attempts: 0,
            error: None,
        });
        states.collect()
    }

    fn record_success(&self, options: &SourceOptions<'_>) {
        if let Some(server) = &self.source.server {
            options.health.lock().record_success(server);
        }
    }

    fn record_failure(
        &mut self,
        artifact: &str,
        error: SourceError,
        options: &SourceOptions<'_>,
        now: Instant,
    ) {
        log_source_failure(artifact, &self.source.shown, &error);
        if let Some(server) = &self.source.server {
            let kind = error.kind();
            options.health.lock().record_failure(server, kind, now);
        }
        self.error = Some(error);
    }
}

/// Asks the sources in order, up to `attempts` rounds, with a jittered pause between two, until `complete` accepts what
/// one gave. Seeds are asked first for what is pinned.
///
/// A source whose failure lasts (404, a wrong digest, a certificate …) is left out of later rounds, and one whose
/// server was found dead is asked last. A body that broke off is resumed at the same source if a validator allows it,
/// never at another one.
///
/// # Errors
/// When every source failed, with the last reason for each; or when the spool cannot take the bytes, or a copy of them
/// cannot be kept.
pub(in crate::fetch) async fn ask_sources<S: DownloadSpool, T>(
    request: BlobRequest<'_>,
    client: &SourceClient<'_>,
    new_spool: impl FnOnce() -> io::Result<S>,
    complete: impl Fn(PartialBlob<S>) -> Result<T, AttemptError<S>>,
) -> Result<T, FetchError> {
    let (name, max_size, options) = (request.name, request.max_size, client.options);
    let spool = new_spool().map_err(|source| FetchError::spool(name, source))?;
    let mut blob = PartialBlob::new(spool, request.pin.unwrap_or(NO_PIN));
    let mut states = SourceState::list_for(request.sources, request.pin.as_ref(), options);
    let mut rounds = Rounds::new(states.len(), options.settings.attempts, options.rounds);
    while let Some(index) = next_source(&mut rounds, options).await {
        let state = &mut states[index];
        state.attempts += 1;
        let before = blob.resume_from(index).map_or(0, |_| blob.position());
        let attempt = match &state.source.location {
            SourceLocation::Web(url) => {
                let transfer = HttpTransfer::new(client, max_size);
                transfer.receive(url, index, blob).await
            }
            SourceLocation::File(path) => client.copy_file(path, None, max_size, blob).await,
            SourceLocation::Seed { path, looked_for } => {
                let looked_for = Some(looked_for.clone());
                client.copy_file(path, looked_for, max_size, blob).await
            }
            SourceLocation::Unusable(why) => Err(blob.failed(SourceError::Url(why.clone()))),
        };
        // A wrong validator may have joined parts of two different files. The source is then asked again, from zero.
        let is_joined = attempt.as_ref().is_ok_and(PartialBlob::is_joined);
        let bytes = attempt.as_ref().map_or(0, PartialBlob::position);
        match attempt.and_then(&complete) {
            Ok(value) => {
                state.record_success(options);
                let source = state.source.shown.clone();
                let failed = into_failed_sources(states);
                request.receipt.add_source(source, bytes, failed);
                return Ok(value);
            }
            Err(AttemptError::Source(part, error)) => {
                let has_grown = part.resume_from(index).is_some() && part.position() > before;
                let is_resumable = is_joined || has_grown && can_resume_after(&error);
                if !(is_resumable && rounds.resume(index)) {
                    let now = Instant::now();
                    rounds.record_failure(index, error.kind(), error.retry_after(), now);
                    state.record_failure(name, error, options, now);
                }
                blob = *part;
            }
            Err(AttemptError::Spool(source)) => return Err(FetchError::spool(name, source)),
            Err(AttemptError::Copy(source)) => {
                let artifact = name.to_owned();
                return Err(FetchError::Copy { artifact, source });
            }
        }
    }
    Err(FetchError::Sources {
        artifact: name.to_owned(),
        tried: into_failed_sources(states),
    })
}

impl FetchReceipt {
    /// Adds the source of a blob. The first one is what a reference names.
    fn add_source(&mut self, source: String, bytes: u64, failed_sources: Vec<FailedSource>) {
        self.bytes += bytes;
        if self.source.is_empty() {
            self.source = source;
        }
        self.failed_sources.extend(failed_sources);
    }
}

/// The source to ask next, after the pause that may be due first. `None` when no source is worth another try.
pub(in crate::fetch) async fn next_source(
    rounds: &mut Rounds,
    options: &SourceOptions<'_>,
) -> Option<usize> {
    loop {
        match rounds.next_step(Instant::now(), options.spread.next_number()) {
            Next::Ask(index) => return Some(index),
            Next::Wait(pause) => tokio::time::sleep(pause).await,
            Next::Over => return None,
        }
    }
}

/// Whether the body broke off, or the attempt's whole time ended. A mirror that many nodes share may be too slow for one
/// attempt, and is not left for that: the next source would begin at zero, and may be as slow (see `scripts/fleet`).
fn can_resume_after(error: &SourceError) -> bool {
    let is_out_of_time = matches!(
        error,
        SourceError::Http(HttpError::Timeout {
            limit: TimeLimit::Total,
            ..
        })
    );
    is_out_of_time || matches!(error.kind(), FailureKind::Truncated | FailureKind::Reset)
}

/// Logs a failure. A seed need not have everything, so for that a warning would be too loud.
fn log_source_failure(artifact: &str, source: &str, error: &SourceError) {
    let kind = error.kind().as_str();
    match error {
        SourceError::NotInSeed { .. } => tracing::debug!(artifact, source, kind, "{error}"),
        _ => tracing::warn!(artifact, source, kind, "download failed: {error}"),
    }
}

/// The sources that may be asked, those of dead servers last.
pub(in crate::fetch) fn order_sources<T>(
    mut sources: Vec<T>,
    options: &SourceOptions<'_>,
    blob_source: impl Fn(&T) -> &BlobSource,
) -> Vec<T> {
    sources.retain(|source| !options.offline || blob_source(source).is_local());
    let (health, now) = (options.health.lock(), Instant::now());
    sources.sort_by_key(|source| {
        let server = blob_source(source).server.as_ref();
        server.is_some_and(|server| health.is_down(server, now))
    });
    sources
}

/// The sources that failed, in the order in which they were asked. A seed that does not have it is among them once.
fn into_failed_sources(states: Vec<SourceState>) -> Vec<FailedSource> {
    let says_something = |error: &SourceError| !matches!(error, SourceError::NotInSeed { looked_for } if looked_for.is_empty());
    let failed = states.into_iter().filter_map(|state| {
        Some(FailedSource {
            source: state.source.shown,
            attempts: state.attempts,
            reason: state.error.filter(says_something)?,
        })
    });
    failed.collect()
}
