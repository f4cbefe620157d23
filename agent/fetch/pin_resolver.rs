//! The pins that the configuration leaves to signed lists and checksum files, and the signatures over artifacts.
//!
//! The files with the answers are asked for in rounds over their sources. A source whose answer is not verified is left
//! out like one that gives wrong bytes: the next may have the right file.

use std::num::NonZeroU32;
use std::path::Path;
use std::slice;
use std::time::{Duration, Instant};

use super::sources::{
    BlobSource, FailedSource, FetchError, SourceOptions, next_source, order_sources,
    read_small_file,
};
use crate::config;
use crate::model::{Artifact, Companion, FailureKind, Pin, SourceFailure};
use crate::retry::Rounds;
use crate::trust::{
    self, BlobKey, BlobSignature, DeclaredPin, DigestSource, LARGEST_LIST, LARGEST_SIGNATURE,
    ListKey, SignatureLocation, VerificationError, artifact_file_name, list_signature_url,
};

/// Resolves the digest of an artifact that the configuration leaves to a list or a checksum file, and verifies the
/// signature over it.
///
/// # Errors
/// [`FetchError::UnresolvedPin`] when no trusted file gives it; [`FetchError::Copy`].
pub async fn resolve_pin(
    artifact: &Artifact<DeclaredPin>,
    options: &SourceOptions<'_>,
) -> Result<ResolvedPin, FetchError> {
    let resolver = PinResolver {
        artifact,
        options,
        settings: config::FetchSettings {
            attempts: NonZeroU32::MIN,
            ..options.settings.clone()
        },
    };
    resolver.resolve().await
}

/// The digest that an artifact must have.
#[derive(Debug)]
pub struct ResolvedPin {
    pub pin: Pin,
    /// The sources of lists, checksum files and signatures that failed before one gave the answer.
    pub failed_sources: Vec<SourceFailure>,
}

/// Resolves the pin of one artifact.
struct PinResolver<'a> {
    artifact: &'a Artifact<DeclaredPin>,
    options: &'a SourceOptions<'a>,
    /// With one attempt each: the rounds are made here, over what has to go together.
    settings: config::FetchSettings,
}

/// What is asked of a source.
enum PinQuestion<'a> {
    /// Which digest a list signed with this key has for the artifact.
    List(&'a ListKey),
    /// Which digest the checksum file holds.
    Checksum,
    /// Whether this key signed the artifact of this digest.
    Signature(&'a BlobKey, Pin),
}

/// One source of a file that may hold the answer.
struct PinSource<'a> {
    /// The URL that the file is declared by.
    url: String,
    place: PinPlace<'a>,
    blob: BlobSource,
}

/// Where the files of a declaration are asked for.
enum PinPlace<'a> {
    Seed(&'a Path),
    /// At a mirror, or at the URL of the declaration itself.
    Url(String),
}

impl<'a> PinSource<'a> {
    fn in_seed(seed: &'a Path, url: String) -> Self {
        Self {
            blob: BlobSource::in_seed_by_url(seed, &url),
            place: PinPlace::Seed(seed),
            url,
        }
    }

    fn at_url(source: String, url: String) -> Self {
        Self {
            blob: BlobSource::from_url(&source),
            place: PinPlace::Url(source),
            url,
        }
    }

    /// The source of the signature over a list.
    fn list_signature(&self) -> Self {
        let url = list_signature_url(&self.url);
        match &self.place {
            PinPlace::Seed(seed) => Self::in_seed(seed, url),
            PinPlace::Url(source) => Self::at_url(list_signature_url(source), url),
        }
    }
}

/// Why a source was of no use.
enum PinSourceError {
    /// It may not be asked.
    NotAsked,
    /// It gave nothing.
    Fetch(Box<FailedSource>),
    /// What it gave cannot be kept, which is not its fault.
    Copy(FetchError),
    /// What it gave is not verified.
    NotVerified(VerificationError),
}

impl<'a> PinResolver<'a> {
    async fn resolve(&self) -> Result<ResolvedPin, FetchError> {
        let mut failed_sources = Vec::new();
        let DeclaredPin { source, signature } = &self.artifact.pin;
        let pin = match source {
            DigestSource::Configuration(pin) => *pin,
            DigestSource::List(list) => {
                let question = PinQuestion::List(&list.key);
                self.ask_sources(&question, &list.sources, &mut failed_sources)
                    .await?
            }
            DigestSource::ChecksumFile(file) => {
                let question = PinQuestion::Checksum;
                self.ask_sources(&question, slice::from_ref(file), &mut failed_sources)
                    .await?
            }
        };
        if let Some(signature) = signature {
            match &signature.location {
                SignatureLocation::Inline(signed) => {
                    let verified = signature.key.verify(&pin, signed);
                    verified.map_err(|error| self.bad_inline_signature(&error))?;
                }
                SignatureLocation::At(file) => {
                    let question = PinQuestion::Signature(&signature.key, pin);
                    self.ask_sources(&question, slice::from_ref(file), &mut failed_sources)
                        .await?;
                }
            }
        }
        Ok(ResolvedPin {
            pin,
            failed_sources,
        })
    }

    async fn ask_sources(
        &self,
        question: &PinQuestion<'_>,
        files: &[Companion],
        failed_sources: &mut Vec<SourceFailure>,
    ) -> Result<Pin, FetchError> {
        let sources = self.list_sources(files);
        let mut failures: Vec<Option<SourceFailure>> = vec![None; sources.len()];
        let mut rounds = Rounds::new(
            sources.len(),
            self.options.settings.attempts,
            self.options.rounds,
        );
        let answer = loop {
            let Some(index) = next_source(&mut rounds, self.options).await else {
                break None;
            };
            match self.ask_source(question, &sources[index]).await {
                Ok(pin) => break Some(pin),
                Err(PinSourceError::Copy(error)) => return Err(error),
                Err(error) => {
                    if let PinSourceError::NotVerified(why) = &error {
                        tracing::warn!(
                            artifact = self.artifact.name,
                            source = sources[index].blob.shown,
                            kind = why.kind().as_str(),
                            "not to be believed: {why}"
                        );
                    }
                    rounds.record_failure(index, error.kind(), error.retry_after(), Instant::now());
                    let before = failures[index].as_ref().map_or(0, |before| before.attempts);
                    failures[index] = error.into_failure(&sources[index], before + 1);
                }
            }
        };
        let failures: Vec<SourceFailure> = failures.into_iter().flatten().collect();
        match answer {
            Some(pin) => {
                failed_sources.extend(failures);
                Ok(pin)
            }
            None => Err(FetchError::UnresolvedPin {
                artifact: self.artifact.name.clone(),
                version: self.artifact.version.clone(),
                tried: failures,
            }),
        }
    }

    /// Every source that may be asked: seeds first and dead servers last, as for any download.
    fn list_sources(&self, files: &[Companion]) -> Vec<PinSource<'a>> {
        let seeds = self.options.seeds;
        let seeded = files.iter().flat_map(|file| {
            let seeds = seeds.iter();
            seeds.map(|seed| PinSource::in_seed(seed, file.url.clone()))
        });
        let declared = files.iter().flat_map(|file| {
            let sources = file.sources.iter();
            sources.map(|source| PinSource::at_url(source.clone(), file.url.clone()))
        });
        order_sources(seeded.chain(declared).collect(), self.options, |source| {
            &source.blob
        })
    }

    /// Asks one source.
    async fn ask_source(
        &self,
        question: &PinQuestion<'_>,
        source: &PinSource<'_>,
    ) -> Result<Pin, PinSourceError> {
        let file = artifact_file_name(self.artifact);
        match question {
            PinQuestion::List(key) => {
                let list = self.read_file(source, LARGEST_LIST).await?;
                let signature = source.list_signature();
                let signature = self.read_file(&signature, LARGEST_SIGNATURE).await?;
                key.verify(&list, &signature)
                    .map_err(PinSourceError::NotVerified)?;
                trust::find_listed_digest(&list, file).map_err(PinSourceError::NotVerified)
            }
            PinQuestion::Checksum => {
                let text = self.read_file(source, LARGEST_SIGNATURE).await?;
                trust::parse_checksum_file(&text, file).map_err(PinSourceError::NotVerified)
            }
            PinQuestion::Signature(key, pin) => {
                let text = self.read_file(source, LARGEST_SIGNATURE).await?;
                let signed =
                    BlobSignature::from_file(&text).map_err(PinSourceError::NotVerified)?;
                key.verify(pin, &signed)
                    .map_err(PinSourceError::NotVerified)?;
                Ok(*pin)
            }
        }
    }

    async fn read_file(
        &self,
        source: &PinSource<'_>,
        limit: u64,
    ) -> Result<Vec<u8>, PinSourceError> {
        let options = SourceOptions {
            settings: &self.settings,
            progress: &(),
            ..*self.options
        };
        let (name, blob) = (&self.artifact.name, source.blob.clone());
        let read = read_small_file(name, blob, &source.url, &options, limit).await;
        read.map_err(|error| match error {
            FetchError::Sources { tried, .. } => match tried.into_iter().next() {
                Some(tried) => PinSourceError::Fetch(Box::new(tried)),
                None => PinSourceError::NotAsked,
            },
            other => PinSourceError::Copy(other),
        })
    }

    fn bad_inline_signature(&self, error: &VerificationError) -> FetchError {
        FetchError::UnresolvedPin {
            artifact: self.artifact.name.clone(),
            version: self.artifact.version.clone(),
            tried: vec![SourceFailure {
                source: "artifacts[].signature.value".to_owned(),
                attempts: 1,
                reason: error.kind(),
                message: error.to_string(),
            }],
        }
    }
}

impl PinSourceError {
    /// What is not verified stays so: it counts as wrong bytes do.
    fn kind(&self) -> FailureKind {
        match self {
            Self::NotAsked | Self::Copy(_) => FailureKind::Io,
            Self::Fetch(tried) => tried.reason.kind(),
            Self::NotVerified(_) => FailureKind::Digest,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fetch(tried) => tried.reason.retry_after(),
            Self::NotAsked | Self::Copy(_) | Self::NotVerified(_) => None,
        }
    }

    fn into_failure(self, source: &PinSource<'_>, attempts: u32) -> Option<SourceFailure> {
        match self {
            Self::NotAsked | Self::Copy(_) => None,
            Self::Fetch(tried) => Some(SourceFailure {
                attempts,
                ..SourceFailure::from(&*tried)
            }),
            Self::NotVerified(error) => Some(SourceFailure {
                source: source.blob.shown.clone(),
                attempts,
                reason: error.kind(),
                message: error.to_string(),
            }),
        }
    }
}
