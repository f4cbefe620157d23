//! The validated configuration: everything in it is usable as it stands.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::url_prefix::UrlPrefix;
use crate::model::{Arch, Artifact, Cidr, FileMode, FileName};
pub use crate::model::{DriftPolicy, ForeignConflists};
use crate::trust::DeclaredPin;

/// A whole configuration: profile, file, environment and flags merged and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The built-in profile that it started from, if any.
    pub profile: Option<String>,
    /// Where things lie on the host.
    pub paths: Paths,
    /// The architecture of this node.
    pub arch: Arch,
    /// What to fetch, in the order declared; no two install the same plugin name.
    pub artifacts: Vec<Artifact<DeclaredPin>>,
    /// The conflist to write; `None` installs binaries only.
    pub network: Option<NetworkSettings>,
    /// What to do about drift.
    pub drift: DriftSettings,
    /// What is valid but probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Directories of this machine that are asked for an artifact, by its digest, before any of its sources.
    pub seeds: Vec<PathBuf>,
    /// How to download.
    pub fetch: FetchSettings,
    /// Where the daemon serves.
    pub http: HttpSettings,
    /// The container runtime to ask what it has loaded; `None` asks nobody.
    pub runtime: Option<RuntimeSettings>,
    /// What is read from the Kubernetes API and reported to it; nothing by default.
    pub kubernetes: KubernetesSettings,
}

/// Host paths, absolute and normalised, before `--host-root` is put in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Where the runtime looks for plugins.
    pub bin_dir: PathBuf,
    /// Where the runtime looks for network configurations.
    pub conf_dir: PathBuf,
    /// Our own store and ledger.
    pub state_dir: PathBuf,
}

/// The network configuration list to write.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSettings {
    /// Its file name in the configuration directory; ends in `.conflist`.
    pub file_name: FileName,
    /// The mode that is enforced on it.
    pub file_mode: FileMode,
    /// What must hold before it is written.
    pub requires: Vec<Gate>,
    /// Where the values of `${…}` come from; a later source overrides an earlier one.
    pub facts: Vec<FactSource>,
    /// The cluster's pod ranges: every range that the conflist gives addresses from lies inside one of them. Empty
    /// where they are not declared.
    pub pod_ranges: Vec<Cidr>,
    /// Ranges that pods must not get addresses from, such as those that a platform keeps for itself.
    pub reserved: Vec<Cidr>,
    /// The conflist with its placeholders, in the operator's own order of keys.
    pub conflist: Value,
}

impl NetworkSettings {
    /// Whether the node object in the Kubernetes API is a source of facts.
    #[must_use]
    pub fn needs_node_object(&self) -> bool {
        self.facts.contains(&FactSource::KubernetesNode)
    }
}

/// A condition that must hold before the conflist is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// A host path exists (prefixed by `--host-root`).
    File(PathBuf),
    /// `host:port` accepts a TCP connection.
    Tcp(String),
    /// A unix socket on the host accepts a connection (prefixed by `--host-root`).
    Unix(PathBuf),
    /// A GET of the URL answers 2xx.
    Http(String),
}

/// A source of facts beyond the ones that are always there (`env.*`, `node.name`, `host.*`).
#[derive(Debug, Clone, PartialEq)]
pub enum FactSource {
    /// `KEY=value` lines of a host file (prefixed by `--host-root`).
    EnvFile(PathBuf),
    /// Values written in the configuration itself.
    Values(BTreeMap<String, Value>),
    /// This node's object in the Kubernetes API: `node.podCIDR`, `node.podCIDRs`, `node.labels.KEY` and
    /// `node.annotations.KEY`.
    KubernetesNode,
}

/// What to do about drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftSettings {
    /// Whether anything is written at all.
    pub policy: DriftPolicy,
    /// The time between two full re-hashes by the daemon.
    pub resync: Duration,
    /// What to do about conflists that sort before ours.
    pub foreign_conflists: ForeignConflists,
}

/// How to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// For one TCP and TLS connection to be made.
    pub connect_timeout: Duration,
    /// The longest silence within an answer.
    pub read_timeout: Duration,
    /// For one attempt at one source, from the first byte sent to the last received.
    pub total_timeout: Duration,
    /// The least throughput in bytes a second, measured over `read_timeout`; 0 turns it off.
    pub min_rate: u64,
    /// How many rounds over the list of sources are tried.
    pub attempts: NonZeroU32,
    /// The time over which the nodes of a cluster spread the running agent's first download, and their downloads after an
    /// outage; each node by its name. With zero a node does not wait at its start.
    pub spread: Duration,
    /// The largest artifact accepted, in bytes.
    pub max_size: u64,
    /// A PEM file with certificate authorities to trust beside the system's own.
    pub ca_file: Option<PathBuf>,
    /// Which headers and client certificates are sent where; no two rules have the same prefix.
    pub access: Vec<AccessRule>,
    /// Credentials for registries, in a file as `docker login` writes it (`config.json`).
    pub registry_config: Option<PathBuf>,
}

impl FetchSettings {
    /// The index in `access` of the rule for a request to `url`: the one with the longest prefix that covers it.
    #[must_use]
    pub fn find_access_rule(&self, url: &Url) -> Option<usize> {
        let covering = self
            .access
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.prefix.covers(url));
        covering
            .max_by_key(|(_, rule)| rule.prefix.path().len())
            .map(|(index, _)| index)
    }

    /// The scheme by which a registry (`HOST[:PORT]`) is asked for a repository: `http` where the longest `oci://`
    /// prefix says `plainHttp`, else `https`.
    #[must_use]
    pub fn registry_scheme(&self, registry: &str, repository: &str) -> &'static str {
        let longest = |scheme: &str, plain: bool| {
            let url = Url::parse(&format!("{scheme}://{registry}/v2/{repository}")).ok()?;
            let rules = self.access.iter().filter(|rule| rule.plain_http == plain);
            rules
                .filter(|rule| rule.prefix.covers(&url))
                .map(|rule| rule.prefix.path().len())
                .max()
        };
        if longest("http", true) > longest("https", false) {
            "http"
        } else {
            "https"
        }
    }
}

/// Headers and certificates for the requests to one part of the web. The files are the agent's own, never below
/// `--host-root`, and are read again for each download, since mounted secrets are replaced while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// To which requests it applies.
    pub prefix: UrlPrefix,
    /// A file of `Name: value` lines that are sent as headers.
    pub headers_file: Option<PathBuf>,
    /// The client certificate that is shown to a server that asks for one.
    pub certificate: Option<ClientCertificate>,
    /// Whether a registry is asked by http.
    pub plain_http: bool,
}

/// A client certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, then those that lead from it to an authority that the server knows.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key_file: PathBuf,
}

/// Where the daemon serves; `install` and the other one-shot commands do not look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpSettings {
    /// Health, status and metrics.
    pub listen: std::net::SocketAddr,
    /// Metrics alone, for a scraper that cannot reach loopback.
    pub metrics_listen: Option<std::net::SocketAddr>,
}

/// The container runtime of the node; only the daemon asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The unix socket on which it serves CRI v1, absolute (prefixed by `--host-root`). Written as a kubelet
    /// is given it: `unix:///run/containerd/containerd.sock`.
    pub socket: PathBuf,
}

/// The Kubernetes API: how it is reached, and what is reported to it about this node.
///
/// Files are the agent's own, not below `--host-root`: a pod has its ServiceAccount mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// Whether the node gets the condition `cni-keeper.dev/Ready`.
    pub condition: bool,
    /// Whether drift and conflicts become Events of the node.
    pub events: bool,
    /// The key of the startup taint that is removed once the node is ready.
    pub remove_taint: Option<String>,
    /// The API server as `https://HOST:PORT`; `None` for the one in the environment of every pod
    /// (`KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`).
    pub server: Option<String>,
    /// A PEM file with the authorities that its certificate may come from; nobody else is trusted.
    pub ca_file: PathBuf,
    /// A file with the bearer token, read anew for each request since it is replaced before it expires.
    pub token_file: PathBuf,
}

impl KubernetesSettings {
    /// Whether anything is reported to the API.
    #[must_use]
    pub const fn reports_anything(&self) -> bool {
        self.condition || self.events || self.remove_taint.is_some()
    }
}
