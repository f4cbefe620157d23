//! Debian's `docker-registry` on loopback, and an image in it that other tools made.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cni_keeper::model::Sha256;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::release::plugin;
use super::tls::Authority;
use super::tokens::{ISSUER, SERVICE};

/// The longest wait. Only what never happens takes so long.
const DEADLINE: Duration = Duration::from_secs(60);

/// The tools that these tests need.
const TOOLS: [&str; 3] = ["docker-registry", "skopeo", "umoci"];

/// The repository that holds the image.
pub(crate) const REPOSITORY: &str = "team/cni";

/// `puller` and `correct horse` (bcrypt).
const HTPASSWD: &str = "puller:$2b$04$4oYwFSsZUAPx3KasdmAbIuXQdN0aFsD1WDZV1Fkqa4QCs1OAcBdEy\n";

/// Whether registries can run here; prints the reason if not.
pub(crate) fn has_tools() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = |tool: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    match TOOLS.iter().find(missing) {
        Some(tool) => {
            super::skipped(&format!("no {tool} here"));
            false
        }
        None => true,
    }
}

/// A manifest or blob in the registry's storage.
#[derive(Debug, Clone)]
pub(crate) struct StoredContent {
    /// `manifests` or `blobs`.
    pub(super) kind: &'static str,
    /// `sha256:…`
    pub(crate) digest: String,
    pub(crate) content: Vec<u8>,
}

/// A registry's storage with an image of real plugins.
pub(crate) struct RegistryStorage {
    dir: TempDir,
    pub(crate) index: StoredContent,
    pub(crate) manifest: StoredContent,
    pub(crate) layer: StoredContent,
}

impl RegistryStorage {
    /// An image with these plugins below `/opt/cni/bin`, made by umoci and copied into the storage by skopeo.
    pub(crate) fn of(plugins: &[&str]) -> Self {
        let files: Vec<(&str, Vec<u8>)> =
            plugins.iter().map(|name| (*name, plugin(name))).collect();
        Self::holding(&files)
    }

    /// The same with any files.
    pub(crate) fn holding(files: &[(&str, Vec<u8>)]) -> Self {
        let dir = TempDir::new().unwrap();
        let layout = dir.path().join("layout");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for (name, content) in files {
            fs::write(tree.join(name), content).unwrap();
        }
        let image = format!("{}:one", layout.display());
        let layout_text = layout.to_str().unwrap();
        run("umoci", &["init", "--layout", layout_text]);
        run("umoci", &["new", "--image", &image]);
        let tree = tree.to_str().unwrap();
        run(
            "umoci",
            &["insert", "--image", &image, tree, "/opt/cni/bin"],
        );
        let blob = |kind, digest: &Value| {
            let digest = digest.as_str().unwrap().to_owned();
            let path = layout.join("blobs").join(digest.replace(':', "/"));
            StoredContent {
                kind,
                digest,
                content: fs::read(path).unwrap(),
            }
        };
        let top = read_json(&layout.join("index.json"));
        let manifest = blob("manifests", &top["manifests"][0]["digest"]);
        let inside: Value = serde_json::from_slice(&manifest.content).unwrap();
        let layer = blob("blobs", &inside["layers"][0]["digest"]);
        let index = index_of(&manifest, &layout);
        let stock = Self {
            dir,
            index,
            manifest,
            layer,
        };
        let open = Registry::start(&stock, &Setup::default());
        let to = format!("docker://{}/{REPOSITORY}:all", open.address());
        let from = format!("oci:{layout_text}:all");
        run(
            "skopeo",
            &[
                "copy",
                "--quiet",
                "--all",
                "--dest-tls-verify=false",
                &from,
                &to,
            ],
        );
        stock
    }
}

/// Puts an index over the manifest into the layout, which then has it under the name `all`.
fn index_of(manifest: &StoredContent, layout: &Path) -> StoredContent {
    let kind = "application/vnd.oci.image.index.v1+json";
    let one = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": manifest.digest,
        "size": manifest.content.len(),
        "platform": {"os": "linux", "architecture": "amd64"},
    });
    let content = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [one]});
    let content = content.to_string().into_bytes();
    let hex = Sha256::of(&content).to_string();
    fs::write(layout.join("blobs/sha256").join(&hex), &content).unwrap();
    let digest = format!("sha256:{hex}");
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": kind, "digest": digest, "size": content.len(),
        "annotations": {"org.opencontainers.image.ref.name": "all"},
    }]});
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
    StoredContent {
        kind: "manifests",
        digest,
        content,
    }
}

impl AsRef<Path> for RegistryStorage {
    fn as_ref(&self) -> &Path {
        self.dir.path()
    }
}

/// How a registry runs.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// The authority of its certificate, and the names in it; plain http without.
    pub(crate) tls: Option<(&'a Authority, &'a [&'a str])>,
    pub(crate) guard: Access<'a>,
    /// Where it listens; by default at a port that the kernel chooses.
    pub(crate) at: Option<SocketAddr>,
}

/// What the registry asks of a client.
#[derive(Default)]
pub(crate) enum Access<'a> {
    /// Nothing.
    #[default]
    Open,
    /// `puller` and `correct horse`.
    Password,
    /// A token from this realm, signed with a key that this authority certifies.
    Token(&'a str, &'a Authority),
}

/// A running registry. Killed when dropped.
pub(crate) struct Registry {
    child: Child,
    address: SocketAddr,
    scheme: &'static str,
    log: Arc<Mutex<String>>,
    _files: TempDir,
}

impl Registry {
    /// Starts one whose storage is in this directory.
    pub(crate) fn start(stock: &impl AsRef<Path>, setup: &Setup<'_>) -> Self {
        let files = TempDir::new().unwrap();
        let config = configuration(stock.as_ref(), setup, files.path());
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (listens, address) = channel();
        let pipes: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for pipe in pipes {
            let (log, listens) = (Arc::clone(&log), listens.clone());
            thread::spawn(move || collect(pipe, &log, &listens));
        }
        let Ok(address) = address.recv_timeout(DEADLINE) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it does not listen; its output:\n{}", log.lock().unwrap());
        };
        Self {
            child,
            address,
            scheme: if setup.tls.is_some() { "https" } else { "http" },
            log,
            _files: files,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of something in it.
    pub(crate) fn url(&self, thing: &StoredContent) -> String {
        self.url_as("127.0.0.1", thing)
    }

    /// The same with another name for the host.
    pub(crate) fn url_as(&self, host: &str, thing: &StoredContent) -> String {
        let (scheme, port) = (self.scheme, self.address.port());
        let StoredContent { kind, digest, .. } = thing;
        format!("{scheme}://{host}:{port}/v2/{REPOSITORY}/{kind}/{digest}")
    }

    /// Its log so far, with a line for each request.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Kills it, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes the configuration and what it names.
fn configuration(stock: &Path, setup: &Setup<'_>, dir: &Path) -> PathBuf {
    let at = setup
        .at
        .map_or("127.0.0.1:0".to_owned(), |at| at.to_string());
    let file = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut config = json!({
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": stock.join("storage")}},
        "http": {"addr": at, "secret": "one"},
    });
    if let Some((authority, names)) = setup.tls {
        let (certificate, key) = authority.pair(names);
        config["http"]["tls"] = json!({
            "certificate": file("server.pem", &certificate.pem()),
            "key": file("server.key", &key.serialize_pem()),
        });
    }
    match setup.guard {
        Access::Open => {}
        Access::Password => {
            let path = file("htpasswd", HTPASSWD);
            config["auth"] = json!({"htpasswd": {"realm": "the \"registry\", mine", "path": path}});
        }
        Access::Token(realm, authority) => {
            config["auth"] = json!({"token": {
                "realm": realm, "service": SERVICE, "issuer": ISSUER,
                "rootcertbundle": file("issuers.pem", &authority.pem()),
            }});
        }
    }
    file("config.yml", &config.to_string())
}

/// Collects its log, and sends the address where it listens.
fn collect(pipe: impl Read, log: &Mutex<String>, listens: &Sender<SocketAddr>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        let address = line.split_once("listening on ").map(|(_, rest)| rest);
        let address = address.and_then(|rest| rest.split(['"', ',']).next()?.parse().ok());
        let mut log = log.lock().unwrap();
        *log += &line;
        log.push('\n');
        if let Some(address) = address {
            let _ = listens.send(address);
        }
    }
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn run(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {message}");
}
