//! The checked configuration. Every value in it is valid.

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
    /// The directories on the host.
    pub paths: Paths,
    /// The architecture of this node.
    pub arch: Arch,
    /// What to download, in the order declared. No two artifacts install the same plugin name.
    pub artifacts: Vec<Artifact<DeclaredPin>>,
    /// The conflist to write; `None` installs binaries only.
    pub network: Option<NetworkSettings>,
    /// What to do about drift.
    pub drift: DriftSettings,
    /// What is valid but probably not intended, a sentence each.
    pub warnings: Vec<String>,
    /// Directories of this machine that hold artifacts by their digest. They are asked before the sources.
    pub seeds: Vec<PathBuf>,
    /// How to download.
    pub fetch: FetchSettings,
    /// Where the daemon serves.
    pub http: HttpSettings,
    /// The container runtime that is asked what it has loaded; `None` if none is asked.
    pub runtime: Option<RuntimeSettings>,
    /// What is read from the Kubernetes API and reported to it. By default nothing is.
    pub kubernetes: KubernetesSettings,
}

/// Absolute and normalised paths on the host, without `--host-root`.
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
    /// Its file name in the configuration directory. It ends in `.conflist`.
    pub file_name: FileName,
    /// The mode that is enforced on it.
    pub file_mode: FileMode,
    /// What must hold before it is written.
    pub requires: Vec<Gate>,
    /// Where the values of `${…}` come from. A later source overrides an earlier one.
    pub facts: Vec<FactSource>,
    /// The cluster's pod ranges. Every range from which the conflist assigns addresses must lie inside one of them.
    /// Empty if they are not declared.
    pub pod_ranges: Vec<Cidr>,
    /// Ranges from which pods must not get addresses, such as those that a platform reserves for itself.
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

    /// Whether facts come from elsewhere than the configuration: from an envFile, or from the node's object.
    #[must_use]
    pub fn takes_facts_from_elsewhere(&self) -> bool {
        let is_written = |source: &FactSource| matches!(source, FactSource::Values(_));
        !self.facts.iter().all(is_written)
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

/// A source of facts. `env.*`, `node.name` and `host.*` are known without one.
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
    /// The time after which the running agent reads every file again.
    pub resync: Duration,
    /// What to do about conflists that sort before ours.
    pub foreign_conflists: ForeignConflists,
}

/// How to download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// The time limit for one TCP and TLS connection.
    pub connect_timeout: Duration,
    /// The time limit for each pause within an answer.
    pub read_timeout: Duration,
    /// The time limit for one attempt at one source, from the first byte sent to the last byte received.
    pub total_timeout: Duration,
    /// The lowest accepted throughput in bytes a second, measured over `read_timeout`; 0 means no limit.
    pub min_rate: u64,
    /// How many rounds over the list of sources are tried.
    pub attempts: NonZeroU32,
    /// The time over which the nodes of a cluster spread their downloads: the first download of the running agent, and
    /// those after an outage. A node's name decides its part. With zero, a node does not wait at its start.
    pub spread: Duration,
    /// The size of the largest accepted artifact, in bytes.
    pub max_size: u64,
    /// A PEM file with certificate authorities to trust beside the system's own.
    pub ca_file: Option<PathBuf>,
    /// Which headers and client certificates are sent where. No two rules have the same prefix.
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

    /// The scheme for requests to a registry (`HOST[:PORT]`) about a repository: `http` if the longest `oci://` prefix
    /// says `plainHttp`, otherwise `https`.
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

/// Headers and certificates for requests whose URL begins with a prefix. The files are in the agent's own file system,
/// never below `--host-root`. They are read again for each download, because mounted secrets are replaced while the
/// agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The prefix of the URLs to which it applies.
    pub prefix: UrlPrefix,
    /// A file of `Name: value` lines that are sent as headers.
    pub headers_file: Option<PathBuf>,
    /// The client certificate for servers that ask for one.
    pub certificate: Option<ClientCertificate>,
    /// Whether requests to a registry use http.
    pub plain_http: bool,
}

/// A client certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its intermediate certificates.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key_file: PathBuf,
}

/// Where the running agent serves. `install` and the other one-shot commands do not use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpSettings {
    /// Health, status and metrics.
    pub listen: std::net::SocketAddr,
    /// Only metrics, for a scraper that cannot reach loopback.
    pub metrics_listen: Option<std::net::SocketAddr>,
    /// Whether the agent ends where it cannot listen.
    pub required: bool,
}

/// The container runtime of the node. Only the running agent asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The absolute path of the unix socket on which it serves CRI v1 (prefixed by `--host-root`). It is written as for
    /// a kubelet: `unix:///run/containerd/containerd.sock`.
    pub socket: PathBuf,
}

/// The Kubernetes API: how it is reached, and what is reported to it about this node.
///
/// The files are in the agent's own file system, not below `--host-root`, because a pod has its ServiceAccount mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// Whether the node gets the condition `cni-keeper.dev/Ready`.
    pub condition: bool,
    /// Whether drift and conflicts become Events of the node.
    pub events: bool,
    /// The key of the startup taint. It is removed once the node is ready.
    pub remove_taint: Option<String>,
    /// The API server as `https://HOST:PORT`. `None` for the one in the environment of every pod
    /// (`KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`).
    pub server: Option<String>,
    /// A PEM file with the certificate authorities of the API server. No other authority is trusted.
    pub ca_file: PathBuf,
    /// A file with the bearer token. It is read for each request, because it is replaced before it expires.
    pub token_file: PathBuf,
}

impl KubernetesSettings {
    /// Whether anything is reported to the API.
    #[must_use]
    pub const fn reports_anything(&self) -> bool {
        self.condition || self.events || self.remove_taint.is_some()
    }
}
