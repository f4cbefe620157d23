//! Why a request to the Kubernetes API failed, and what an operator can do about it.

use std::path::PathBuf;
use std::time::Duration;

use crate::fetch::HttpError;
use crate::host::HostError;
use crate::model::{FailureKind, one_line};

/// How much of what the server says is repeated, in bytes.
const MAX_QUOTE_BYTES: usize = 300;

/// Why a request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// The environment does not say where the server is.
    #[error(
        "the API server is not known, since KUBERNETES_SERVICE_HOST is not set; name it under kubernetes.server"
    )]
    NoServer,
    /// The address in the environment is not valid.
    #[error(
        "'{0}' is not a valid address of an API server; check KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
    )]
    BadServer(String),
    #[error("this node's name is not known; set --node-name (CNI_KEEPER_NODE_NAME)")]
    NoName,
    /// The token cannot be read.
    #[error(
        "kubernetes.tokenFile: {0}; mount a ServiceAccount token there, as manifests/components/kubernetes-api does"
    )]
    NoToken(#[source] HostError),
    /// The file holds no token.
    #[error("kubernetes.tokenFile: {} holds no token; mount a ServiceAccount token there", .0.display())]
    BadToken(PathBuf),
    /// The CA file cannot be read.
    #[error(
        "kubernetes.caFile: {0}; mount the cluster's kube-root-ca.crt there, as manifests/components/kubernetes-api does"
    )]
    NoCa(#[source] HostError),
    /// The CA file holds no certificate.
    #[error("kubernetes.caFile: {} holds no usable certificate ({why}); it must be PEM", path.display())]
    BadCa { path: PathBuf, why: String },
    /// The server cannot be reached, or its certificate is not accepted.
    #[error("{server}: {}", explain_unreachable(failure))]
    Unreachable {
        server: String,
        #[source]
        failure: HttpError,
    },
    /// No answer in time.
    #[error("{server} did not answer within {} s; check whether it is overloaded or a firewall blocks the way", after.as_secs())]
    Timeout { server: String, after: Duration },
    /// 401.
    #[error(
        "{server} does not accept the token (401); check that it is mounted with the API server's audience and has not expired"
    )]
    Unauthorized { server: String },
    /// 403.
    #[error(
        "{server} does not allow us to {verb} {resource} (403){message}; manifests/components/{} grants it: \
         resources: [{resource}], verbs: [{verb}]",
        granting_component(verb, resource)
    )]
    Forbidden {
        server: String,
        /// The verb of RBAC.
        verb: &'static str,
        /// The resource of RBAC.
        resource: &'static str,
        /// From the answer's body: empty, or `: …`.
        message: String,
    },
    /// 404.
    #[error(
        "{server} has no {name} among its {resource} (404); {}",
        advice_for_missing(resource)
    )]
    NotFound {
        server: String,
        resource: &'static str,
        name: String,
    },
    /// 409 and 422: somebody else has changed the object meanwhile, or the change is not valid.
    #[error(
        "{server} refuses the change ({code}){message}; the agent reads the object again and retries"
    )]
    Conflict {
        server: String,
        code: u16,
        /// From the answer's body: empty, or `: …`.
        message: String,
    },
    /// Any other status.
    #[error("{server} answers {code}{message}; look at the log of the API server")]
    Status {
        server: String,
        code: u16,
        /// From the answer's body: empty, or `: …`.
        message: String,
    },
    /// The answer is larger than an object of Kubernetes can be.
    #[error("{server} sends more than {limit} bytes; check that it is an API server")]
    TooLarge {
        server: String,
        /// In bytes.
        limit: usize,
    },
    /// The answer is not a node object.
    #[error(
        "{server} sends something other than a node{}; check that it is an API server",
        quote_message(&source.to_string())
    )]
    Garbled {
        server: String,
        #[source]
        source: serde_json::Error,
    },
    /// A task of ours ended without a result.
    #[error("internal: a worker ended early: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl KubeError {
    /// A stable label for metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoServer | Self::BadServer(_) | Self::NoName => "setup",
            Self::NoToken(_) | Self::BadToken(_) => "token",
            Self::NoCa(_) | Self::BadCa { .. } => "ca-file",
            Self::Unreachable { failure, .. } => failure.kind().as_str(),
            Self::Timeout { .. } => FailureKind::Timeout.as_str(),
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not-found",
            Self::Conflict { .. } => "conflict",
            Self::Status { code, .. } => FailureKind::Status(*code).as_str(),
            Self::TooLarge { .. } => FailureKind::TooLarge.as_str(),
            Self::Garbled { .. } => FailureKind::Protocol.as_str(),
            Self::Worker(_) => "internal",
        }
    }

    /// Whether the object does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The message of the server's `Status` as `: …`, cut short and on one line; empty if it is empty.
pub(super) fn quote_message(message: &str) -> String {
    match one_line(message, MAX_QUOTE_BYTES).as_str() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// The component of the manifests that grants the permission.
fn granting_component(verb: &str, resource: &str) -> &'static str {
    match (verb, resource) {
        ("get", _) => "kubernetes-api",
        ("patch", "nodes") => "kubernetes-taint",
        _ => "kubernetes-reports",
    }
}

/// What to do about an object that does not exist.
fn advice_for_missing(resource: &str) -> &'static str {
    match resource {
        "events" => "it may have expired",
        _ => "set --node-name (CNI_KEEPER_NODE_NAME) to the name that kubectl get nodes shows",
    }
}

/// Why the server cannot be reached. The message of the failure itself would name settings of downloads, which do not
/// apply here.
fn explain_unreachable(failure: &HttpError) -> String {
    match failure.kind() {
        FailureKind::TlsUnknownCa => "its certificate was not issued by an authority in kubernetes.caFile; put \
             the cluster's CA there, or name the right server under kubernetes.server"
            .to_owned(),
        FailureKind::TlsName => {
            "its certificate is not for this address; name the server by an address in it under kubernetes.server"
                .to_owned()
        }
        FailureKind::TlsExpired => {
            "its certificate is not valid now; check this node's clock, then have it renewed".to_owned()
        }
        FailureKind::Timeout => {
            "no connection in time; check the node's route and firewall, and kube-proxy for the cluster's own address"
                .to_owned()
        }
        _ => failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_quoted_on_one_short_line() {
        assert_eq!(quote_message("no\nway\t!"), ": no way !");
        assert_eq!(quote_message(" \n"), "");
        assert_eq!(quote_message(&"x".repeat(1000)).len(), MAX_QUOTE_BYTES + 2);
    }

    #[test]
    fn a_missing_rule_is_named_as_rbac_has_it() {
        let error = KubeError::Forbidden {
            server: "https://10.96.0.1:443".to_owned(),
            verb: "patch",
            resource: "nodes/status",
            message: quote_message("User \"x\" cannot patch"),
        };
        assert_eq!(
            error.to_string(),
            "https://10.96.0.1:443 does not allow us to patch nodes/status (403): User \"x\" cannot patch; \
             manifests/components/kubernetes-reports grants it: resources: [nodes/status], verbs: [patch]"
        );
        assert_eq!(error.kind(), "forbidden");
    }
}
