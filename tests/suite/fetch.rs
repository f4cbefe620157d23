//! Downloads from a hostile server and reading what they gave: faults 37 to 48 and 50 to 54.
#![allow(clippy::unwrap_used, clippy::panic)]

mod archives;
mod fuzz;
mod network;
mod resume;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use cni_keeper::config;
use cni_keeper::fetch::{
    DownloadProgress, DownloadSpool, FailedSource, FetchError, FetchReceipt, FetchedArtifact,
    FileSource, SharedServerHealth, SourceOptions, UnpackLimits, download, read_members,
};
use cni_keeper::model::{Arch, Artifact, Format, IfPresent, Member, Pin, Sha256};
use cni_keeper::retry::{Backoff, RoundsPolicy, Spread};
use sha2::Digest;
use tempfile::NamedTempFile;

use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// An unlinked temporary file, like the agent's own spool. The other end of the channel learns when it is dropped.
pub(crate) struct TempSpool {
    file: File,
    _held: Option<Sender<()>>,
}

impl TempSpool {
    pub(crate) fn new() -> Self {
        Self::watched(None)
    }

    fn watched(held: Option<Sender<()>>) -> Self {
        Self {
            file: tempfile::tempfile().unwrap(),
            _held: held,
        }
    }
}

impl Read for TempSpool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Write for TempSpool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for TempSpool {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl DownloadSpool for TempSpool {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }
}

/// Opens any file.
struct Disk;

impl FileSource for Disk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }
}

/// Time limits that no test reaches by accident.
pub(crate) fn settings() -> config::FetchSettings {
    config::FetchSettings {
        connect_timeout: Duration::from_secs(20),
        read_timeout: Duration::from_secs(20),
        total_timeout: Duration::from_secs(60),
        min_rate: 0,
        attempts: NonZeroU32::MIN,
        spread: Duration::ZERO,
        max_size: 64 << 20,
        ca_file: None,
        access: Vec::new(),
        registry_config: None,
    }
}

const NO_PAUSE: RoundsPolicy = RoundsPolicy {
    backoff: Backoff::new(Duration::ZERO, Duration::ZERO),
    retry_after_max: Duration::ZERO,
};

static SPREAD: LazyLock<Spread> = LazyLock::new(|| Spread::for_node("node-1"));

/// No progress bar, no pauses.
pub(crate) fn means<'a>(
    settings: &'a config::FetchSettings,
    health: &'a SharedServerHealth,
) -> SourceOptions<'a> {
    SourceOptions {
        settings,
        seeds: &[],
        offline: false,
        files: &Disk,
        health,
        progress: &(),
        rounds: NO_PAUSE,
        spread: &SPREAD,
        keep: None,
    }
}

/// What a download gives.
pub(crate) type Fetched<S> = (FetchedArtifact<S>, FetchReceipt);

/// A whole download with its settings; what is not set is harmless.
pub(crate) struct Case {
    pub(crate) sources: Vec<String>,
    pub(crate) pin: Pin,
    pub(crate) settings: config::FetchSettings,
    pub(crate) rounds: RoundsPolicy,
    roots: Option<NamedTempFile>,
}

impl Case {
    pub(crate) fn new(content: &[u8], sources: &[String]) -> Self {
        Self {
            sources: sources.to_vec(),
            pin: Pin::Sha256(sha2::Sha256::digest(content).into()),
            settings: settings(),
            rounds: NO_PAUSE,
            roots: None,
        }
    }

    pub(crate) fn one(content: &[u8], source: &str) -> Self {
        Self::new(content, &[source.to_owned()])
    }

    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = NonZeroU32::new(attempts).unwrap();
        self
    }

    pub(crate) fn trusting(mut self, authority: &Authority) -> Self {
        self.trust(&authority.pem());
        self
    }

    /// Trusts what this PEM text says.
    fn trust(&mut self, pem: &str) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(pem.as_bytes()).unwrap();
        self.settings.ca_file = Some(file.path().to_owned());
        self.roots = Some(file);
    }

    pub(crate) async fn run(&self) -> Result<Fetched<TempSpool>, FetchError> {
        self.run_into(&|| Ok(TempSpool::new()), &()).await
    }

    pub(crate) async fn run_into<S: DownloadSpool>(
        &self,
        spools: &dyn Fn() -> io::Result<S>,
        progress: &dyn DownloadProgress,
    ) -> Result<Fetched<S>, FetchError> {
        let health = SharedServerHealth::default();
        let means = SourceOptions {
            progress,
            rounds: self.rounds,
            ..means(&self.settings, &health)
        };
        let raw = Artifact {
            format: Format::Raw,
            ..artifact(&self.sources, self.pin)
        };
        download(&raw, &means, spools).await
    }

    /// Runs it to its failure and gives the sources' reasons.
    pub(crate) async fn fails(&self) -> Vec<FailedSource> {
        match self.run().await {
            Err(FetchError::Sources { artifact, tried }) => {
                assert_eq!(artifact, "plugins");
                tried
            }
            Err(other) => panic!("{other}"),
            Ok((_, receipt)) => panic!("got {} bytes", receipt.bytes),
        }
    }

    /// Runs a case of one source to its failure.
    pub(crate) async fn fails_once(&self) -> FailedSource {
        let mut tried = self.fails().await;
        assert_eq!(tried.len(), 1);
        tried.remove(0)
    }
}

pub(crate) fn artifact(sources: &[String], pin: Pin) -> Artifact {
    Artifact {
        name: "plugins".to_owned(),
        version: "v1".to_owned(),
        arch: Arch::Amd64,
        pin,
        sources: sources.to_vec(),
        format: Format::TarGz,
        if_present: IfPresent::Replace,
        members: Vec::new(),
    }
}

/// Some content that is larger than any buffer on the way. It passes for a plugin, so that it can be read back.
pub(crate) fn content() -> Vec<u8> {
    let mut content = b"#!/bin/sh\n".to_vec();
    content.extend((content.len()..3_000_000).map(|n| n.to_le_bytes()[n % 2]));
    content
}

/// Proves that a download gave this content and where from.
#[track_caller]
pub(crate) fn got(verified: Result<Fetched<TempSpool>, FetchError>, content: &[u8], source: &str) {
    let (fetched, receipt) = verified.unwrap();
    assert_eq!(receipt.bytes, content.len() as u64);
    assert_eq!(receipt.source, source);
    let mut raw = artifact(&[], Pin::Sha256([0; 32]));
    raw.format = Format::Raw;
    raw.members.push(Member {
        path: String::new(),
        plugin: "plugin".parse().unwrap(),
        sha256: None,
    });
    let mut collected: Vec<u8> = Vec::new();
    let keep = |_: &[&Member], bytes: Vec<u8>| {
        collected.extend_from_slice(&bytes);
        Ok(Sha256::of(&bytes))
    };
    let limits = UnpackLimits::default();
    read_members(fetched, &raw, &limits, || Ok(Vec::new()), keep).unwrap();
    assert!(collected == content);
}

fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/a", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_download_asks_for_the_bytes_as_they_are_and_says_who_asks() {
    let content = content();
    let server = Server::http();
    // The agent ignores this label: the pin is of the bytes as they come.
    server.on("/a", [Reply::ok(&content).with("Content-Encoding", "gzip")]);
    let source = server.url("/a");
    got(Case::one(&content, &source).run().await, &content, &source);
    let request = server.requests().remove(0);
    let agent = concat!("cni-keeper/", env!("CARGO_PKG_VERSION"));
    assert_eq!(request.header("user-agent"), Some(agent));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("range"), None);
}

#[tokio::test]
async fn a_sha512_pin_and_a_local_file_do_as_well() {
    let content = content();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a b.tgz");
    std::fs::write(&path, &content).unwrap();
    let missing = format!("file://{}/missing", directory.path().display());
    let source = format!("file://{}/a%20b.tgz", directory.path().display());
    let mut case = Case::new(&content, &[missing, source.clone()]);
    case.pin = Pin::Sha512(sha2::Sha512::digest(&content).into());
    got(case.run().await, &content, &source);

    case.pin = Pin::Sha512([0; 64]);
    let tried = case.fails().await;
    assert_eq!(
        [
            tried[0].reason.kind().as_str(),
            tried[1].reason.kind().as_str()
        ],
        ["io", "digest"]
    );

    case.settings.max_size = content.len() as u64 - 1;
    assert_eq!(case.fails().await[1].reason.kind().as_str(), "too-large");
}

/// A mount that hangs until somebody gives a sign.
struct Hung(Mutex<Receiver<()>>);

impl FileSource for Hung {
    fn open(&self, _path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let sign = self.0.lock().unwrap();
        sign.recv_timeout(Duration::from_secs(20))
            .map_err(io::Error::other)?;
        Ok(Box::new(&b"bytes"[..]))
    }
}

/// Fault 39 with a seed: the agent's other work goes on while a mount hangs.
#[tokio::test]
async fn fault_39_a_mount_that_hangs_stops_nothing_else() {
    let (sign, signs) = channel();
    let pin = Pin::Sha256(sha2::Sha256::digest(b"bytes").into());
    let artifact = artifact(&["file:///hung".to_owned()], pin);
    let (settings, health) = (settings(), SharedServerHealth::default());
    let means = SourceOptions {
        files: Box::leak(Box::new(Hung(Mutex::new(signs)))),
        ..means(&settings, &health)
    };
    let spools = || Ok(TempSpool::new());
    let (got, sent) = tokio::join!(download(&artifact, &means, &spools), async {
        sign.send(())
    });
    sent.unwrap();
    let (_, receipt) = got.unwrap();
    assert_eq!(receipt.bytes, 5);
}

#[tokio::test]
async fn an_unusable_url_is_rejected_with_the_reason() {
    let sources = ["gopher://host/a", "file://host/a", "no url", "https://"];
    let case = Case::new(b"", &sources.map(str::to_owned)).attempts(3);
    for tried in case.fails().await {
        assert_eq!(
            (tried.reason.kind().as_str(), tried.attempts),
            ("url", 1),
            "{}",
            tried.source
        );
    }
    let none = Case::new(b"", &[]).run().await.err().unwrap();
    assert!(none.to_string().contains("has no source"), "{none}");
}

#[tokio::test]
async fn an_answer_that_lasts_is_asked_for_once_and_shows_no_secret() {
    let server = Server::http();
    server.on("/a?sig=hidden", [Reply::status(403)]);
    let secret = server.url_as("user:hidden@127.0.0.1", "/a?sig=hidden");
    let case = Case::new(b"", &[secret, server.url("/missing"), closed_port()]).attempts(3);
    let error = case.run().await.err().unwrap();
    let FetchError::Sources { tried, .. } = &error else {
        panic!("{error}");
    };
    let attempts: Vec<u32> = tried.iter().map(|tried| tried.attempts).collect();
    assert_eq!(attempts, [1, 1, 3]);
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("hidden"), "{text}");
    }
}

#[tokio::test]
async fn an_artifact_over_the_size_limit_is_refused_announced_or_not() {
    let content = content();
    let server = Server::http();
    server.on("/announced", [Reply::silent_after(&content, 0)]);
    server.on("/unannounced", [Reply::chunked_without_end(&content)]);
    let sources = ["/announced", "/unannounced"].map(|path| server.url(path));
    let mut case = Case::new(&content, &sources);
    case.settings.max_size = content.len() as u64 - 1;
    for tried in case.fails().await {
        assert_eq!(
            tried.reason.kind().as_str(),
            "too-large",
            "{}",
            tried.source
        );
    }
    case.settings.max_size += 1;
    case.sources.remove(0);
    let exactly = case.fails_once().await.reason;
    assert_eq!(
        exactly.kind().as_str(),
        "truncated",
        "exactly the limit passes"
    );
}

/// Fault 9: a full disk ends the download; another source would not help.
#[tokio::test]
async fn fault_9_a_full_disk_is_reported_as_such() {
    struct Full(File);
    impl Read for Full {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    impl DownloadSpool for Full {
        fn truncate(&mut self, _length: u64) -> io::Result<()> {
            Ok(())
        }
    }
    let content = content();
    let server = Server::http();
    server.on("/a", [Reply::ok(&content)]);
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let case = Case::new(&content, &[server.url("/a"), server.url("/a")]).attempts(3);
    let error = case
        .run_into(&|| Ok(Full(device.try_clone()?)), &())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind().as_str(), "spool");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert_eq!(server.count("/a"), 1);
}

/// Fault 7: a cancelled download drops its spool.
#[tokio::test]
async fn fault_7_dropping_a_download_lets_go_of_the_spool() {
    let content = content();
    let server = Server::http();
    server.on("/a", [Reply::silent_after(&content, 1_000_000)]);
    let case = Case::new(&content, &[server.url("/a")]);
    let (moved, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    struct Tell(tokio::sync::mpsc::UnboundedSender<u64>);
    impl DownloadProgress for Tell {
        fn moved(&self, position: u64, total: Option<u64>) {
            assert_eq!(total, Some(3_000_000));
            let _ = self.0.send(position);
        }
    }
    let tell = Tell(moved);
    let (held, let_go) = channel();
    let spools = || Ok(TempSpool::watched(Some(held.clone())));
    tokio::select! {
        _ = case.run_into(&spools, &tell) => panic!("it cannot end"),
        () = async { while arrived.recv().await != Some(1_000_000) {} } => {}
    }
    drop(held);
    assert!(let_go.recv().is_err());
}
