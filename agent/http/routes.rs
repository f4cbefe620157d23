//! Which path is answered with what.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};

use super::checks::Question;
use super::guard::{self, Refusal};
use super::{page, views, zpages};
use crate::daemon::Handle;
use crate::metrics;
use crate::model::{Check, CheckName, Status};

/// How long a look at the disk may take that a client waits for. A kubelet gives a probe one second unless told
/// otherwise, and an answer that it does not wait for helps nobody.
const PATIENCE: Duration = Duration::from_millis(800);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The page brings all that it needs, and belongs into no frame.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All endpoints: `http.listen`.
    Everything,
    /// `/metrics`, and `/livez` to see that it is there: `http.metricsListen`.
    MetricsOnly,
}

impl Surface {
    /// The paths on it.
    #[must_use]
    pub const fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Everything => &[
                "/",
                "/livez",
                "/readyz",
                "/healthz",
                "/metrics",
                "/status",
                "/drift",
                "/conflist",
                "/statusz",
                "/flagz",
            ],
            Self::MetricsOnly => &["/livez", "/metrics"],
        }
    }

    /// The setting that says where it listens.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Everything => "http.listen",
            Self::MetricsOnly => "http.metricsListen",
        }
    }
}

/// The answers of one listener.
#[derive(Debug)]
pub(super) struct Routes {
    handle: Handle,
    surface: Surface,
    local: SocketAddr,
    /// When the listener began, which is when the agent did.
    since: Instant,
}

/// An answer before it has its headers.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: String,
    extra: Option<(HeaderName, HeaderValue)>,
}

impl Routes {
    /// The answers of the listener at `local`.
    pub(super) fn new(handle: Handle, surface: Surface, local: SocketAddr) -> Self {
        Self {
            handle,
            surface,
            local,
            since: Instant::now(),
        }
    }

    /// Answers a request; its body is never read.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (request, _) = request.into_parts();
        let answer = match guard::refusal(&request, self.local) {
            Some(refusal) => Answer::refused(refusal),
            None => self.route(&request).await,
        };
        let mut response = answer.into_response();
        if guard::has_body(&request.headers) {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(&self, request: &Parts) -> Answer {
        let path = request.uri.path();
        let question = Question::new(request.uri.query());
        let (top, check) = match path.strip_prefix("/readyz/") {
            Some(check) => ("/readyz", Some(check)),
            None => (path, None),
        };
        if !self.surface.paths().contains(&top) {
            return Answer::not_found("no such page", self.surface.paths());
        }
        match top {
            "/livez" => self.alive("livez", &question),
            "/healthz" => self.alive("healthz", &question),
            "/readyz" => self.ready(check, &question).await,
            "/metrics" => Answer::new(metrics::CONTENT_TYPE, metrics::text(&*self.look().await)),
            "/status" => Answer::json(views::status(&*self.look().await)),
            "/drift" => Answer::json(views::drift(&self.handle.latest())),
            "/conflist" => Answer::json(views::conflist(&self.handle.latest())),
            "/statusz" => {
                let agent = &self.handle.latest().agent;
                let paths = self.surface.paths();
                Answer::new(TEXT, zpages::statusz(agent, self.since.elapsed(), paths))
            }
            "/flagz" => Answer::new(TEXT, zpages::flagz(&self.handle.latest().agent)),
            _ => Answer {
                extra: Some((header::CONTENT_SECURITY_POLICY, PAGE_POLICY)),
                ..Answer::new(HTML, page::render(&*self.look().await))
            },
        }
    }

    /// A status that is no older than the question. Where the disk cannot be looked at in time, the last one is
    /// given with a failing check `look`: what may be right is not known to be.
    async fn look(&self) -> Arc<Status> {
        let stale = match self.handle.fresh(PATIENCE).await {
            Ok(status) => return status,
            Err(stale) => stale,
        };
        let mut look = Check::new(CheckName::Look);
        look.failures.push(match self.handle.alive() {
            Ok(()) => stale.to_string(),
            Err(stuck) => stuck.to_string(),
        });
        let mut status = Status::clone(&self.handle.latest());
        status.snapshot.checks.push(look);
        Arc::new(status)
    }

    fn alive(&self, of: &str, question: &Question<'_>) -> Answer {
        let mut turning = Check::new(CheckName::Loop);
        turning.failures = self
            .handle
            .alive()
            .err()
            .iter()
            .map(ToString::to_string)
            .collect();
        Answer::judged(of, question, &[turning])
    }

    async fn ready(&self, only: Option<&str>, question: &Question<'_>) -> Answer {
        let status = self.look().await;
        let checks = &status.snapshot.checks;
        let Some(name) = only else {
            return Answer::judged("readyz", question, checks);
        };
        if !checks.iter().any(|check| check.name.as_str() == name) {
            let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
            return Answer::not_found("no such check", &names);
        }
        // A check of yesterday is no better than none.
        let counts = |check: &&Check| check.name.as_str() == name || check.name == CheckName::Look;
        let checks: Vec<Check> = checks.iter().filter(counts).cloned().collect();
        Answer::judged("readyz", question, &checks)
    }
}

impl Answer {
    const fn new(kind: &'static str, body: String) -> Self {
        Self {
            status: StatusCode::OK,
            kind,
            body,
            extra: None,
        }
    }

    fn failed(status: StatusCode, line: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            ..Self::new(TEXT, line.into().into_owned() + "\n")
        }
    }

    fn refused(refusal: Refusal) -> Self {
        let allow = HeaderValue::from_static("GET, HEAD");
        Self {
            extra: (refusal == Refusal::Method).then_some((header::ALLOW, allow)),
            ..Self::failed(refusal.status(), refusal.line())
        }
    }

    fn not_found(what: &str, instead: &[&str]) -> Self {
        let line = format!("{what}; there are: {}", instead.join(" "));
        Self::failed(StatusCode::NOT_FOUND, line)
    }

    fn json(document: serde_json::Result<String>) -> Self {
        match document {
            Ok(document) => Self::new(JSON, document),
            Err(error) => Self::failed(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn judged(of: &str, question: &Question<'_>, checks: &[Check]) -> Self {
        let verdict = question.verdict(of, checks);
        let status = if verdict.passed {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        Self {
            status,
            ..Self::new(TEXT, verdict.text)
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        headers.extend(self.extra.map(|(name, value)| (Some(name), value)));
        response
    }
}
