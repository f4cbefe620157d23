//! Artifacts into the store: learn the pin, download, verify the digest, take out the wanted plugins.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::error::{ReconcileError, run_blocking};
use super::observer::{Observer, ledger_key};
use super::state_lock::StateLock;
use crate::fetch::{
    self, DownloadProgress, FetchError, FetchedArtifact, FetchedContent, LocalFiles, MemberSink,
    ResolvedPin, UnpackLimits,
};
use crate::host::{HostError, SpoolFile, Temp};
use crate::model::{Artifact, FailureKind, Member, Pin, Sha256, SourceFailure};
use crate::retry::RoundsPolicy;
use crate::store::{LearnedPin, MeasuredFile, Store};
use crate::trust::{DeclaredPin, PinDeclaration};

/// What an artifact was found to hold: the ledger's key of each member, and what it is.
pub(super) type Measured = Vec<(String, MeasuredFile)>;

/// Who watches what is going on, such as the progress bar of a terminal.
pub trait DownloadObserver {
    /// A download begins. What is returned is told of every step, and dropped at the end.
    fn downloading(&self, artifact: &Artifact) -> Box<dyn DownloadProgress + '_>;
}

/// Nobody watches.
impl DownloadObserver for () {
    fn downloading(&self, _artifact: &Artifact) -> Box<dyn DownloadProgress + '_> {
        Box::new(())
    }
}

/// How to download.
pub struct DownloadOptions<'a> {
    /// Whether everything but seeds and `file://` sources is left alone.
    pub offline: bool,
    /// Who watches.
    pub progress: &'a dyn DownloadObserver,
}

/// An artifact that was downloaded and proven.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DownloadedArtifact {
    /// The artifact, by the operator's name.
    pub artifact: String,
    /// Its version.
    pub version: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// The source that gave it, without secrets.
    pub source: String,
    /// The pin that it matched.
    pub pin: String,
    /// What failed before that one, in order.
    pub tried: Vec<SourceFailure>,
}

/// An artifact whose plugins are in the store by now.
#[derive(Debug)]
pub struct StoredArtifact {
    /// What was downloaded.
    pub fetched: DownloadedArtifact,
    pub(super) pin: Pin,
    pub(super) measured: Measured,
}

/// Downloads an artifact, verifies it, and takes its plugins into the store. It may take minutes, so the daemon does it
/// beside passes.
///
/// `None` where only its digest was to be learned, and what is here already has it.
///
/// # Errors
/// When nobody says the digest whom the declaration trusts, no source gives the pinned bytes, or the disk refuses.
pub(super) async fn download_artifact(
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
    options: &DownloadOptions<'_>,
) -> Result<Option<StoredArtifact>, ReconcileError> {
    let mut tried = Vec::new();
    let artifact = match state.observer.resolve_known_pin(declared) {
        Some(artifact) => artifact,
        None => {
            let artifact;
            (artifact, tried) = learn_pin(state, declared, options.offline).await?;
            let observed = state.observer.observe().await?;
            if !observed
                .plan
                .artifacts_to_fetch()
                .any(|name| name == artifact.name)
            {
                return Ok(None);
            }
            artifact
        }
    };
    let downloaded = {
        let progress = options.progress.downloading(&artifact);
        download_verified(&artifact, state, options.offline, &*progress).await
    };
    let FetchedArtifact { content, receipt } = match downloaded {
        Err(error) if error.kind() == FailureKind::Digest => {
            let (state, declared) = (Arc::clone(state), declared.clone());
            run_blocking(move || state.forget_wrong_pin(&declared)).await?;
            return Err(error);
        }
        other => other?,
    };
    tried.extend(receipt.failed_sources.iter().map(SourceFailure::from));
    let fetched = DownloadedArtifact {
        artifact: artifact.name.clone(),
        version: artifact.version.clone(),
        bytes: receipt.bytes,
        source: receipt.source,
        pin: artifact.pin.to_string(),
        tried,
    };
    tracing::info!(
        artifact = fetched.artifact,
        version = fetched.version,
        bytes = fetched.bytes,
        source = fetched.source,
        pin = fetched.pin,
        "downloaded and verified"
    );
    let (pin, state) = (artifact.pin, Arc::clone(state));
    let measured =
        run_blocking(move || unpack_into_store(&artifact, content, &state.store)).await?;
    Ok(Some(StoredArtifact {
        fetched,
        pin,
        measured,
    }))
}

/// Asks for the digest of an artifact and writes it down. Returns the artifact with it, and who was asked in vain.
async fn learn_pin(
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
    offline: bool,
) -> Result<(Artifact, Vec<SourceFailure>), ReconcileError> {
    let options = fetch_options(&state.observer, offline, &());
    let ResolvedPin {
        pin,
        failed_sources,
    } = fetch::resolve_pin(declared, &options).await?;
    tracing::info!(
        artifact = declared.name,
        version = declared.version,
        %pin,
        by = declared.pin.describe_source(),
        "the digest is known now"
    );
    state.observer.pins.learn([LearnedPin {
        declared: PinDeclaration::of(declared),
        pin,
    }]);
    let state = Arc::clone(state);
    run_blocking(move || state.save_pins()).await?;
    Ok((declared.with_pin(pin), failed_sources))
}

/// What asking sources takes, as it is declared.
fn fetch_options<'a>(
    observer: &'a Observer,
    offline: bool,
    progress: &'a dyn DownloadProgress,
) -> fetch::FetchOptions<'a> {
    fetch::FetchOptions {
        settings: &observer.context.settings.fetch,
        seeds: &observer.context.settings.seeds,
        offline,
        files: &LocalFiles,
        health: &observer.sources,
        progress,
        rounds: RoundsPolicy::default(),
        spread: &observer.context.spread,
        keep: None,
    }
}

/// Downloads one artifact into an unlinked file of the state directory and proves its pin.
///
/// # Errors
/// When no source gives the pinned bytes, or they cannot be kept.
async fn download_verified(
    artifact: &Artifact,
    state: &StateLock,
    offline: bool,
    progress: &dyn DownloadProgress,
) -> Result<FetchedArtifact<SpoolFile>, ReconcileError> {
    let settings = &state.context().settings;
    let is_local = |source: &String| source.starts_with("file://");
    if offline && settings.seeds.is_empty() && !artifact.sources.iter().any(is_local) {
        return Err(ReconcileError::Offline {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
        });
    }
    let options = fetch_options(&state.observer, offline, progress);
    let temps = state.store.temp_dir();
    let spool = || temps.create_spool().map_err(|error| error.source);
    match fetch::download(artifact, &options, &spool).await {
        Ok(fetched) => Ok(fetched),
        // Only here it is known where the nameless file lies.
        Err(FetchError::Spool { source, .. }) => {
            Err(HostError::new("keep the download in", temps.path(), source).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the wanted members of a verified artifact into the store. Blocks.
///
/// Waiting for the disk goes on beside unpacking: it would double the time otherwise.
///
/// # Errors
/// When the archive is not what it should be, or the disk takes no more; blobs that were taken until
/// then are nobody's, and go with the next prune.
fn unpack_into_store(
    artifact: &Artifact,
    content: FetchedContent<SpoolFile>,
    store: &Store,
) -> Result<Measured, ReconcileError> {
    let (complete, arriving) = channel::<Temp>();
    let mut sink = BlobSink {
        artifact,
        store,
        complete,
        open: None,
        measured: Vec::new(),
        refused: None,
    };
    thread::scope(|scope| {
        let sealing = thread::Builder::new()
            .name("seal".to_owned())
            .spawn_scoped(scope, || {
                arriving
                    .into_iter()
                    .try_for_each(|temp| store.insert_blob(temp).map(drop))
            })
            .map_err(|error| {
                HostError::new("start a thread for", store.temp_dir().path(), error)
            })?;
        let read = fetch::read_members(content, artifact, &UnpackLimits::default(), &mut sink);
        let BlobSink {
            complete,
            measured,
            refused,
            ..
        } = sink;
        // With nothing more to come, the other thread ends.
        drop(complete);
        sealing
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        // The sink's own error says more than its passage through the archive reader.
        if let Some(error) = refused {
            return Err(error.into());
        }
        read.map_err(|source| ReconcileError::Archive {
            artifact: artifact.name.clone(),
            source,
        })?;
        Ok(measured)
    })
}

/// Writes each member to a temp beside the store, and hands it on to be made durable there.
struct BlobSink<'a> {
    artifact: &'a Artifact,
    store: &'a Store,
    complete: Sender<Temp>,
    open: Option<(Vec<String>, Temp)>,
    measured: Measured,
    refused: Option<HostError>,
}

impl BlobSink<'_> {
    fn refuse(&mut self, error: HostError) -> io::Error {
        let kind = error.source.kind();
        self.refused = Some(error);
        kind.into()
    }
}

impl MemberSink for BlobSink<'_> {
    fn begin(&mut self, plugins: &[&Member], _size: u64) -> io::Result<()> {
        let mut keys: Vec<String> = plugins
            .iter()
            .map(|member| ledger_key(self.artifact, member).to_owned())
            .collect();
        keys.dedup();
        let temp = self.store.temp_dir().create_temp();
        self.open = Some((keys, temp.map_err(|error| self.refuse(error))?));
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((_, temp)) = &mut self.open else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let written = temp.write_all(bytes);
        let path = temp.path();
        written.map_err(|error| self.refuse(HostError::new("write", path, error)))
    }

    fn end(&mut self) -> io::Result<Sha256> {
        let Some((keys, temp)) = self.open.take() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (sha256, size) = (temp.sha256(), temp.size());
        // The other end is only gone when it failed, and then has the reason.
        self.complete
            .send(temp)
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let measures = keys
            .into_iter()
            .map(|key| (key, MeasuredFile { sha256, size }));
        self.measured.extend(measures);
        Ok(sha256)
    }
}
