//! The requests, one after the other: no connection is kept, since the next one is minutes away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::endpoint::Endpoint;
use super::error::quoted;
use super::{KubeError, Log, Node, Purpose};
use crate::config;
use crate::fetch::{Failure, api_client};
use crate::host::{Host, HostError};

/// For a connection to be made. The address of a Service without an endpoint is refused at once or never answers.
const CONNECT: Duration = Duration::from_secs(3);
/// For a whole request.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: etcd takes objects of 1.5 MiB.
const LARGEST_ANSWER: usize = 2 << 20;
/// The largest token and the largest file of authorities, in bytes.
const LARGEST_FILE: u64 = 256 << 10;

const JSON: &str = "application/json";
const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// The API server, asked and told about one node.
#[derive(Debug, Clone)]
pub struct Api {
    settings: config::Kubernetes,
    node: Option<String>,
    log: Log,
}

/// One request.
struct Request<'a> {
    purpose: Purpose,
    method: Method,
    /// The verb and the resource of RBAC.
    verb: &'static str,
    resource: &'static str,
    /// The segments of the path, none escaped.
    path: Vec<&'a str>,
    body: Option<(&'static str, &'a Value)>,
}

impl Request<'_> {
    /// What it is about: an object, or the namespace that one is to be made in.
    fn name(&self) -> String {
        let names = self.path.iter().rev();
        let mut names = names.filter(|segment| !["status", "events"].contains(segment));
        names.next().map_or_else(String::new, ToString::to_string)
    }
}

/// What the API server says of a request that came to nothing.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    message: String,
}

impl Api {
    /// An API server for the node of this name; nothing is asked yet.
    #[must_use]
    pub const fn new(settings: config::Kubernetes, node: Option<String>, log: Log) -> Self {
        Self {
            settings,
            node,
            log,
        }
    }

    /// The node's name, where known.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Gets this node's object, by its name alone.
    ///
    /// # Errors
    /// When there is no answer, or none of use.
    pub async fn node(&self, purpose: Purpose) -> Result<Node, KubeError> {
        let request = Request {
            purpose,
            method: Method::GET,
            verb: "get",
            resource: "nodes",
            path: vec!["api", "v1", "nodes", self.name()?],
            body: None,
        };
        let (server, bytes) = self.ask(&request).await?;
        let node = serde_json::from_slice(&bytes);
        node.map_err(|source| KubeError::Garbled { server, source })
    }

    /// Merges into this node's status, list items by their own keys, so that what others write there stays.
    ///
    /// # Errors
    /// As [`Api::node`].
    pub async fn merge_status(&self, patch: &Value) -> Result<(), KubeError> {
        let request = Request {
            purpose: Purpose::Condition,
            method: Method::PATCH,
            verb: "patch",
            resource: "nodes/status",
            path: vec!["api", "v1", "nodes", self.name()?, "status"],
            body: Some((STRATEGIC_MERGE, patch)),
        };
        self.ask(&request).await.map(drop)
    }

    /// Changes this node by a JSON patch (RFC 6902), which is all or nothing.
    ///
    /// # Errors
    /// As [`Api::node`]; [`KubeError::Conflict`] where a test in it fails.
    pub async fn patch_node(&self, patch: &Value) -> Result<(), KubeError> {
        let request = Request {
            purpose: Purpose::Taint,
            method: Method::PATCH,
            verb: "patch",
            resource: "nodes",
            path: vec!["api", "v1", "nodes", self.name()?],
            body: Some((JSON_PATCH, patch)),
        };
        self.ask(&request).await.map(drop)
    }

    /// Creates an Event in a namespace.
    ///
    /// # Errors
    /// As [`Api::node`].
    pub async fn create_event(&self, namespace: &str, event: &Value) -> Result<(), KubeError> {
        let request = Request {
            purpose: Purpose::Events,
            method: Method::POST,
            verb: "create",
            resource: "events",
            path: vec!["api", "v1", "namespaces", namespace, "events"],
            body: Some((JSON, event)),
        };
        self.ask(&request).await.map(drop)
    }

    /// Merges into an Event that was created before.
    ///
    /// # Errors
    /// As [`Api::node`]; [`KubeError::NotFound`] where it has expired.
    pub async fn amend_event(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), KubeError> {
        let request = Request {
            purpose: Purpose::Events,
            method: Method::PATCH,
            verb: "patch",
            resource: "events",
            path: vec!["api", "v1", "namespaces", namespace, "events", name],
            body: Some((MERGE, patch)),
        };
        self.ask(&request).await.map(drop)
    }

    fn name(&self) -> Result<&str, KubeError> {
        self.node_name().ok_or(KubeError::NoName)
    }

    /// Makes a request and records how it ended. Returns the server's name and its answer.
    async fn ask(&self, request: &Request<'_>) -> Result<(String, Vec<u8>), KubeError> {
        let outcome = self.exchange(request).await;
        let failure = outcome.as_ref().err();
        self.log.ended(request.purpose, request.verb, failure);
        outcome
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<(String, Vec<u8>), KubeError> {
        let endpoint = Endpoint::of(&self.settings)?;
        let server = endpoint.url.as_str().trim_end_matches('/').to_owned();
        let (client, token) = self.credentials(endpoint.proxied, &server).await?;
        let answer = answer(&client, endpoint.url, &server, token, request);
        match timeout(PATIENCE, answer).await {
            Ok(bytes) => Ok((server, bytes?)),
            Err(_) => Err(KubeError::Timeout {
                server,
                after: PATIENCE,
            }),
        }
    }

    /// A client that trusts the cluster's authority and no other, and the token of the moment: both files are replaced
    /// while the agent runs.
    async fn credentials(
        &self,
        proxied: bool,
        server: &str,
    ) -> Result<(Client, HeaderValue), KubeError> {
        let (token, ca) = (
            self.settings.token_file.clone(),
            self.settings.ca_file.clone(),
        );
        let read = tokio::task::spawn_blocking(move || -> Result<_, KubeError> {
            Ok((
                own_file(&token).map_err(KubeError::NoToken)?,
                own_file(&ca).map_err(KubeError::NoCa)?,
            ))
        });
        let (token, ca) = read.await??;
        let client = api_client(CONNECT, &ca, proxied).map_err(|failure| match failure {
            Failure::CaFile(why) => KubeError::BadCa {
                path: self.settings.ca_file.clone(),
                why,
            },
            failure => KubeError::Unreachable {
                server: server.to_owned(),
                failure,
            },
        })?;
        Ok((client, bearer(&token, &self.settings.token_file)?))
    }
}

/// Reads a file of the agent's own.
fn own_file(path: &Path) -> Result<Vec<u8>, HostError> {
    Host::open(Path::new("/"))?.read(path, LARGEST_FILE)
}

/// The header that proves who we are; marked so that nothing prints it.
fn bearer(token: &[u8], path: &Path) -> Result<HeaderValue, KubeError> {
    let bad = || KubeError::BadToken(PathBuf::from(path));
    let token = std::str::from_utf8(token).map_err(|_| bad())?.trim();
    if token.is_empty() {
        return Err(bad());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn answer(
    client: &Client,
    mut url: Url,
    server: &str,
    token: HeaderValue,
    request: &Request<'_>,
) -> Result<Vec<u8>, KubeError> {
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(&request.path);
    }
    let mut building = client
        .request(request.method.clone(), url.clone())
        .header(AUTHORIZATION, token)
        .header(ACCEPT, JSON);
    if let Some((kind, body)) = request.body {
        building = building.header(CONTENT_TYPE, kind).body(body.to_string());
    }
    let unreachable = |failure| KubeError::Unreachable {
        server: server.to_owned(),
        failure,
    };
    let sent = building.send().await;
    let mut response =
        sent.map_err(|error| unreachable(Failure::before_body(error, &url, CONNECT)))?;
    let body = body(&mut response, server).await;
    if response.status().is_success() {
        return body;
    }
    // What it says is worth more than why it did not say it.
    let said = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Said>(&body).ok());
    let said = said.map_or_else(String::new, |said| quoted(&said.message));
    Err(refusal(response.status(), server.to_owned(), said, request))
}

/// Reads an answer's body, up to what an object can be.
async fn body(response: &mut Response, server: &str) -> Result<Vec<u8>, KubeError> {
    let mut body = Vec::new();
    let want = response.content_length();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len() + piece.len() > LARGEST_ANSWER => {
                return Err(KubeError::TooLarge {
                    server: server.to_owned(),
                    limit: LARGEST_ANSWER,
                });
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => {
                let got = u64::try_from(body.len()).unwrap_or(u64::MAX);
                return Err(KubeError::Unreachable {
                    server: server.to_owned(),
                    failure: Failure::within_body(error, got, want),
                });
            }
        }
    }
}

fn refusal(status: StatusCode, server: String, said: String, request: &Request<'_>) -> KubeError {
    let (verb, resource) = (request.verb, request.resource);
    match status {
        StatusCode::UNAUTHORIZED => KubeError::Unauthorized { server },
        StatusCode::FORBIDDEN => KubeError::Forbidden {
            server,
            verb,
            resource,
            said,
        },
        StatusCode::NOT_FOUND => KubeError::NotFound {
            server,
            resource,
            name: request.name(),
        },
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => KubeError::Conflict {
            server,
            code: status.as_u16(),
            said,
        },
        _ => KubeError::Status {
            server,
            code: status.as_u16(),
            said,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_nothing_prints() {
        let path = Path::new("/run/token");
        let value = bearer(b"abc.def\n", path).unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer abc.def");
        assert!(!format!("{value:?}").contains("abc"));
        for bad in [&b""[..], b" \n", b"a\nb", b"\xff"] {
            let error = bearer(bad, path).unwrap_err();
            assert!(matches!(error, KubeError::BadToken(_)));
        }
    }
}
