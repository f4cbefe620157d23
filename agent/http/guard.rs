//! Rejects requests that must not be answered.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use crate::model::is_loopback;

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRejection {
    /// It is for a host name that is not this listener's.
    Host,
    /// It is HTTP/1.1 and has no Host header, or more than one.
    NoHost,
    /// Its method would change something.
    Method,
    /// It has a body.
    Body,
}

impl RequestRejection {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::NoHost => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// The message that the client gets.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Host => {
                "this listener answers requests for localhost and its own address only; use http://127.0.0.1"
            }
            Self::NoHost => "the request needs exactly one Host header",
            Self::Method => "this endpoint only reads; use GET or HEAD",
            Self::Body => "this endpoint takes no request body",
        }
    }
}

/// Checks a request to a listener at the address `local`.
///
/// # Errors
/// When the request must not be answered.
pub(super) fn check_request(request: &Parts, local: SocketAddr) -> Result<(), RequestRejection> {
    match requested_host(request)? {
        Some(host) if is_loopback(local.ip()) && !is_own_host(local.ip(), host) => {
            return Err(RequestRejection::Host);
        }
        // HTTP/1.0 has no Host header, and no browser uses it.
        None if request.version > Version::HTTP_10 => return Err(RequestRejection::NoHost),
        _ => {}
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        return Err(RequestRejection::Method);
    }
    match has_body(&request.headers) {
        true => Err(RequestRejection::Body),
        false => Ok(()),
    }
}

/// Whether a request announces a body, even an empty chunked one.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The host that a request is for, without its port. If the target names a host, that one counts and not the header
/// (RFC 9112, 3.2.2).
fn requested_host(request: &Parts) -> Result<Option<&str>, RequestRejection> {
    let mut named = request.headers.get_all(header::HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(RequestRejection::NoHost);
    }
    let header = header.map(|host| host.to_str().map_err(|_| RequestRejection::NoHost));
    match (request.uri.host(), header.transpose()?) {
        (Some(host), _) => Ok(Some(host)),
        (None, header) => Ok(header.map(strip_port)),
    }
}

fn strip_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a loopback listener answers requests for a host: its own address, another loopback address, or `localhost`.
/// A hostile web page in a browser on this machine can use a host name that resolves to 127.0.0.1 (DNS rebinding), but
/// none of these. The port does not matter, because it may have been forwarded.
fn is_own_host(local: IpAddr, host: &str) -> bool {
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

    fn check(local: &str, build: &[(&str, &str)]) -> Result<(), RequestRejection> {
        let mut request = Request::builder().uri("/readyz");
        for (name, value) in build {
            request = match *name {
                ":method" => request.method(*value),
                ":uri" => request.uri(*value),
                name => request.header(name, *value),
            };
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check_request(&parts, local.parse().unwrap())
    }

    /// Fault 58: a host name that resolves to this address by chance is rejected.
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
            assert_eq!(check(LOOPBACK, &[("host", host)]), Ok(()), "{host}");
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
            let checked = check(LOOPBACK, &[("host", host)]);
            assert_eq!(checked, Err(RequestRejection::Host), "{host}");
        }
    }

    #[test]
    fn a_host_in_the_target_goes_before_the_header() {
        let evil = [(":uri", "http://evil.example/"), ("host", "localhost")];
        assert_eq!(check(LOOPBACK, &evil), Err(RequestRejection::Host));
        let good = [(":uri", "http://localhost:1/"), ("host", "evil.example")];
        assert_eq!(check(LOOPBACK, &good), Ok(()));
    }

    #[test]
    fn one_host_is_needed_and_any_will_do_where_others_ask() {
        assert_eq!(check(LOOPBACK, &[]), Err(RequestRejection::NoHost));
        let two = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(LOOPBACK, &two), Err(RequestRejection::NoHost));
        assert_eq!(check("0.0.0.0:9742", &[("host", "node-1")]), Ok(()));
        assert_eq!(check("10.0.0.1:9742", &[("host", "node-1:9742")]), Ok(()));
    }

    #[test]
    fn only_reading_without_a_body_is_allowed() {
        let host = ("host", "localhost");
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let checked = check(LOOPBACK, &[host, (":method", method)]);
            assert_eq!(checked, Err(RequestRejection::Method), "{method}");
        }
        assert_eq!(check(LOOPBACK, &[host, (":method", "HEAD")]), Ok(()));
        assert_eq!(check(LOOPBACK, &[host, ("content-length", "0")]), Ok(()));
        for body in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            assert_eq!(check(LOOPBACK, &[host, body]), Err(RequestRejection::Body));
        }
    }
}
