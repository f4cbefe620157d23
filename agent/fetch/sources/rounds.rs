//! Rounds over the sources of a blob until one of them gives it, with retries, pauses and resumes.

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
use crate::model::FailureKind;
use crate::retry::{Next, Rounds};

/// How often a body that breaks off, or runs out of its time, is resumed at once, before the source counts as failed.
const MAX_RESUMES: u32 = 3;

/// A blob to get.
pub(in crate::fetch) struct BlobRequest<'a> {
    /// What messages call it: the operator's name of the artifact.
    pub(in crate::fetch) name: &'a str,
    /// The most bytes that it may have.
    pub(in crate::fetch) max_size: u64,
    /// In the order of preference.
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
    const fn new(source: BlobSource) -> Self {
        Self {
            source,
            attempts: 0,
            error: None,
        }
    }
}

/// Asks the sources in order, up to `attempts` rounds, with a jittered pause between two, until `complete` accepts what
/// one gave.
///
/// A source whose failure lasts (404, a wrong digest, a certificate …) is left out of later rounds, and one whose
/// server was found dead is asked last. A body that broke off is resumed at the same source if a validator allows it,
/// never at another one.
///
/// # Errors
/// When every source failed, with the last reason for each; or when the spool cannot take the bytes.
pub(in crate::fetch) async fn ask_sources<S: DownloadSpool, T>(
    request: BlobRequest<'_>,
    client: &SourceClient<'_>,
    mut blob: PartialBlob<S>,
    complete: impl Fn(PartialBlob<S>) -> Result<T, AttemptError<S>>,
) -> Result<T, FetchError> {
    let options = client.options;
    let sources = order_sources(request.sources, options, |source| source);
    let mut states: Vec<SourceState> = sources.into_iter().map(SourceState::new).collect();
    let mut rounds = Rounds::new(states.len(), options.settings.attempts, options.rounds);
    while let Some(index) = next_source(&mut rounds, options).await {
        let state = &mut states[index];
        let tried = try_source(client, state, index, request.max_size, blob, &complete).await;
        let server = state.source.server.as_ref();
        match tried {
            Ok(value) => {
                if let Some(server) = server {
                    options.health.lock().record_success(server);
                }
                let source = state.source.shown.clone();
                request
                    .receipt
                    .add_source(source, into_failed_sources(states));
                return Ok(value);
            }
            Err(AttemptError::Source(back, error)) => {
                log_source_failure(request.name, &state.source.shown, &error);
                let (kind, now) = (error.kind(), Instant::now());
                if let Some(server) = server {
                    options.health.lock().record_failure(server, kind, now);
                }
                rounds.record_failure(index, kind, error.retry_after(), now);
                state.error = Some(error);
                blob = *back;
            }
            Err(AttemptError::Spool(source)) => {
                let artifact = request.name.to_owned();
                return Err(FetchError::Spool { artifact, source });
            }
        }
    }
    Err(FetchError::Sources {
        artifact: request.name.to_owned(),
        tried: into_failed_sources(states),
    })
}

impl FetchReceipt {
    /// Adds the source of a blob. The first one is what a reference names.
    fn add_source(&mut self, source: String, failed_sources: Vec<FailedSource>) {
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

/// Asks a source until it has given all its bytes or a reason to move on.
async fn try_source<S: DownloadSpool, T>(
    client: &SourceClient<'_>,
    state: &mut SourceState,
    index: usize,
    max_size: u64,
    mut blob: PartialBlob<S>,
    complete: &impl Fn(PartialBlob<S>) -> Result<T, AttemptError<S>>,
) -> Result<T, AttemptError<S>> {
    let mut resumes = 0;
    loop {
        state.attempts += 1;
        let before = blob.resume_from(index).map_or(0, |_| blob.position());
        let attempt = match &state.source.location {
            SourceLocation::Web(url) => {
                let transfer = HttpTransfer::new(client, max_size);
                transfer.receive(url, index, blob).await
            }
            SourceLocation::File(path) => client.copy_file(path, false, max_size, blob).await,
            SourceLocation::Seed(path) => client.copy_file(path, true, max_size, blob).await,
            SourceLocation::Unusable(why) => Err(blob.failed(SourceError::Url(why.clone()))),
        };
        match attempt {
            Ok(whole) => {
                let is_joined = whole.is_joined();
                match complete(whole) {
                    // A validator that lied may have joined two different things: once more, from zero.
                    Err(AttemptError::Source(back, _)) if is_joined => blob = *back,
                    completed => return completed,
                }
            }
            Err(AttemptError::Source(part, error)) => {
                let has_grown = part.resume_from(index).is_some() && part.position() > before;
                if !(is_resumable(&error) && has_grown && resumes < MAX_RESUMES) {
                    return Err(AttemptError::Source(part, error));
                }
                resumes += 1;
                blob = *part;
            }
            Err(error @ AttemptError::Spool(_)) => return Err(error),
        }
    }
}

/// Whether the body broke off, or the attempt's whole time ended. Where many nodes share a mirror the latter is no
/// reason to leave it: the next source begins at zero, and by `scripts/fleet` two of them take turns at that for hours.
fn is_resumable(error: &SourceError) -> bool {
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
        SourceError::NotInSeed => tracing::debug!(artifact, source, kind, "{error}"),
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

/// The sources that failed, in the order in which they were asked.
fn into_failed_sources(states: Vec<SourceState>) -> Vec<FailedSource> {
    let failed = states.into_iter().filter_map(|state| {
        Some(FailedSource {
            source: state.source.shown,
            attempts: state.attempts,
            reason: state.error?,
        })
    });
    failed.collect()
}
