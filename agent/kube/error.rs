//! Why the Kubernetes API gave no answer that is of use, in the words an operator needs.

use std::path::PathBuf;
use std::time::Duration;

use crate::fetch::Failure;
use crate::host::HostError;
use crate::model::{FailureKind, one_line};

/// How much of what the server says is repeated, in bytes.
const LONGEST_QUOTE: usize = 300;

/// A request to the API server that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// Nobody told where it is.
    #[error(
        "the API server is not known, since KUBERNETES_SERVICE_HOST is not set; name it under kubernetes.server"
    )]
    NoServer,
    /// What the environment says is no address.
    #[error(
        "'{0}' is not where an API server can be; check KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"
    )]
    BadServer(String),
    /// The node's name is not known.
    #[error("this node's name is not known; set --node-name (CNI_KEEPER_NODE_NAME)")]
    NoName,
    /// The token cannot be read.
    #[error(
        "kubernetes.tokenFile: {0}; mount a ServiceAccount token there, as manifests/components/kubernetes-api does"
    )]
    NoToken(#[source] HostError),
    /// The token is none.
    #[error("kubernetes.tokenFile: {} holds no token; mount a ServiceAccount token there", .0.display())]
    BadToken(PathBuf),
    /// The authorities cannot be read.
    #[error(
        "kubernetes.caFile: {0}; mount the cluster's kube-root-ca.crt there, as manifests/components/kubernetes-api does"
    )]
    NoCa(#[source] HostError),
    /// The authorities are none.
    #[error("kubernetes.caFile: {} holds no usable certificate ({why}); it must be PEM", path.display())]
    BadCa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server cannot be reached, or is not who it should be.
    #[error("{server}: {}", unreachable(failure))]
    Unreachable {
        /// The server.
        server: String,
        /// What happened.
        #[source]
        failure: Failure,
    },
    /// No answer in time.
    #[error("{server} did not answer within {} s; see whether it is overloaded, or a firewall is between", after.as_secs())]
    Timeout {
        /// The server.
        server: String,
        /// How long it was given.
        after: Duration,
    },
    /// 401.
    #[error(
        "{server} does not accept the token (401); check that it is mounted with the API server's audience and has not expired"
    )]
    Unauthorized {
        /// The server.
        server: String,
    },
    /// 403.
    #[error(
        "{server} does not let us {verb} {resource} (403){said}; manifests/components/{} grants it: \
         resources: [{resource}], verbs: [{verb}]",
        component(verb, resource)
    )]
    Forbidden {
        /// The server.
        server: String,
        /// The verb of RBAC.
        verb: &'static str,
        /// The resource of RBAC.
        resource: &'static str,
        /// What the server says of it.
        said: String,
    },
    /// 404.
    #[error(
        "{server} knows no {name} among the {resource} (404); {}",
        missing(resource)
    )]
    NotFound {
        /// The server.
        server: String,
        /// What was asked for.
        resource: &'static str,
        /// Its name.
        name: String,
    },
    /// 409 and 422: somebody else was faster, or what is told is not valid.
    #[error(
        "{server} refuses the change ({code}){said}; it is tried again with what is there by then"
    )]
    Conflict {
        /// The server.
        server: String,
        /// The status.
        code: u16,
        /// What the server says of it.
        said: String,
    },
    /// Any other status.
    #[error("{server} answers {code}{said}; look into its own log")]
    Status {
        /// The server.
        server: String,
        /// The status.
        code: u16,
        /// What the server says of it.
        said: String,
    },
    /// More than an object of Kubernetes can be.
    #[error("{server} sends more than {limit} bytes; check that it is an API server")]
    TooLarge {
        /// The server.
        server: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not what was asked for.
    #[error(
        "{server} sends something else than a node{}; check that it is an API server",
        quoted(&source.to_string())
    )]
    Garbled {
        /// The server.
        server: String,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A thread of ours ended without its result.
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

    /// Whether the thing that was asked for does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// What the server says in its `Status`, cut short and on one line.
pub(super) fn quoted(message: &str) -> String {
    match one_line(message, LONGEST_QUOTE).as_str() {
        "" => String::new(),
        said => format!(": {said}"),
    }
}

/// The component of the manifests that has the rule.
fn component(verb: &str, resource: &str) -> &'static str {
    match (verb, resource) {
        ("get", _) => "kubernetes-api",
        ("patch", "nodes") => "kubernetes-taint",
        _ => "kubernetes-reports",
    }
}

/// What to do about something that is not there.
fn missing(resource: &str) -> &'static str {
    match resource {
        "events" => "it may have expired",
        _ => "set --node-name (CNI_KEEPER_NODE_NAME) to the name that kubectl get nodes shows",
    }
}

/// What is wrong with the way to the server. A download's own words name settings that do not count here.
fn unreachable(failure: &Failure) -> String {
    match failure.kind() {
        FailureKind::TlsUnknownCa => "its certificate comes from none of the authorities in kubernetes.caFile; put \
             the cluster's own there, or name the right server under kubernetes.server"
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
        assert_eq!(quoted("no\nway\t!"), ": no way !");
        assert_eq!(quoted(" \n"), "");
        assert_eq!(quoted(&"x".repeat(1000)).len(), LONGEST_QUOTE + 2);
    }

    #[test]
    fn a_missing_rule_is_named_as_rbac_has_it() {
        let error = KubeError::Forbidden {
            server: "https://10.96.0.1:443".to_owned(),
            verb: "patch",
            resource: "nodes/status",
            said: quoted("User \"x\" cannot patch"),
        };
        assert_eq!(
            error.to_string(),
            "https://10.96.0.1:443 does not let us patch nodes/status (403): User \"x\" cannot patch; \
             manifests/components/kubernetes-reports grants it: resources: [nodes/status], verbs: [patch]"
        );
        assert_eq!(error.kind(), "forbidden");
    }
}
