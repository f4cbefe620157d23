//! Rounds over an artifact's sources until one of them gives the pinned bytes.

use std::io;
use std::time::{Duration, Instant};

use reqwest::Url;

use super::access::Access;
use super::exchange::Exchange;
use super::intake::{Intake, Judged, Verified};
use super::redact::redacted;
use super::{Failure, FetchError, FileSource, Progress, Spool, Tried, WrongDigest};
use crate::config;
use crate::model::Artifact;
use crate::retry::{Backoff, FailureClass, Verdict};

/// How often a body that breaks off is resumed at once, in one visit to a source.
const RESUMES: u32 = 3;

/// What a download needs beside the artifact.
pub struct Means<'a> {
    /// Time limits, sizes and rounds.
    pub settings: &'a config::Fetch,
    /// The content of `settings.ca_file`.
    pub extra_roots: Option<&'a [u8]>,
    /// Opens `file://` sources.
    pub files: &'a dyn FileSource,
    /// Who watches; `&()` for nobody.
    pub progress: &'a dyn Progress,
    /// The pauses between rounds.
    pub backoff: Backoff,
}

/// Gets an artifact from the first source that gives its pinned bytes.
///
/// Goes through the sources in order, up to `attempts` rounds, with a jittered pause between two. A source whose
/// failure lasts (404, a wrong digest, a certificate …) is left out of later rounds. A body that broke off is
/// resumed at the same source if a validator allows it, never at another one. Dropping the future ends it: the
/// writing thread lets go of the spool once its last piece is written.
///
/// # Errors
/// When every source failed, with the last reason for each; or when the spool cannot take the bytes.
pub async fn download<S: Spool>(
    artifact: &Artifact,
    means: &Means<'_>,
    spool: S,
) -> Result<Verified<S>, FetchError> {
    let mut sources: Vec<Source> = artifact
        .sources
        .iter()
        .map(|text| Source::new(text))
        .collect();
    let mut visitor = Visitor {
        artifact,
        means,
        access: Access::new(means.settings, means.extra_roots, means.files),
    };
    let mut intake = Intake::new(spool, artifact.pin);
    let mut impostors = 0;
    let kept = |source| FetchError::Spool {
        artifact: artifact.name.clone(),
        source,
    };
    for round in 0..means.settings.attempts.get() {
        if round > 0 {
            let Some(wait) = next_wait(&sources, Instant::now()) else {
                break;
            };
            let jitter = means.backoff.pause(round - 1, fastrand::u64(..));
            tokio::time::sleep(wait.max(jitter)).await;
        }
        for (index, source) in sources.iter_mut().enumerate() {
            if !source.is_due(Instant::now()) {
                continue;
            }
            match visitor.visit(source, index, intake).await.map_err(kept)? {
                Visited::Got(verified) => return Ok(verified.after(impostors)),
                Visited::Failed(back, failure) => {
                    tracing::warn!(
                        artifact = artifact.name,
                        source = source.shown,
                        kind = failure.kind(),
                        "download failed: {failure}"
                    );
                    impostors += u32::from(matches!(failure, Failure::Digest(_)));
                    source.failed(failure, &means.backoff, Instant::now());
                    intake = *back;
                }
            }
        }
    }
    Err(FetchError::Sources {
        artifact: artifact.name.clone(),
        tried: sources.into_iter().filter_map(Source::into_tried).collect(),
    })
}

/// A source and what is known of it so far.
struct Source {
    url: Result<Url, String>,
    shown: String,
    attempts: u32,
    reason: Option<Failure>,
    state: State,
}

/// When a source may be asked.
#[derive(Clone, Copy)]
enum State {
    /// Not before this moment, if any.
    After(Option<Instant>),
    /// Not again in this download.
    Spent,
}

impl Source {
    fn new(text: &str) -> Self {
        Self {
            url: Url::parse(text).map_err(|error| error.to_string()),
            shown: redacted(text),
            attempts: 0,
            reason: None,
            state: State::After(None),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::After(moment) => moment.is_none_or(|moment| moment <= now),
            State::Spent => false,
        }
    }

    fn failed(&mut self, failure: Failure, backoff: &Backoff, now: Instant) {
        self.state = match failure.class().verdict(failure.retry_after()) {
            Verdict::Retry { after } => {
                State::After(after.and_then(|after| now.checked_add(backoff.honoured(after))))
            }
            Verdict::NextSource => State::Spent,
        };
        self.reason = Some(failure);
    }

    fn into_tried(self) -> Option<Tried> {
        Some(Tried {
            source: self.shown,
            attempts: self.attempts,
            reason: self.reason?,
        })
    }
}

/// How long until the first source may be asked again; `None` if none ever may.
fn next_wait(sources: &[Source], now: Instant) -> Option<Duration> {
    let waits = sources.iter().filter_map(|source| match source.state {
        State::After(None) => Some(Duration::ZERO),
        State::After(Some(moment)) => Some(moment.saturating_duration_since(now)),
        State::Spent => None,
    });
    waits.min()
}

/// What a visit to a source gave.
enum Visited<S> {
    Got(Verified<S>),
    Failed(Box<Intake<S>>, Failure),
}

struct Visitor<'a> {
    artifact: &'a Artifact,
    means: &'a Means<'a>,
    access: Access<'a>,
}

impl Visitor<'_> {
    /// Asks a source until it has given all its bytes or a reason to move on.
    async fn visit<S: Spool>(
        &mut self,
        source: &mut Source,
        index: usize,
        mut intake: Intake<S>,
    ) -> io::Result<Visited<S>> {
        let mut resumes = 0;
        loop {
            source.attempts += 1;
            let before = intake.held_from(index).map_or(0, |_| intake.position());
            let (back, outcome) = self.attempt(source, index, intake).await?;
            intake = back;
            match outcome {
                Ok(()) => {
                    let (bytes, joined) = (intake.position(), intake.joined());
                    match intake.judge(source.shown.clone())? {
                        Judged::Verified(verified) => return Ok(Visited::Got(verified)),
                        // A validator that lied may have joined two different things: once more, from zero.
                        Judged::Mismatch(back, _) if joined => intake = back,
                        Judged::Mismatch(back, actual) => {
                            let wrong = Box::new(WrongDigest {
                                bytes,
                                expected: self.artifact.pin,
                                actual,
                            });
                            return Ok(Visited::Failed(Box::new(back), Failure::Digest(wrong)));
                        }
                    }
                }
                Err(failure) => {
                    let broke_off = matches!(
                        failure.class(),
                        FailureClass::Truncated | FailureClass::Reset
                    );
                    let more = intake.held_from(index).is_some() && intake.position() > before;
                    if !(broke_off && more && resumes < RESUMES) {
                        return Ok(Visited::Failed(Box::new(intake), failure));
                    }
                    resumes += 1;
                }
            }
        }
    }

    async fn attempt<S: Spool>(
        &mut self,
        source: &Source,
        index: usize,
        intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        let url = match &source.url {
            Ok(url) => url,
            Err(error) => return Ok((intake, Err(Failure::Url(error.clone())))),
        };
        match url.scheme() {
            "http" | "https" => {
                let (settings, progress) = (self.means.settings, self.means.progress);
                let exchange = Exchange::begin(&self.access, settings, progress);
                exchange.run(url, index, intake).await
            }
            "file" => self.copy(url, intake).await,
            other => Ok((
                intake,
                Err(Failure::Url(format!("its scheme is '{other}'"))),
            )),
        }
    }

    async fn copy<S: Spool>(
        &self,
        url: &Url,
        intake: Intake<S>,
    ) -> io::Result<(Intake<S>, Result<(), Failure>)> {
        let Ok(path) = url.to_file_path() else {
            let failure = Failure::Url("a file URL has no host: file:///path".to_owned());
            return Ok((intake, Err(failure)));
        };
        let file = match self.means.files.open(&path) {
            Ok(file) => file,
            Err(error) => return Ok((intake, Err(Failure::File(error)))),
        };
        let max_size = self.means.settings.max_size;
        tokio::task::spawn_blocking(move || intake.copy(file, max_size))
            .await
            .map_err(io::Error::other)?
    }
}
