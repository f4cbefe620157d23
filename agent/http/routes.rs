//! Which request gets which answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{Request, Response};

use super::endpoint::Endpoint;
use super::guard;
use super::readyz::HealthQuery;
use super::response::EndpointResponse;
use super::{Surface, json_documents, metrics, zpages};
use crate::daemon::Handle;
use crate::model::{Check, CheckName, Status};
use crate::page;

/// How long a client waits until the disk has been observed. By default a kubelet gives a probe one second, and an
/// answer after that is of no use.
const OBSERVE_TIMEOUT: Duration = Duration::from_millis(800);

/// The endpoints of one listener, and where their answers come from.
#[derive(Debug)]
pub(super) struct Routes {
    handle: Handle,
    surface: Surface,
    local: SocketAddr,
    /// When the listener started. The agent started at the same time.
    since: Instant,
}

impl Routes {
    /// For the listener at the address `local`.
    pub(super) fn new(handle: Handle, surface: Surface, local: SocketAddr) -> Self {
        Self {
            handle,
            surface,
            local,
            since: Instant::now(),
        }
    }

    /// Answers a request. Its body is never read.
    pub(super) async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (request, _) = request.into_parts();
        let response = match guard::check_request(&request, self.local) {
            Err(rejection) => EndpointResponse::rejected(rejection),
            Ok(()) => self.route_request(&request).await,
        };
        // The body of the request is not read. It must not be parsed as the next request.
        let closes = guard::has_body(&request.headers);
        response.into_http(closes)
    }

    async fn route_request(&self, request: &Parts) -> EndpointResponse {
        let path = request.uri.path();
        let query = HealthQuery::parse(request.uri.query());
        let (path, check) = match path.strip_prefix("/readyz/") {
            Some(check) => ("/readyz", Some(check)),
            None => (path, None),
        };
        let Some(endpoint) = self.surface.endpoint_at(path) else {
            return EndpointResponse::not_found("no such page", &self.surface.paths());
        };
        match endpoint {
            Endpoint::Page => self.page().await,
            Endpoint::Livez => self.liveness("livez", &query),
            Endpoint::Healthz => self.liveness("healthz", &query),
            Endpoint::Readyz => self.readiness(check, &query).await,
            Endpoint::Metrics => self.metrics().await,
            Endpoint::Status => {
                EndpointResponse::json(json_documents::status_document(self.observe_now().await))
            }
            Endpoint::Drift => {
                EndpointResponse::json(json_documents::drift_document(&self.handle.latest_status()))
            }
            Endpoint::Conflist => EndpointResponse::json(json_documents::conflist_document(
                &self.handle.latest_status(),
            )),
            Endpoint::Statusz => {
                let agent = &self.handle.latest_status().agent;
                let paths = self.surface.paths();
                let up = self.since.elapsed();
                EndpointResponse::text(zpages::render_statusz(agent, up, &paths))
            }
            Endpoint::Flagz => {
                EndpointResponse::text(zpages::render_flagz(&self.handle.latest_status().agent))
            }
        }
    }

    /// A status that is no older than the request. If the disk could not be observed in time, it is the last status
    /// with the failing check `look`, because a file that was right then may be wrong now.
    async fn observe_now(&self) -> Arc<Status> {
        let stale = match self.handle.fresh_status(OBSERVE_TIMEOUT).await {
            Ok(status) => return status,
            Err(stale) => stale,
        };
        let mut look = Check::new(CheckName::Look);
        look.failures.push(match self.handle.check_liveness() {
            Ok(()) => stale.to_string(),
            Err(stuck) => stuck.to_string(),
        });
        let mut status = Status::clone(&self.handle.latest_status());
        status.snapshot.checks.push(look);
        Arc::new(status)
    }

    async fn page(&self) -> EndpointResponse {
        let status = self.observe_now().await;
        EndpointResponse::page(page::render_page(&status, SystemTime::now()))
    }

    async fn metrics(&self) -> EndpointResponse {
        let text = metrics::render_metrics(&*self.observe_now().await);
        EndpointResponse::of_type(metrics::CONTENT_TYPE, text)
    }

    fn liveness(&self, endpoint: &str, query: &HealthQuery<'_>) -> EndpointResponse {
        let mut check = Check::new(CheckName::Loop);
        if let Err(stuck) = self.handle.check_liveness() {
            check.failures.push(stuck.to_string());
        }
        EndpointResponse::health(&query.evaluate(endpoint, &[check]))
    }

    async fn readiness(&self, only: Option<&str>, query: &HealthQuery<'_>) -> EndpointResponse {
        let status = self.observe_now().await;
        let checks = &status.snapshot.checks;
        let Some(name) = only else {
            return EndpointResponse::health(&query.evaluate("readyz", checks));
        };
        if !checks.iter().any(|check| check.name.as_str() == name) {
            let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
            return EndpointResponse::not_found("no such check", &names);
        }
        // A check that held when the disk was last observed proves nothing now, so a failing `look` always counts.
        let counts = |check: &&Check| check.name.as_str() == name || check.name == CheckName::Look;
        let checks: Vec<Check> = checks.iter().filter(counts).cloned().collect();
        EndpointResponse::health(&query.evaluate("readyz", &checks))
    }
}
