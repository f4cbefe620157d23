//! The form of an answer: status, type, headers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::guard::RequestRejection;
use super::readyz::HealthVerdict;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// The page loads nothing from elsewhere, and must not be shown in a frame.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// An answer before it has its headers.
#[derive(Debug)]
pub(super) struct EndpointResponse {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    extra_header: Option<(HeaderName, HeaderValue)>,
}

impl EndpointResponse {
    pub(super) const fn of_type(content_type: &'static str, body: String) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body,
            extra_header: None,
        }
    }

    pub(super) const fn text(body: String) -> Self {
        Self::of_type(TEXT, body)
    }

    pub(super) fn page(html: String) -> Self {
        Self {
            extra_header: Some((header::CONTENT_SECURITY_POLICY, PAGE_POLICY)),
            ..Self::of_type(HTML, html)
        }
    }

    pub(super) fn json(document: serde_json::Result<String>) -> Self {
        match document {
            Ok(document) => Self::of_type(JSON, document),
            Err(error) => Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub(super) fn health(verdict: &HealthVerdict) -> Self {
        let status = match verdict.passed {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            status,
            ..Self::text(verdict.text.clone())
        }
    }

    pub(super) fn rejected(rejection: RequestRejection) -> Self {
        let allow = HeaderValue::from_static("GET, HEAD");
        let is_method = rejection == RequestRejection::Method;
        Self {
            extra_header: is_method.then_some((header::ALLOW, allow)),
            ..Self::error(rejection.status(), rejection.message())
        }
    }

    pub(super) fn not_found(problem: &str, known: &[&str]) -> Self {
        let line = format!("{problem}; there are: {}", known.join(" "));
        Self::error(StatusCode::NOT_FOUND, &line)
    }

    fn error(status: StatusCode, line: &str) -> Self {
        Self {
            status,
            ..Self::text(format!("{line}\n"))
        }
    }

    /// The whole response. With `closes`, the connection ends after it.
    pub(super) fn into_http(self, closes: bool) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
        insert(header::CONTENT_TYPE, self.content_type);
        insert(header::CACHE_CONTROL, "no-store");
        insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        if closes {
            insert(header::CONNECTION, "close");
        }
        headers.extend(self.extra_header.map(|(name, value)| (Some(name), value)));
        response
    }
}
