//! The requests to the Kubernetes API. No connection is kept open, since the next request is minutes away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::api_endpoint::ApiEndpoint;
use super::error::{KubeError, quote_message};
use super::request_log::{RequestLog, RequestPurpose};
use crate::config;
use crate::fetch::{HttpError, api_client};
use crate::host::{Host, HostError};
use crate::model::NodeObject;

/// How long a connection may take. The address of a Service without an endpoint is refused at once or never answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a whole request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes: etcd takes objects of 1.5 MiB.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// The largest token and the largest CA file, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;

const JSON: &str = "application/json";
const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// A client of the API server for one node.
#[derive(Debug, Clone)]
pub struct KubeClient {
    settings: config::KubernetesSettings,
    node: Option<String>,
    log: RequestLog,
}

/// One request.
struct ApiRequest<'a> {
    purpose: RequestPurpose,
    method: Method,
    /// The verb and the resource of RBAC.
    verb: &'static str,
    resource: &'static str,
    /// The segments of the path, none escaped.
    path: Vec<&'a str>,
    body: Option<(&'static str, &'a Value)>,
}

impl ApiRequest<'_> {
    /// The name of the object, or of the namespace in which one is created.
    fn object_name(&self) -> String {
        let names = self.path.iter().rev();
        let mut names = names.filter(|segment| !["status", "events"].contains(segment));
        names.next().map_or_else(String::new, ToString::to_string)
    }
}

/// The `Status` object with which the API server explains a failed request.
#[derive(Deserialize)]
struct ErrorStatus {
    #[serde(default)]
    message: String,
}

impl KubeClient {
    /// A client for the node of this name. It makes no request yet.
    #[must_use]
    pub const fn new(
        settings: config::KubernetesSettings,
        node: Option<String>,
        log: RequestLog,
    ) -> Self {
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

    /// Gets this node's object.
    ///
    /// # Errors
    /// When there is no answer, or no usable one.
    pub async fn get_node(&self, purpose: RequestPurpose) -> Result<NodeObject, KubeError> {
        let request = ApiRequest {
            purpose,
            method: Method::GET,
            verb: "get",
            resource: "nodes",
            path: vec!["api", "v1", "nodes", self.require_node_name()?],
            body: None,
        };
        let (server, bytes) = self.send_recorded(&request).await?;
        let node = serde_json::from_slice(&bytes);
        node.map_err(|source| KubeError::Garbled { server, source })
    }

    /// Merges a strategic merge patch into this node's status. List items are merged by their keys, so that what others
    /// write there stays.
    ///
    /// # Errors
    /// As [`KubeClient::get_node`].
    pub async fn patch_node_status(&self, patch: &Value) -> Result<(), KubeError> {
        let request = ApiRequest {
            purpose: RequestPurpose::Condition,
            method: Method::PATCH,
            verb: "patch",
            resource: "nodes/status",
            path: vec!["api", "v1", "nodes", self.require_node_name()?, "status"],
            body: Some((STRATEGIC_MERGE, patch)),
        };
        self.send_recorded(&request).await.map(drop)
    }

    /// Changes this node by a JSON patch (RFC 6902), which is applied as a whole or not at all.
    ///
    /// # Errors
    /// As [`KubeClient::get_node`]; [`KubeError::Conflict`] if a `test` in it fails.
    pub async fn patch_node(&self, patch: &Value) -> Result<(), KubeError> {
        let request = ApiRequest {
            purpose: RequestPurpose::Taint,
            method: Method::PATCH,
            verb: "patch",
            resource: "nodes",
            path: vec!["api", "v1", "nodes", self.require_node_name()?],
            body: Some((JSON_PATCH, patch)),
        };
        self.send_recorded(&request).await.map(drop)
    }

    /// Creates an Event in a namespace.
    ///
    /// # Errors
    /// As [`KubeClient::get_node`].
    pub async fn create_event(&self, namespace: &str, event: &Value) -> Result<(), KubeError> {
        let request = ApiRequest {
            purpose: RequestPurpose::Events,
            method: Method::POST,
            verb: "create",
            resource: "events",
            path: vec!["api", "v1", "namespaces", namespace, "events"],
            body: Some((JSON, event)),
        };
        self.send_recorded(&request).await.map(drop)
    }

    /// Merges a patch into an Event that was created before.
    ///
    /// # Errors
    /// As [`KubeClient::get_node`]; [`KubeError::NotFound`] if it has expired.
    pub async fn patch_event(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), KubeError> {
        let request = ApiRequest {
            purpose: RequestPurpose::Events,
            method: Method::PATCH,
            verb: "patch",
            resource: "events",
            path: vec!["api", "v1", "namespaces", namespace, "events", name],
            body: Some((MERGE, patch)),
        };
        self.send_recorded(&request).await.map(drop)
    }

    fn require_node_name(&self) -> Result<&str, KubeError> {
        self.node_name().ok_or(KubeError::NoName)
    }

    /// Sends a request and records how it ended. Returns the server's URL and the body of its answer.
    async fn send_recorded(
        &self,
        request: &ApiRequest<'_>,
    ) -> Result<(String, Vec<u8>), KubeError> {
        let outcome = self.send(request).await;
        let failure = outcome.as_ref().err();
        self.log.record(request.purpose, request.verb, failure);
        outcome
    }

    async fn send(&self, request: &ApiRequest<'_>) -> Result<(String, Vec<u8>), KubeError> {
        let endpoint = ApiEndpoint::from_settings(&self.settings)?;
        let server = endpoint.url.as_str().trim_end_matches('/').to_owned();
        let (client, token) = self.open_client(endpoint.proxied, &server).await?;
        let answer = send_request(&client, endpoint.url, &server, token, request);
        match timeout(REQUEST_TIMEOUT, answer).await {
            Ok(bytes) => Ok((server, bytes?)),
            Err(_) => Err(KubeError::Timeout {
                server,
                after: REQUEST_TIMEOUT,
            }),
        }
    }

    /// An HTTP client that trusts only the cluster's CA, and the current token. Both files are read each time, because
    /// the kubelet replaces them while the agent runs.
    async fn open_client(
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
                read_own_file(&token).map_err(KubeError::NoToken)?,
                read_own_file(&ca).map_err(KubeError::NoCa)?,
            ))
        });
        let (token, ca) = read.await??;
        let client =
            api_client(CONNECT_TIMEOUT, &ca, proxied).map_err(|failure| match failure {
                HttpError::CaFile(why) => KubeError::BadCa {
                    path: self.settings.ca_file.clone(),
                    why,
                },
                failure => KubeError::Unreachable {
                    server: server.to_owned(),
                    failure,
                },
            })?;
        Ok((client, bearer_header(&token, &self.settings.token_file)?))
    }
}

/// Reads a file in the agent's own file system, not below `--host-root`.
fn read_own_file(path: &Path) -> Result<Vec<u8>, HostError> {
    Host::open(Path::new("/"))?.read_file(path, MAX_FILE_BYTES)
}

/// The `Authorization` header, marked as sensitive so that nothing prints it.
fn bearer_header(token: &[u8], path: &Path) -> Result<HeaderValue, KubeError> {
    let bad = || KubeError::BadToken(PathBuf::from(path));
    let token = std::str::from_utf8(token).map_err(|_| bad())?.trim();
    if token.is_empty() {
        return Err(bad());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn send_request(
    client: &Client,
    mut url: Url,
    server: &str,
    token: HeaderValue,
    request: &ApiRequest<'_>,
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
        sent.map_err(|error| unreachable(HttpError::before_answer(error, &url, CONNECT_TIMEOUT)))?;
    let body = read_body(&mut response, server).await;
    if response.status().is_success() {
        return body;
    }
    // If the body cannot be read, only the status is reported.
    let status = body
        .ok()
        .and_then(|body| serde_json::from_slice::<ErrorStatus>(&body).ok());
    let message = status.map_or_else(String::new, |status| quote_message(&status.message));
    Err(error_of_status(
        response.status(),
        server.to_owned(),
        message,
        request,
    ))
}

/// Reads the body of an answer, up to [`MAX_ANSWER_BYTES`].
async fn read_body(response: &mut Response, server: &str) -> Result<Vec<u8>, KubeError> {
    let mut body = Vec::new();
    let want = response.content_length();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(piece)) if body.len() + piece.len() > MAX_ANSWER_BYTES => {
                return Err(KubeError::TooLarge {
                    server: server.to_owned(),
                    limit: MAX_ANSWER_BYTES,
                });
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Err(error) => {
                let got = u64::try_from(body.len()).unwrap_or(u64::MAX);
                return Err(KubeError::Unreachable {
                    server: server.to_owned(),
                    failure: HttpError::within_body(error, got, want),
                });
            }
        }
    }
}

fn error_of_status(
    status: StatusCode,
    server: String,
    message: String,
    request: &ApiRequest<'_>,
) -> KubeError {
    let (verb, resource) = (request.verb, request.resource);
    match status {
        StatusCode::UNAUTHORIZED => KubeError::Unauthorized { server },
        StatusCode::FORBIDDEN => KubeError::Forbidden {
            server,
            verb,
            resource,
            message,
        },
        StatusCode::NOT_FOUND => KubeError::NotFound {
            server,
            resource,
            name: request.object_name(),
        },
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => KubeError::Conflict {
            server,
            code: status.as_u16(),
            message,
        },
        _ => KubeError::Status {
            server,
            code: status.as_u16(),
            message,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_nothing_prints() {
        let path = Path::new("/run/token");
        let value = bearer_header(b"abc.def\n", path).unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer abc.def");
        assert!(!format!("{value:?}").contains("abc"));
        for bad in [&b""[..], b" \n", b"a\nb", b"\xff"] {
            let error = bearer_header(bad, path).unwrap_err();
            assert!(matches!(error, KubeError::BadToken(_)));
        }
    }
}
