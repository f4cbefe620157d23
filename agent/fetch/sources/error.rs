//! What went wrong, in the words an operator needs, and how it counts for [`crate::retry`].

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use reqwest::Url;

use crate::fetch::http::redirect::Refusal;
use crate::fetch::http::tls_error;
use crate::fetch::oci::auth::error::Denied;
use crate::fetch::oci::manifest::ImageError;
use crate::fetch::unpack::members::ArchiveError;
use crate::model::{FailureKind, Pin, SourceFailure};

/// An artifact that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No source gave the pinned bytes.
    #[error("cannot fetch {artifact}: {}", listed(tried))]
    Sources {
        /// The operator's name for it.
        artifact: String,
        /// Every source that was tried, in order, with the last reason for each.
        tried: Vec<Tried>,
    },
    /// What is pinned is no image that can be used here.
    #[error("{artifact}: {source}")]
    Image {
        /// The operator's name for it.
        artifact: String,
        /// What is wrong with it.
        #[source]
        source: Box<ImageError>,
    },
    /// The layers of an image are bad, or the wanted files are not in them.
    #[error("{artifact}: {source}")]
    Archive {
        /// The operator's name for it.
        artifact: String,
        /// What is wrong with them.
        #[source]
        source: Box<ArchiveError>,
    },
    /// Nobody whom the declaration trusts says which digest an artifact has, or its signature does not fit.
    #[error("cannot learn what {artifact} {version} must be: {}", asked(tried))]
    Unvouched {
        /// The artifact, by the operator's name.
        artifact: String,
        /// Its version.
        version: String,
        /// Every place that was asked, in order, with the last reason for each.
        tried: Vec<SourceFailure>,
    },
    /// A copy of what was proven cannot be kept.
    #[error("cannot keep a copy of {artifact}: {source}")]
    Copy {
        /// The operator's name for it.
        artifact: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The bytes cannot be kept on this node; another source would not help.
    #[error(
        "cannot keep the download of {artifact}: {source}; look at the space and health of the file system that holds paths.stateDir"
    )]
    Spool {
        /// The operator's name for it.
        artifact: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// The kind for metrics: that of the last source's reason, or [`FailureKind::Spool`].
    ///
    /// A wrong digest or signature goes before any other reason. It alone can mean that somebody tampers, and must not
    /// hide behind a second mirror that is only down.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Sources { tried, .. } => {
                let kinds = tried.iter().map(|tried| tried.reason.kind());
                worst_kind(kinds, FailureKind::Digest).unwrap_or(FailureKind::Url)
            }
            Self::Unvouched { tried, .. } => {
                let kinds = tried.iter().map(|tried| tried.reason);
                worst_kind(kinds, FailureKind::Signature).unwrap_or(FailureKind::Io)
            }
            Self::Image { source, .. } => source.kind(),
            Self::Archive { source, .. } => source.kind(),
            Self::Copy { .. } | Self::Spool { .. } => FailureKind::Spool,
        }
    }
}

/// `tampering` where it is among the kinds, else the last of them.
fn worst_kind(
    kinds: impl DoubleEndedIterator<Item = FailureKind> + Clone,
    tampering: FailureKind,
) -> Option<FailureKind> {
    let found = kinds.clone().find(|kind| *kind == tampering);
    found.or_else(|| kinds.last())
}

/// One source, how often it was asked, and why it was of no use in the end.
#[derive(Debug)]
pub struct Tried {
    /// The source without user information and query, which may hold secrets.
    pub source: String,
    /// How many requests were made to it, redirects not counted.
    pub attempts: u32,
    /// The last reason.
    pub reason: Failure,
}

impl From<&Tried> for SourceFailure {
    fn from(tried: &Tried) -> Self {
        Self {
            source: tried.source.clone(),
            attempts: tried.attempts,
            reason: tried.reason.kind(),
            message: tried.reason.to_string(),
        }
    }
}

/// Which time limit of the configuration passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLimit {
    /// `fetch.connectTimeout`.
    Connect,
    /// `fetch.readTimeout`.
    Silence,
    /// `fetch.totalTimeout`.
    Total,
}

/// All bytes came, and they are not the pinned ones.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its {bytes} bytes are not the pinned ones: expected {expected}, got {actual}; check the pin, and that no proxy or login page answers in its place"
)]
pub struct WrongDigest {
    /// How many bytes came.
    pub bytes: u64,
    /// The pin.
    pub expected: Pin,
    /// What came instead.
    pub actual: Pin,
}

/// Why one attempt at one source failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name does not resolve.
    #[error(
        "the name {0} does not resolve; check the node's DNS (a hostNetwork pod needs dnsPolicy: Default)"
    )]
    Dns(String),
    /// No connection.
    #[error(
        "no connection to {host}: {}; check the node's route and firewall, and whether it needs a proxy",
        deepest(source)
    )]
    Connect {
        /// Host that was asked.
        host: String,
        /// What the connector said.
        #[source]
        source: reqwest::Error,
    },
    /// A time limit passed.
    #[error("{limit} ({} s)", after.as_secs_f32())]
    Timeout {
        /// Which one.
        limit: TimeLimit,
        /// Its value.
        after: Duration,
    },
    /// The connection broke.
    #[error("the connection broke after {position} bytes: {}", deepest(source))]
    Reset {
        /// Bytes that were here by then.
        position: u64,
        /// What the connection said.
        #[source]
        source: reqwest::Error,
    },
    /// Not HTTP, or no answer before the connection closed.
    #[error("{host} does not answer with proper HTTP: {}", deepest(source))]
    Protocol {
        /// Host that was asked.
        host: String,
        /// What the client made of it.
        #[source]
        source: reqwest::Error,
    },
    /// The body is shorter than announced, or a chunked one has no end.
    #[error("the answer ended after {got} bytes{}", of(*want))]
    Truncated {
        /// Bytes that came.
        got: u64,
        /// Bytes announced, if they were.
        want: Option<u64>,
    },
    /// Under the least throughput.
    #[error("it sends {rate} bytes a second, fetch.minRate asks for {least}")]
    TooSlow {
        /// Measured over the last window, in bytes a second.
        rate: u64,
        /// What is asked for.
        least: u64,
    },
    /// A status that is not the one asked for.
    #[error("it answers HTTP {code}{}", meaning(*code))]
    Status {
        /// The status.
        code: u16,
        /// Its `Retry-After`, not yet capped.
        retry_after: Option<Duration>,
    },
    /// TLS failed.
    #[error("{}", tls_error::told(source, host))]
    Tls {
        /// Host that was asked.
        host: String,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// No way through the proxy.
    #[error(
        "no connection to {host} through the proxy {proxy}: {why}; check the proxy, or except the host by NO_PROXY"
    )]
    Proxy {
        /// Host that was to be reached.
        host: String,
        /// The proxy without user information.
        proxy: String,
        /// What it said, or why it said nothing.
        why: String,
    },
    /// The proxy asks who we are, or does not believe it.
    #[error(
        "the proxy {proxy} asks for a user and a password, or for others than it was given; write them into its variable (http://USER:PASSWORD@HOST:PORT)"
    )]
    ProxyAuth {
        /// The proxy without user information.
        proxy: String,
    },
    /// A time limit passed, and a proxy is between.
    #[error("{limit} ({} s), through the proxy {proxy}", after.as_secs_f32())]
    ProxyTimeout {
        /// Which one.
        limit: TimeLimit,
        /// Its value.
        after: Duration,
        /// The proxy without user information.
        proxy: String,
    },
    /// The environment names a proxy that cannot be used.
    #[error(
        "the environment variable {variable} names no usable proxy: {why}; write http://HOST:PORT"
    )]
    ProxySetting {
        /// The variable.
        variable: &'static str,
        /// What is wrong with its value, which is not shown.
        why: &'static str,
    },
    /// What is to be shown to the server cannot be used.
    #[error("{key} {path} cannot be used: {why}")]
    Access {
        /// The key of the configuration.
        key: String,
        /// The file that it names.
        path: String,
        /// What is wrong with it; never its content.
        why: String,
    },
    /// TLS cannot even begin on this node.
    #[error("TLS cannot be set up here: {0}")]
    Setup(String),
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] Refusal),
    /// More bytes than are taken: `fetch.maxSize` of an artifact, less of what is smaller by its nature.
    #[error(
        "it has more than {limit} bytes, the most that is taken of it (of an artifact, fetch.maxSize)"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not the pinned ones.
    #[error(transparent)]
    Digest(Box<WrongDigest>),
    /// Not a URL that can be fetched.
    #[error("it is not a usable URL: {0}; use https://, http:// or file:///")]
    Url(String),
    /// A local file that cannot be read.
    #[error("it cannot be read: {0}")]
    File(#[source] io::Error),
    /// A seed that has other things.
    #[error("it does not hold this one; gather it again with cni-keeper bundle")]
    NotInSeed,
    /// The extra certificate authorities cannot be used.
    #[error("fetch.caFile holds no usable certificate: {0}; it must be PEM")]
    CaFile(String),
    /// A registry does not let us in.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// A registry without the manifest or blob.
    #[error(
        "{registry} has no {repository}@{digest}; it may have been pruned or never been copied there: push it again, or pin one that is there"
    )]
    NotInRegistry {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// What was asked for.
        digest: String,
    },
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::Denied(Box::new(denied))
    }
}

impl Failure {
    /// How it counts for the decision to try again.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Dns(_) => FailureKind::Dns,
            Self::Connect { .. } => FailureKind::Connect,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Reset { .. } => FailureKind::Reset,
            Self::Protocol { .. } => FailureKind::Protocol,
            Self::Truncated { .. } => FailureKind::Truncated,
            Self::TooSlow { .. } => FailureKind::TooSlow,
            Self::Status {
                code: 401 | 403, ..
            }
            | Self::Access { .. } => FailureKind::Auth,
            Self::Status { code: 407, .. } | Self::ProxyAuth { .. } => FailureKind::ProxyAuth,
            Self::Status { code, .. } => FailureKind::Status(*code),
            Self::Proxy { .. } => FailureKind::Proxy,
            Self::ProxyTimeout { .. } => FailureKind::Timeout,
            Self::ProxySetting { .. } => FailureKind::ProxySetting,
            Self::Tls { source, .. } => tls_error::kind(source),
            Self::Setup(_) => FailureKind::Tls,
            Self::Redirect(_) => FailureKind::Redirect,
            Self::TooLarge { .. } => FailureKind::TooLarge,
            Self::Digest(_) => FailureKind::Digest,
            Self::Url(_) => FailureKind::Url,
            Self::File(_) => FailureKind::Io,
            Self::NotInSeed => FailureKind::NotInSeed,
            Self::CaFile(_) => FailureKind::CaFile,
            Self::Denied(denied) => denied.kind(),
            Self::NotInRegistry { .. } => FailureKind::Status(404),
        }
    }

    /// What the server asked for by `Retry-After`, not yet capped.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Denied(denied) => denied.retry_after(),
            _ => None,
        }
    }

    /// Sorts an error from before the answer's body.
    #[must_use]
    pub fn before_body(error: reqwest::Error, url: &Url, connect_timeout: Duration) -> Self {
        // The client's own message repeats the URL, query and all.
        let source = error.without_url();
        let host = url.host_str().unwrap_or_default().to_owned();
        if let Some(tls) = causes(&source).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            return Self::Tls {
                host,
                source: tls.clone(),
            };
        }
        if source.is_dns() {
            return Self::Dns(host);
        }
        match (source.is_connect(), broken(&source)) {
            _ if source.is_timeout() => Self::Timeout {
                limit: TimeLimit::Connect,
                after: connect_timeout,
            },
            (true, _) => Self::Connect { host, source },
            (false, true) => Self::Reset {
                position: 0,
                source,
            },
            (false, false) => Self::Protocol { host, source },
        }
    }

    /// Sorts an error from within the answer's body, of which `position` bytes are here.
    #[must_use]
    pub fn within_body(error: reqwest::Error, position: u64, want: Option<u64>) -> Self {
        let source = error.without_url();
        if broken(&source) {
            return Self::Reset { position, source };
        }
        Self::Truncated {
            got: position,
            want,
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection within fetch.connectTimeout",
            Self::Silence => "silence for longer than fetch.readTimeout",
            Self::Total => "not done within fetch.totalTimeout",
        })
    }
}

/// The error and everything under it. `io::Error` hides what it wraps from `source()`, so that is asked for as well.
pub(in crate::fetch) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        wrapped.or_else(|| error.source())
    })
}

/// What the innermost error says.
pub(in crate::fetch) fn deepest(error: &(dyn Error + 'static)) -> String {
    let early = |cause: &(dyn Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof)
    };
    // rustls would send the reader to a page for programmers.
    if causes(error).any(early) {
        return "the connection was closed too early".to_owned();
    }
    causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// Whether the connection itself broke, rather than ended early.
pub(in crate::fetch) fn broken(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|io| {
            matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::TimedOut
            )
        })
}

fn of(want: Option<u64>) -> String {
    want.map_or_else(String::new, |want| format!(" of {want}"))
}

fn meaning(code: u16) -> &'static str {
    match code {
        401 => {
            "; it asks for credentials, or for others than it was given: write them under fetch.access"
        }
        403 => "; access is denied: check the credentials under fetch.access, and what they allow",
        407 => {
            "; a proxy asks for credentials: write them into its variable (http://USER:PASSWORD@HOST:PORT)"
        }
        404 | 410 => "; nothing is there: check version, architecture and path of the source",
        429 => "; it asks for fewer requests: use a mirror",
        500..=599 => "; the server or a proxy before it is in trouble",
        _ => "",
    }
}

fn asked(tried: &[SourceFailure]) -> String {
    if tried.is_empty() {
        return "nobody may be asked; run once without --offline, or add a seed or a file:// source"
            .to_owned();
    }
    let one = |tried: &SourceFailure| {
        let times = match tried.attempts {
            0 | 1 => String::new(),
            n => format!(" (after {n} attempts)"),
        };
        format!("{}: {}{times}", tried.source, tried.message)
    };
    tried.iter().map(one).collect::<Vec<_>>().join(" | ")
}

fn listed(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "it has no source; give it one under artifacts[].sources".to_owned();
    }
    let one = |tried: &Tried| {
        let times = match tried.attempts {
            0 | 1 => String::new(),
            n => format!(" (after {n} attempts)"),
        };
        format!("{}: {}{times}", tried.source, tried.reason)
    };
    tried.iter().map(one).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_in_the_one_line() {
        let tried = |source: &str, attempts, reason| Tried {
            source: source.to_owned(),
            attempts,
            reason,
        };
        let error = FetchError::Sources {
            artifact: "cni-plugins".to_owned(),
            tried: vec![
                tried("https://a/x", 3, Failure::Dns("a".to_owned())),
                tried("https://b/x", 1, Failure::TooLarge { limit: 5 }),
            ],
        };
        assert_eq!(
            error.to_string(),
            "cannot fetch cni-plugins: https://a/x: the name a does not resolve; check the node's DNS \
             (a hostNetwork pod needs dnsPolicy: Default) (after 3 attempts) | https://b/x: it has more than \
             5 bytes, the most that is taken of it (of an artifact, fetch.maxSize)"
        );
        assert_eq!(error.kind(), FailureKind::TooLarge);
    }
}
