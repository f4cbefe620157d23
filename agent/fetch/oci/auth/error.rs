//! Why a registry refuses a pull, in the words an operator needs.

use std::time::Duration;

use crate::fetch::http::HttpError;
use crate::model::FailureKind;

/// Why a registry, or its token server, does not give a manifest or blob.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No file with credentials is configured.
    #[error(
        "{registry} asks for credentials; name a docker config.json that holds some for it under fetch.registryConfig"
    )]
    NoConfig { registry: String },
    /// The file with credentials has none that fit.
    #[error(
        "{registry} asks for credentials and fetch.registryConfig has none for {registry}/{repository}; add them to its auths"
    )]
    NoCredentials {
        registry: String,
        repository: String,
    },
    /// The registry refuses the credentials that were sent.
    #[error(
        "{by} refuses what fetch.registryConfig holds for {repository}; renew it there, and let that account pull from it"
    )]
    Refused { by: String, repository: String },
    /// The credentials are in a helper program, and helpers are not run.
    #[error(
        "fetch.registryConfig leaves the credentials of {registry} to a helper program, and helpers are not run; \
         write them under its auths"
    )]
    Helper { registry: String },
    /// The file with credentials cannot be used. What it holds is not shown.
    #[error("fetch.registryConfig ({path}): {what}")]
    Config {
        path: String,
        /// What is wrong with it and how to fix it.
        what: String,
    },
    /// A 401 without a challenge that can be answered.
    #[error(
        "{registry} answers HTTP 401 and does not say how to log in (no Basic or Bearer challenge that can be read); \
         check that it is a registry, and what stands before it"
    )]
    Challenge { registry: String },
    /// A token server that is not https.
    #[error(
        "{registry} sends for a token to {realm}, which is not asked since it is not https; have the registry name an https realm"
    )]
    Realm {
        /// Host and port of the registry.
        registry: String,
        /// The token server, without query.
        realm: String,
    },
    /// Credentials would have been sent without encryption.
    #[error(
        "{server} asks for credentials over plain http, and they are not sent that way; serve it by https"
    )]
    Plain { server: String },
    /// The token server could not be asked.
    #[error("its token server {server}: {source}")]
    TokenServer {
        server: String,
        #[source]
        source: Box<HttpError>,
    },
    /// It does not have the manifest or blob.
    #[error(
        "{registry} has no {repository}@{digest}; it may have been pruned or never been copied there: push it again, or pin one that is there"
    )]
    NotFound {
        registry: String,
        repository: String,
        digest: String,
    },
    /// What the token server gave is no token.
    #[error("its token server {server} gives no usable token: {what}")]
    Token { server: String, what: &'static str },
}

impl RegistryError {
    /// How it counts for the decision to try again: a token server that is down comes back.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::TokenServer { source, .. } => source.kind(),
            Self::NotFound { .. } => FailureKind::Status(404),
            _ => FailureKind::Auth,
        }
    }

    /// What the token server asked for with `Retry-After`, not yet capped.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TokenServer { source, .. } => source.retry_after(),
            _ => None,
        }
    }
}
