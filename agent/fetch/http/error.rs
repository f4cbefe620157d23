//! Why a request over HTTP failed, in the words an operator needs.

use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, RETRY_AFTER};
use reqwest::{Response, Url};

use super::error_chain::{error_chain, innermost_message, is_broken_connection};
use super::headers::header_text;
use super::redirect::RedirectError;
use super::tls_error;
use crate::model::FailureKind;
use crate::retry;

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

/// Why one attempt to get something over HTTP failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The name does not resolve.
    #[error(
        "the name {0} does not resolve; check the node's DNS (a hostNetwork pod needs dnsPolicy: Default)"
    )]
    Dns(String),
    /// No connection.
    #[error(
        "no connection to {host}: {}; check the node's route and firewall, and whether it needs a proxy",
        innermost_message(source)
    )]
    Connect {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// A time limit passed.
    #[error("{limit} ({} s)", after.as_secs_f32())]
    Timeout { limit: TimeLimit, after: Duration },
    /// The connection broke.
    #[error(
        "the connection broke after {position} bytes: {}",
        innermost_message(source)
    )]
    Reset {
        /// Bytes that were here by then.
        position: u64,
        #[source]
        source: reqwest::Error,
    },
    /// Not HTTP, or no answer before the connection closed.
    #[error(
        "{host} does not answer with proper HTTP: {}",
        innermost_message(source)
    )]
    Protocol {
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// The body is shorter than announced, or a chunked one has no end.
    #[error("the answer ended after {got} bytes{}", announced_suffix(*want))]
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
        least: u64,
    },
    /// A status that is not the one asked for.
    #[error("it answers HTTP {code}{}", status_advice(*code))]
    Status {
        code: u16,
        /// Its `Retry-After`, not yet capped.
        retry_after: Option<Duration>,
    },
    /// TLS failed.
    #[error("{}", tls_error::explain_tls_error(source, host))]
    Tls {
        host: String,
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
        /// The proxy's answer, or why there is none.
        why: String,
    },
    /// The proxy asks for credentials, or refuses those that it was given.
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
        limit: TimeLimit,
        after: Duration,
        /// The proxy without user information.
        proxy: String,
    },
    /// The environment names a proxy that cannot be used.
    #[error(
        "the environment variable {variable} names no usable proxy: {why}; write http://HOST:PORT"
    )]
    ProxySetting {
        variable: &'static str,
        /// What is wrong with its value, which is not shown.
        why: &'static str,
    },
    /// A file with headers or a client certificate for the server cannot be used.
    #[error("{key} {path} cannot be used: {why}")]
    Access {
        key: String,
        path: String,
        /// What is wrong with it; never its content.
        why: String,
    },
    /// TLS cannot even begin on this node.
    #[error("TLS cannot be set up here: {0}")]
    Setup(String),
    /// A redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// More bytes than are taken: `fetch.maxSize` of an artifact, less of what is smaller by its nature.
    #[error(
        "it has more than {limit} bytes, the most that is taken of it (of an artifact, fetch.maxSize)"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The environment names certificate authorities that cannot be read.
    #[error(
        "{variable} leads to {path}, which cannot be used: {why}; name a file with PEM there, or unset it"
    )]
    SystemAuthorities {
        variable: &'static str,
        path: String,
        why: String,
    },
    /// The extra certificate authorities cannot be used.
    #[error("fetch.caFile holds no usable certificate: {0}; it must be PEM")]
    CaFile(String),
}

impl HttpError {
    /// The kind for metrics, which also decides whether to try again.
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
            Self::Tls { source, .. } => tls_error::tls_failure_kind(source),
            Self::Setup(_) => FailureKind::Tls,
            Self::Redirect(_) => FailureKind::Redirect,
            Self::TooLarge { .. } => FailureKind::TooLarge,
            Self::SystemAuthorities { .. } | Self::CaFile(_) => FailureKind::CaFile,
        }
    }

    /// What the server asked for by `Retry-After`, not yet capped.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// From an answer whose status is not the one asked for.
    pub(in crate::fetch) fn from_status(response: &Response) -> Self {
        let headers = response.headers();
        // By the server's own clock if it tells it: the clock of a node that just booted may be years off.
        let now = header_text(headers, &DATE)
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or_else(SystemTime::now);
        Self::Status {
            code: response.status().as_u16(),
            retry_after: header_text(headers, &RETRY_AFTER)
                .and_then(|text| retry::parse_retry_after(text, now)),
        }
    }

    /// Sorts an error from before the answer's body.
    #[must_use]
    pub fn before_answer(error: reqwest::Error, url: &Url, connect_timeout: Duration) -> Self {
        // The client's own message repeats the URL, query and all.
        let source = error.without_url();
        let host = url.host_str().unwrap_or_default().to_owned();
        if let Some(tls) =
            error_chain(&source).find_map(|cause| cause.downcast_ref::<rustls::Error>())
        {
            return Self::Tls {
                host,
                source: tls.clone(),
            };
        }
        if source.is_dns() {
            return Self::Dns(host);
        }
        match (source.is_connect(), is_broken_connection(&source)) {
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
        if is_broken_connection(&source) {
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

fn announced_suffix(want: Option<u64>) -> String {
    want.map_or_else(String::new, |want| format!(" of {want}"))
}

fn status_advice(code: u16) -> &'static str {
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
        500..=599 => "; the server or a proxy in front of it fails",
        _ => "",
    }
}
