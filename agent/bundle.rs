//! Makes bundles: directories with everything that a configuration needs, verified. A bundle serves as a seed.
//!
//! - `DIR/blobs/ALGORITHM/HEX`: files that have a pin, as in an OCI image layout.
//! - `DIR/by-url/HEX`: files that are only known by their URL, under the SHA-256 of that URL.
//! - `DIR/bundle.json`: the list of contents, for people.
//!
//! Only the pin decides whether a file is used. What the bundle says about itself is not trusted.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Serialize;
use sha2::Digest as _;

use crate::config::Settings;
use crate::fetch::{
    self, ArchiveError, CopyKeeper, CopyKey, DownloadProgress, FetchError, LocalFiles,
    SharedServerHealth, SourceError, UnpackLimits, read_members,
};
use crate::host::{Dir, Host, HostError, Lock, machine_name};
use crate::model::{Artifact, FileMode, FileName, FileState, Pin, Sha256};
use crate::retry::{RoundsPolicy, Spread};
use crate::trust::DeclaredPin;

/// Readable by others, such as a web server or an image build.
const DIR_MODE: u32 = 0o755;
const MANIFEST: &str = "bundle.json";
const LOCK: &str = ".lock";

/// A directory in which a bundle is made.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    host: Host,
    root: Dir,
    _lock: Lock,
    health: SharedServerHealth,
    spread: Spread,
    contents: Vec<BundledArtifact>,
}

/// One artifact in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundledArtifact {
    pub artifact: String,
    pub version: String,
    /// The architecture that it was gathered for.
    pub arch: &'static str,
    /// Its pin, as `sha256:…` or `sha512:…`.
    pub pin: String,
    /// How many bytes it has. For an image: all parts of it that were needed.
    pub bytes: u64,
    /// The source that gave it, without secrets.
    pub source: String,
    /// The plugins that were found in it and can run on that architecture.
    pub plugins: Vec<String>,
    /// The files that it takes, relative to the bundle.
    pub files: Vec<String>,
}

/// Why a bundle cannot be made. Files that are in it already are complete, and the next run does not download them
/// again.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file operation in the directory failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An artifact cannot be downloaded.
    #[error("{arch}: {source}")]
    Fetch {
        arch: &'static str,
        #[source]
        source: FetchError,
    },
    /// An artifact has the right digest but cannot be unpacked.
    #[error("{artifact} for {arch}: {source}")]
    Archive {
        artifact: String,
        arch: &'static str,
        #[source]
        source: Box<ArchiveError>,
    },
}

/// The manifest, for people.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BundleManifest<'a> {
    kind: &'static str,
    program: &'static str,
    artifacts: &'a [BundledArtifact],
}

impl Bundle {
    /// Opens the directory, creates it if needed, and removes what a killed run left.
    ///
    /// # Errors
    /// When the directory cannot be created or written to, or another run is using it.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let host = Host::open(Path::new("/"))?;
        let root = host.ensure_dir(path, DIR_MODE)?;
        let lock = root.lock_file(&FileName::fixed(LOCK))?;
        root.remove_stale_temps()?;
        Ok(Self {
            path: path.to_owned(),
            host,
            root,
            _lock: lock,
            health: SharedServerHealth::default(),
            spread: Spread::for_node(&machine_name().unwrap_or_default()),
            contents: Vec::new(),
        })
    }

    /// Gets every artifact of a configuration, for the architecture for which the configuration was read: verifies its
    /// pin, and finds the wanted plugins in it. A file that is already there is verified and not downloaded.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub async fn gather<'a>(
        &mut self,
        settings: &Settings,
        watched: impl Fn(&Artifact) -> Box<dyn DownloadProgress + 'a>,
    ) -> Result<(), BundleError> {
        for artifact in &settings.artifacts {
            let bundled = self.gather_artifact(settings, artifact, &watched).await?;
            self.contents.push(bundled);
        }
        Ok(())
    }

    async fn gather_artifact<'a>(
        &self,
        settings: &Settings,
        artifact: &Artifact<DeclaredPin>,
        watched: &impl Fn(&Artifact) -> Box<dyn DownloadProgress + 'a>,
    ) -> Result<BundledArtifact, BundleError> {
        let arch = settings.arch.as_str();
        let mut seeds = vec![self.path.clone()];
        seeds.extend(settings.seeds.iter().cloned());
        let copies = BundleCopies {
            bundle: self,
            files: Mutex::default(),
        };
        let options = fetch::SourceOptions {
            settings: &settings.fetch,
            seeds: &seeds,
            offline: false,
            files: &LocalFiles,
            health: &self.health,
            progress: &(),
            rounds: RoundsPolicy::default(),
            spread: &self.spread,
            keep: Some(&copies),
        };
        let spools = || self.root.create_spool().map_err(|error| error.source);
        let failed = |error| self.locate_error(arch, error);
        // Lists, checksum files and signatures are kept too, since a node without a network asks for them again. Copies
        // of an earlier run have no pin and may be out of date, so this bundle is no seed for them.
        let asking = fetch::SourceOptions {
            seeds: &settings.seeds,
            ..options
        };
        let pin = match artifact.pin.known_pin() {
            Some(pin) => pin,
            None => {
                let resolved = fetch::resolve_pin(artifact, &asking).await;
                resolved.map_err(failed)?.pin
            }
        };
        let artifact = &artifact.with_pin(pin);
        let progress = watched(artifact);
        let options = fetch::SourceOptions {
            progress: &*progress,
            ..options
        };
        let fetched = fetch::download(artifact, &options, &spools).await;
        let (fetched, receipt) = fetched.map_err(failed)?;
        // Damage and missing plugins must be found here and not later on a node without a network.
        read_members(
            fetched,
            artifact,
            &UnpackLimits::default(),
            || Ok(MemberHasher::default()),
            |_, member| Ok(Sha256::from_bytes(member.0.finalize().into())),
        )
        .map_err(|source| BundleError::Archive {
            artifact: artifact.name.clone(),
            arch,
            source: Box::new(source),
        })?;
        let plugins = artifact.members.iter();
        let files = copies.files.into_inner();
        Ok(BundledArtifact {
            artifact: artifact.name.clone(),
            version: artifact.version.clone(),
            arch,
            pin: artifact.pin.to_string(),
            bytes: receipt.bytes,
            source: receipt.source,
            plugins: plugins.map(|member| member.plugin.to_string()).collect(),
            files: files.unwrap_or_else(std::sync::PoisonError::into_inner),
        })
    }

    /// Adds the bundle's path to errors of writing. Leaves out that the bundle itself does not have the blob yet.
    fn locate_error(&self, arch: &'static str, error: FetchError) -> BundleError {
        match error {
            FetchError::Sources {
                artifact,
                mut tried,
            } => {
                let ours = format!("seed {}", self.path.display());
                tried.retain(|it| {
                    it.source != ours || !matches!(it.reason, SourceError::NotInSeed { .. })
                });
                let source = FetchError::Sources { artifact, tried };
                BundleError::Fetch { arch, source }
            }
            FetchError::Spool { source, .. } | FetchError::Copy { source, .. } => {
                HostError::new("keep what was fetched in", &self.path, source).into()
            }
            source => BundleError::Fetch { arch, source },
        }
    }

    /// Writes the list of contents.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<Vec<BundledArtifact>, BundleError> {
        let manifest = BundleManifest {
            kind: "cni-keeper bundle",
            program: concat!("cni-keeper ", env!("CARGO_PKG_VERSION")),
            artifacts: &self.contents,
        };
        let path = self.path.join(MANIFEST);
        let write_error = |error: io::Error| HostError::new("write", path, error);
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
        let published = text.and_then(|mut text| {
            text.push(b'\n');
            self.publish_file(&self.root, &FileName::fixed(MANIFEST), &mut &text[..])
        });
        published.map_err(write_error)?;
        Ok(self.contents)
    }

    /// Publishes a file, unless a file with the same content is there already.
    fn publish_file(&self, into: &Dir, name: &FileName, bytes: &mut dyn Read) -> io::Result<()> {
        let mut temp = self.root.create_temp().map_err(|error| error.source)?;
        io::copy(bytes, &mut temp)?;
        temp.flush()?;
        let same = matches!(
            into.observe_file(name, temp.size()),
            FileState::Regular(there) if there.sha256 == temp.sha256()
        );
        if same {
            return Ok(());
        }
        let publish = || {
            let sealed = temp.seal(FileMode::PUBLIC, self.host.owner())?;
            sealed.publish(into, name)?;
            into.sync()
        };
        publish().map_err(|error: HostError| error.source)
    }
}

/// Keeps a copy of each file of one artifact in the bundle.
struct BundleCopies<'a> {
    bundle: &'a Bundle,
    /// Their paths, relative to the bundle.
    files: Mutex<Vec<String>>,
}

impl CopyKeeper for BundleCopies<'_> {
    fn keep_copy(&self, what: CopyKey<'_>, bytes: &mut dyn Read) -> io::Result<()> {
        let (dir, name) = match what {
            CopyKey::Blob(pin) => blob_path(pin),
            CopyKey::Url(url) => ("by-url".to_owned(), Sha256::of(url.as_bytes()).to_string()),
        };
        let bundle = self.bundle;
        let into = bundle.host.ensure_dir(&bundle.path.join(&dir), DIR_MODE);
        let into = into.map_err(|error| error.source)?;
        let file = name.parse().map_err(io::Error::other)?;
        bundle.publish_file(&into, &file, bytes)?;
        if let Ok(mut files) = self.files.lock() {
            files.push(format!("{dir}/{name}"));
        }
        Ok(())
    }
}

/// The directory and the name of a blob.
fn blob_path(pin: &Pin) -> (String, String) {
    let text = pin.to_string();
    let hex = text.rsplit(':').next().unwrap_or_default();
    (format!("blobs/{}", pin.algorithm()), hex.to_owned())
}

/// Hashes a member and keeps nothing of it.
#[derive(Default)]
struct MemberHasher(sha2::Sha256);

impl Write for MemberHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
