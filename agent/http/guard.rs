//! What is refused before anything is looked up.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use crate::model::is_loopback;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is for another host than this listener speaks for.
    Host,
    /// It is HTTP/1.1 and names no host, or more than one.
    NoHost,
    /// It would change something.
    Method,
    /// It brings a body.
    Body,
}

impl Refusal {
    /// The status that says so.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The line that says so.
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Host => {
                "this listener answers to localhost and its own address only: ask for http://127.0.0.1"
            }
            Self::NoHost => "exactly one Host header is needed",
            Self::Method => "this endpoint only reads: use GET or HEAD",
            Self::Body => "this endpoint takes no request body",
        }
    }
}

/// Whether a request is refused, and why; `local` is the address that is listened on.
pub(super) fn refusal(request: &Parts, local: SocketAddr) -> Option<Refusal> {
    match host(request) {
        Ok(Some(host)) if is_loopback(local.ip()) && !speaks_for(local.ip(), host) => {
            return Some(Refusal::Host);
        }
        // HTTP/1.0 knows no Host, and no browser sends it.
        Ok(None) if request.version > Version::HTTP_10 => return Some(Refusal::NoHost),
        Err(refusal) => return Some(refusal),
        Ok(_) => {}
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return Some(Refusal::Method);
    }
    has_body(&request.headers).then_some(Refusal::Body)
}

/// Whether a request announces a body, be it an empty chunked one.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The host that a request is for, without its port. A host in the target goes before the header (RFC 9112, 3.2.2).
fn host(request: &Parts) -> Result<Option<&str>, Refusal> {
    let mut named = request.headers.get_all(header::HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(Refusal::NoHost);
    }
    let header = header.map(|host| host.to_str().map_err(|_| Refusal::NoHost));
    match (request.uri.host(), header.transpose()?) {
        (Some(host), _) => Ok(Some(host)),
        (None, header) => Ok(header.map(without_port)),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a loopback listener answers to a name. A page in a browser on this machine can be at home at any name that
/// somebody lets point to 127.0.0.1 (DNS rebinding), but at none of these. The port is not looked at: it may
/// have been forwarded.
fn speaks_for(local: IpAddr, host: &str) -> bool {
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match literal.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => address == local || is_loopback(address),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:9742";

    fn asked(local: &str, build: &[(&str, &str)]) -> Option<Refusal> {
        let mut request = Request::builder().uri("/readyz");
        for (name, value) in build {
            request = match *name {
                ":method" => request.method(*value),
                ":uri" => request.uri(*value),
                name => request.header(name, *value),
            };
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        refusal(&parts, local.parse().unwrap())
    }

    /// Fault 58: a name that only points here is not this listener's.
    #[test]
    fn fault_58_a_loopback_listener_answers_to_its_own_names_only() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9742",
            "127.0.0.1:18080",
            "127.0.0.2",
            "[::1]",
            "[::1]:9742",
            "localhost",
            "LocalHost:9742",
        ] {
            assert_eq!(asked(LOOPBACK, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9742",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[2001:db8::1]:9742",
            "localhost:9742:",
            "",
            ":9742",
        ] {
            let refused = asked(LOOPBACK, &[("host", host)]);
            assert_eq!(refused, Some(Refusal::Host), "{host}");
        }
    }

    #[test]
    fn a_host_in_the_target_goes_before_the_header() {
        let evil = [(":uri", "http://evil.example/"), ("host", "localhost")];
        assert_eq!(asked(LOOPBACK, &evil), Some(Refusal::Host));
        let good = [(":uri", "http://localhost:1/"), ("host", "evil.example")];
        assert_eq!(asked(LOOPBACK, &good), None);
    }

    #[test]
    fn one_host_is_needed_and_any_will_do_where_others_ask() {
        assert_eq!(asked(LOOPBACK, &[]), Some(Refusal::NoHost));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(asked(LOOPBACK, &two), Some(Refusal::NoHost));
        assert_eq!(asked("0.0.0.0:9742", &[("host", "node-1")]), None);
        assert_eq!(asked("10.0.0.1:9742", &[("host", "node-1:9742")]), None);
    }

    #[test]
    fn only_reading_without_a_body_is_allowed() {
        let host = ("host", "localhost");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let refused = asked(LOOPBACK, &[host, (":method", method)]);
            assert_eq!(refused, Some(Refusal::Method), "{method}");
        }
        assert_eq!(asked(LOOPBACK, &[host, (":method", "HEAD")]), None);
        assert_eq!(asked(LOOPBACK, &[host, ("content-length", "0")]), None);
        for body in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            assert_eq!(asked(LOOPBACK, &[host, body]), Some(Refusal::Body));
        }
    }
}
