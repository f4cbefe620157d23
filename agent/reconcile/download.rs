//! Artifacts into the store: learn the pin, download, verify the digest, take out the wanted plugins.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use super::error::{ReconcileError, run_blocking};
use super::member_file::{MemberFile, MemoryNeed};
use super::observer::{Observer, ledger_key};
use super::state_lock::StateLock;
use crate::fetch::{
    self, ArchiveError, DownloadProgress, FetchError, FetchReceipt, FetchedArtifact, LocalFiles,
    ResolvedPin, UnpackLimits,
};
use crate::host::{HostError, Sealed, SpoolFile, Temp};
use crate::model::{Artifact, FailureKind, FileMode, Member, Pin, SourceFailure};
use crate::retry::RoundsPolicy;
use crate::store::{LearnedPin, MeasuredFile};
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

/// How to install.
pub struct InstallOptions<'a> {
    /// Whether everything but seeds and `file://` sources is left alone.
    pub offline: bool,
    /// Who watches.
    pub progress: &'a dyn DownloadObserver,
}

/// What people are told of an artifact that was downloaded and verified.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DownloadReport {
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
    /// Where it came from.
    pub report: DownloadReport,
    pub(super) pin: Pin,
    pub(super) measured: Measured,
}

/// Downloads an artifact, verifies it, and takes its plugins into the store. It may take minutes, so the daemon does it
/// beside passes.
///
/// `None` where only its digest was to be learned, and what is here already has it.
///
/// # Errors
/// When none of the places that the declaration trusts gives the digest, no source gives the pinned bytes, or the disk
/// refuses.
pub(super) async fn download_artifact(
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
    options: &InstallOptions<'_>,
) -> Result<Option<StoredArtifact>, ReconcileError> {
    let Some((artifact, tried)) = resolve_artifact(state, declared, options.offline).await? else {
        return Ok(None);
    };
    require_source(&artifact, state, options.offline)?;
    let downloaded = {
        let progress = options.progress.downloading(&artifact);
        let options = source_options(&state.observer, options.offline, &*progress);
        let spool = || {
            let spool = state.store.temp_dir().create_spool();
            spool.map_err(|error| error.source)
        };
        fetch::download(&artifact, &options, &spool).await
    };
    let (fetched, receipt) = match downloaded {
        Ok(downloaded) => downloaded,
        Err(error) => return Err(handle_fetch_error(error, state, declared).await),
    };
    let report = DownloadReport::new(&artifact, receipt, tried);
    let (pin, state) = (artifact.pin, Arc::clone(state));
    let measured = run_blocking(move || unpack_into_store(&artifact, fetched, &state)).await?;
    Ok(Some(StoredArtifact {
        report,
        pin,
        measured,
    }))
}

impl DownloadReport {
    /// Also logs it. `tried` is who was asked for the digest in vain.
    fn new(artifact: &Artifact, receipt: FetchReceipt, mut tried: Vec<SourceFailure>) -> Self {
        tried.extend(receipt.failed_sources.iter().map(SourceFailure::from));
        let report = Self {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            bytes: receipt.bytes,
            source: receipt.source,
            pin: artifact.pin.to_string(),
            tried,
        };
        tracing::info!(
            artifact = report.artifact,
            version = report.version,
            bytes = report.bytes,
            source = report.source,
            pin = report.pin,
            "downloaded and verified"
        );
        report
    }
}

/// The artifact with its digest, and who was asked for it in vain; `None` where the digest was learned just now and
/// what is here already has it.
async fn resolve_artifact(
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
    offline: bool,
) -> Result<Option<(Artifact, Vec<SourceFailure>)>, ReconcileError> {
    if let Some(artifact) = state.observer.resolve_known_pin(declared) {
        return Ok(Some((artifact, Vec::new())));
    }
    let (artifact, tried) = learn_pin(state, declared, offline).await?;
    let observed = state.observer.observe().await?;
    let is_missing = observed
        .plan
        .artifacts_to_fetch()
        .any(|name| name == artifact.name);
    Ok(is_missing.then_some((artifact, tried)))
}

/// Refuses a download without the network that has no local source.
fn require_source(
    artifact: &Artifact,
    state: &StateLock,
    offline: bool,
) -> Result<(), ReconcileError> {
    let is_local = |source: &String| source.starts_with("file://");
    let has_seeds = !state.context().settings.seeds.is_empty();
    if !offline || has_seeds || artifact.sources.iter().any(is_local) {
        return Ok(());
    }
    Err(ReconcileError::Offline {
        artifact: artifact.name.clone(),
        version: artifact.version.clone(),
    })
}

/// Forgets a learned digest that no source has, and names the directory that cannot keep the bytes. Returns the error
/// to report.
async fn handle_fetch_error(
    error: FetchError,
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
) -> ReconcileError {
    if error.kind() == FailureKind::Digest {
        let (state, declared) = (Arc::clone(state), declared.clone());
        let forgotten = run_blocking(move || state.forget_wrong_pin(&declared)).await;
        if let Err(error) = forgotten {
            return error;
        }
    }
    match error {
        FetchError::Spool { source, .. } => {
            let temps = state.store.temp_dir();
            HostError::new("keep the download in", temps.path(), source).into()
        }
        error => error.into(),
    }
}

/// Asks for the digest of an artifact and writes it down. Returns the artifact with it, and who was asked in vain.
async fn learn_pin(
    state: &Arc<StateLock>,
    declared: &Artifact<DeclaredPin>,
    offline: bool,
) -> Result<(Artifact, Vec<SourceFailure>), ReconcileError> {
    let options = source_options(&state.observer, offline, &());
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
fn source_options<'a>(
    observer: &'a Observer,
    offline: bool,
    progress: &'a dyn DownloadProgress,
) -> fetch::SourceOptions<'a> {
    fetch::SourceOptions {
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

/// Takes the wanted members of a verified artifact into the store. Blocks.
///
/// Waiting for the disk goes on beside unpacking: it would double the time otherwise. The store gets the members only
/// once all of them were read, since an archive may turn out to be damaged at its end.
///
/// # Errors
/// When the archive is not what it should be, or the disk takes no more; nothing is in the store then.
fn unpack_into_store(
    artifact: &Artifact,
    fetched: FetchedArtifact<SpoolFile>,
    state: &StateLock,
) -> Result<Measured, ReconcileError> {
    let (temps, owner) = (state.store.temp_dir(), state.context().host.owner());
    let (complete, arriving) = channel::<Temp>();
    let mut need = MemoryNeed::default();
    let seal_all = move || -> Result<Vec<Sealed>, HostError> {
        let temps = arriving.into_iter();
        temps
            .map(|temp| temp.seal(FileMode::PLUGIN, owner))
            .collect()
    };
    let mut measured = Measured::new();
    let (read, sealed) = thread::scope(|scope| {
        let sealing = thread::Builder::new()
            .name("seal".to_owned())
            .spawn_scoped(scope, seal_all)
            .map_err(|error| HostError::new("start a thread for", temps.path(), error))?;
        let new_file = || {
            let temp = temps.create_temp().map_err(|error| error.source)?;
            Ok(MemberFile::Kept(temp))
        };
        let keep = |plugins: &[&Member], file: MemberFile| {
            let temp = match need.add(file) {
                Ok(temp) => temp,
                Err(sha256) => return Ok(sha256),
            };
            let (sha256, size) = (temp.sha256(), temp.size());
            let mut keys: Vec<&str> = plugins.iter().map(|it| ledger_key(artifact, it)).collect();
            keys.dedup();
            let keys = keys.into_iter().map(str::to_owned);
            measured.extend(keys.map(|key| (key, MeasuredFile { sha256, size })));
            // The other end is only gone when it failed, and then has the reason.
            let sent = complete.send(temp);
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(sha256)
        };
        let limits = UnpackLimits::default();
        let read = fetch::read_members(fetched, artifact, &limits, new_file, keep);
        // With nothing more to come, the other thread ends.
        drop(complete);
        let sealed = sealing.join();
        Ok::<_, HostError>((read, sealed.unwrap_or_else(|panic| resume_unwind(panic))))
    })?;
    let sealed = sealed?;
    read.map_err(|error| match error {
        ArchiveError::Sink { source, .. } => HostError::new("write", temps.path(), source).into(),
        source => ReconcileError::Archive {
            artifact: artifact.name.clone(),
            source,
        },
    })?;
    if let Some(refused) = need.refused {
        return Err(ReconcileError::Memory {
            artifact: artifact.name.clone(),
            needed: need.total,
            dir: temps.path().to_owned(),
            limit: refused.found,
            enough: refused.found.with_room_for(need.lacking),
        });
    }
    for blob in sealed {
        state.store.insert_blob(blob)?;
    }
    Ok(measured)
}
