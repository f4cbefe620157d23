//! Artifacts into the store: download, prove the pin, take out the wanted plugins.

use std::io::{self, Write as _};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::Context;
use super::error::ReconcileError;
use crate::fetch::{
    self, DownloadProgress, FetchError, FetchedArtifact, FetchedContent, LocalFiles, MemberSink,
    UnpackLimits,
};
use crate::host::{HostError, SpoolFile, Temp};
use crate::model::{Artifact, Format, Member, Sha256};
use crate::retry::RoundsPolicy;
use crate::store::{MeasuredFile, Store, StoreError};

/// What an artifact was found to hold: the ledger's key of each member, and what it is.
pub(super) type Measured = Vec<(String, MeasuredFile)>;

/// The name under which the ledger keeps what a member was found to be.
pub(super) fn ledger_key<'a, P>(artifact: &'a Artifact<P>, member: &'a Member) -> &'a str {
    match artifact.format {
        Format::Raw => member.plugin.as_str(),
        Format::TarGz | Format::Tar | Format::Image => &member.path,
    }
}

/// What asking sources takes, as it is declared.
pub(super) fn means<'a>(
    keeper: &'a Context,
    offline: bool,
    progress: &'a dyn DownloadProgress,
) -> fetch::FetchOptions<'a> {
    fetch::FetchOptions {
        settings: &keeper.settings.fetch,
        seeds: &keeper.settings.seeds,
        offline,
        files: &LocalFiles,
        health: &keeper.health,
        progress,
        rounds: RoundsPolicy::default(),
        spread: &keeper.spread,
        keep: None,
    }
}

/// Downloads one artifact into an unlinked file of the state directory and proves its pin.
///
/// # Errors
/// When no source gives the pinned bytes, or they cannot be kept.
pub(super) async fn download(
    artifact: &Artifact,
    keeper: &Context,
    store: &Store,
    offline: bool,
    progress: &dyn DownloadProgress,
) -> Result<FetchedArtifact<SpoolFile>, ReconcileError> {
    let settings = &keeper.settings;
    let is_local = |source: &String| source.starts_with("file://");
    if offline && settings.seeds.is_empty() && !artifact.sources.iter().any(is_local) {
        return Err(ReconcileError::Offline {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
        });
    }
    let means = means(keeper, offline, progress);
    let temps = store.temp_dir();
    let spool = || temps.create_spool().map_err(|error| error.source);
    match fetch::download(artifact, &means, &spool).await {
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
pub(super) fn unpack(
    artifact: &Artifact,
    content: FetchedContent<SpoolFile>,
    store: &Store,
) -> Result<Measured, ReconcileError> {
    let (complete, arriving) = channel::<Temp>();
    let mut intake = BlobSink {
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
        let read = fetch::read_members(content, artifact, &UnpackLimits::default(), &mut intake);
        let BlobSink {
            complete,
            measured,
            refused,
            ..
        } = intake;
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

impl From<StoreError> for ReconcileError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
