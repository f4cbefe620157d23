//! Asking for a digest, and for a signature over it: in rounds over every place where the answer may lie.
//!
//! A place whose answer is not to be believed is left out like one that gives wrong bytes: the next may be whole.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::slice;
use std::time::{Duration, Instant};

use crate::config;
use crate::fetch::http::redact::redacted;
use crate::fetch::sources::error::{FetchError, Tried};
use crate::fetch::sources::options::Means;
use crate::fetch::sources::small_file::read_small;
use crate::fetch::sources::source::Place;
use crate::model::{Artifact, Companion, FailureKind, Pin, SourceFailure};
use crate::retry::{Next, Rounds};
use crate::trust::{
    self, BlobKey, BlobSignature, DeclaredPin, DigestSource, LARGEST_LIST, LARGEST_SIGNATURE,
    ListKey, SignatureLocation, VerificationError, artifact_file_name, list_signature,
};

/// Learns the digest of an artifact that the configuration leaves to others, and verifies the signature that has to
/// fit it. Also returns who was asked in vain before.
///
/// # Errors
/// [`FetchError::Unvouched`], when nobody says it whom the declaration trusts; [`FetchError::Copy`].
pub async fn inquire(
    artifact: &Artifact<DeclaredPin>,
    means: &Means<'_>,
) -> Result<(Pin, Vec<SourceFailure>), FetchError> {
    let inquiry = Inquiry {
        artifact,
        means,
        settings: config::FetchSettings {
            attempts: NonZeroU32::MIN,
            ..means.settings.clone()
        },
    };
    inquiry.answer().await
}

/// What is asked about one artifact.
struct Inquiry<'a> {
    artifact: &'a Artifact<DeclaredPin>,
    means: &'a Means<'a>,
    /// With one attempt each: the rounds are made here, over what has to go together.
    settings: config::FetchSettings,
}

/// One question.
enum Question<'a> {
    /// Which digest a list signed with this key has for the artifact.
    List(&'a ListKey),
    /// Which digest the checksum file holds.
    Checksum,
    /// Whether this key signed the artifact of this digest.
    Signature(&'a BlobKey, Pin),
}

/// One place where the answer may lie.
struct Spot<'a> {
    /// As it may be shown.
    shown: String,
    /// The seed, or none.
    seeds: &'a [PathBuf],
    /// The file, with the source, unless it is the seed that is asked.
    file: Companion,
}

/// Why a place was of no use.
enum Doubt {
    /// A seed that does not have the file.
    NotThere,
    /// It gave nothing.
    Fetch(Box<Tried>),
    /// What it gave cannot be kept, which is not its fault.
    Copy(FetchError),
    /// What it gave is not to be believed.
    VerificationError(VerificationError),
}

impl<'a> Inquiry<'a> {
    async fn answer(&self) -> Result<(Pin, Vec<SourceFailure>), FetchError> {
        let mut tried = Vec::new();
        let DeclaredPin {
            source: by,
            signature,
        } = &self.artifact.pin;
        let pin = match by {
            DigestSource::Configuration(pin) => *pin,
            DigestSource::List(list) => {
                let question = Question::List(&list.key);
                self.ask(&question, &list.sources, &mut tried).await?
            }
            DigestSource::ChecksumFile(file) => {
                self.ask(&Question::Checksum, slice::from_ref(file), &mut tried)
                    .await?
            }
        };
        if let Some(signature) = signature {
            match &signature.location {
                SignatureLocation::Inline(signed) => {
                    let verified = signature.key.verify(&pin, signed);
                    verified.map_err(|distrust| self.unvouched(&distrust))?;
                }
                SignatureLocation::At(file) => {
                    let question = Question::Signature(&signature.key, pin);
                    self.ask(&question, slice::from_ref(file), &mut tried)
                        .await?;
                }
            }
        }
        Ok((pin, tried))
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        files: &[Companion],
        tried: &mut Vec<SourceFailure>,
    ) -> Result<Pin, FetchError> {
        let spots = self.spots(files);
        let mut failures: Vec<Option<SourceFailure>> = vec![None; spots.len()];
        let mut rounds = Rounds::new(spots.len(), self.means.settings.attempts, self.means.rounds);
        let answer = loop {
            let index = match rounds.next(Instant::now(), self.means.spread.draw()) {
                Next::Ask(index) => index,
                Next::Wait(pause) => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Next::Over => break None,
            };
            match self.put(question, &spots[index]).await {
                Ok(pin) => break Some(pin),
                Err(Doubt::Copy(error)) => return Err(error),
                Err(doubt) => {
                    if let Doubt::VerificationError(distrust) = &doubt {
                        tracing::warn!(
                            artifact = self.artifact.name,
                            source = spots[index].shown,
                            kind = distrust.kind().as_str(),
                            "not to be believed: {distrust}"
                        );
                    }
                    rounds.failed(index, doubt.kind(), doubt.retry_after(), Instant::now());
                    let before = failures[index].as_ref().map_or(0, |before| before.attempts);
                    failures[index] = doubt.told(&spots[index], before + 1);
                }
            }
        };
        let failures: Vec<SourceFailure> = failures.into_iter().flatten().collect();
        match answer {
            Some(pin) => {
                tried.extend(failures);
                Ok(pin)
            }
            None => Err(FetchError::Unvouched {
                artifact: self.artifact.name.clone(),
                version: self.artifact.version.clone(),
                tried: failures,
            }),
        }
    }

    /// Every place that may be asked: seeds first and dead servers last, as for any download.
    fn spots<'b>(&self, files: &'b [Companion]) -> Vec<Spot<'b>>
    where
        'a: 'b,
    {
        let means: &'a Means<'a> = self.means;
        let seeds = means.seeds;
        let seeded = files.iter().flat_map(|file| {
            seeds.iter().map(|seed| Spot {
                shown: format!("seed {}", seed.display()),
                seeds: slice::from_ref(seed),
                file: Companion {
                    url: file.url.clone(),
                    sources: Vec::new(),
                },
            })
        });
        let sources = files.iter().flat_map(|file| {
            let sources = file.sources.iter();
            let allowed = sources.filter(|source| !means.offline || source.starts_with("file://"));
            allowed.map(|source| Spot {
                shown: redacted(source),
                seeds: &[],
                file: Companion {
                    url: file.url.clone(),
                    sources: vec![source.clone()],
                },
            })
        });
        let mut spots: Vec<Spot<'b>> = seeded.chain(sources).collect();
        let (health, now) = (means.health.lock(), Instant::now());
        spots.sort_by_key(|spot| {
            let mut servers = spot
                .file
                .sources
                .iter()
                .filter_map(|it| Place::of(it).server);
            servers.any(|server| health.is_down(&server, now))
        });
        spots
    }

    /// Puts the question to one place.
    async fn put(&self, question: &Question<'_>, spot: &Spot<'_>) -> Result<Pin, Doubt> {
        let file = artifact_file_name(self.artifact);
        match question {
            Question::List(key) => {
                let list = self.read(spot, &spot.file, LARGEST_LIST).await?;
                let signature = list_signature(&spot.file);
                let signature = self.read(spot, &signature, LARGEST_SIGNATURE).await?;
                key.verify(&list, &signature)
                    .map_err(Doubt::VerificationError)?;
                trust::find_listed_digest(&list, file).map_err(Doubt::VerificationError)
            }
            Question::Checksum => {
                let text = self.read(spot, &spot.file, LARGEST_SIGNATURE).await?;
                trust::parse_checksum_file(&text, file).map_err(Doubt::VerificationError)
            }
            Question::Signature(key, pin) => {
                let text = self.read(spot, &spot.file, LARGEST_SIGNATURE).await?;
                let signed = BlobSignature::from_file(&text).map_err(Doubt::VerificationError)?;
                key.verify(pin, &signed).map_err(Doubt::VerificationError)?;
                Ok(*pin)
            }
        }
    }

    async fn read(&self, spot: &Spot<'_>, file: &Companion, limit: u64) -> Result<Vec<u8>, Doubt> {
        let means = Means {
            settings: &self.settings,
            seeds: spot.seeds,
            progress: &(),
            ..*self.means
        };
        let read = read_small(&self.artifact.name, file, &means, limit).await;
        read.map_err(|error| match error {
            FetchError::Sources { tried, .. } => match tried.into_iter().next() {
                Some(tried) => Doubt::Fetch(Box::new(tried)),
                None => Doubt::NotThere,
            },
            other => Doubt::Copy(other),
        })
    }

    fn unvouched(&self, distrust: &VerificationError) -> FetchError {
        FetchError::Unvouched {
            artifact: self.artifact.name.clone(),
            version: self.artifact.version.clone(),
            tried: vec![SourceFailure {
                source: "artifacts[].signature.value".to_owned(),
                attempts: 1,
                reason: distrust.kind(),
                message: distrust.to_string(),
            }],
        }
    }
}

impl Doubt {
    /// What is not to be believed stays so: it counts as wrong bytes do.
    fn kind(&self) -> FailureKind {
        match self {
            Self::NotThere | Self::Copy(_) => FailureKind::Io,
            Self::Fetch(tried) => tried.reason.kind(),
            Self::VerificationError(_) => FailureKind::Digest,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch(tried) => tried.reason.retry_after(),
            Self::NotThere | Self::Copy(_) | Self::VerificationError(_) => None,
        }
    }

    fn told(self, spot: &Spot<'_>, attempts: u32) -> Option<SourceFailure> {
        match self {
            Self::NotThere | Self::Copy(_) => None,
            Self::Fetch(tried) => Some(SourceFailure {
                attempts,
                ..SourceFailure::from(&*tried)
            }),
            Self::VerificationError(distrust) => Some(SourceFailure {
                source: spot.shown.clone(),
                attempts,
                reason: distrust.kind(),
                message: distrust.to_string(),
            }),
        }
    }
}
