//! What goes wrong between us and a proxy, and at the proxy.

use std::error::Error;
use std::time::Duration;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::proxy::shown;
use crate::fetch::sources::error::{Failure, TimeLimit, broken, causes, deepest};

/// The longest status line that is read, in bytes.
const LONGEST_LINE: u64 = 1 << 10;

/// Why there is no tunnel through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::fetch) enum NoTunnel {
    /// The proxy wants to know who asks.
    Credentials,
    /// It answers something else than a tunnel: this status, where that could be learned.
    Refused(Option<u16>),
    /// It cannot be reached, or leaves while it is asked.
    Unreachable,
}

impl NoTunnel {
    /// Whether an error is one on the way to a tunnel. The client exports no type for it, so its words decide.
    pub(in crate::fetch) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|cause| {
            let text = cause.to_string();
            Some(match text.strip_prefix("tunnel error: ")? {
                "proxy authorization required" => Self::Credentials,
                "unsuccessful" => Self::Refused(None),
                _ => Self::Unreachable,
            })
        })
    }
}

impl Failure {
    /// Sorts an error from before the answer's body of a request for `url` that went through `proxy`.
    pub(in crate::fetch) fn through_proxy(
        error: reqwest::Error,
        url: &Url,
        proxy: &Url,
        no_tunnel: Option<NoTunnel>,
        connect_timeout: Duration,
    ) -> Self {
        let error = error.without_url();
        let is_dns = error.is_dns();
        if error.is_timeout() {
            return Self::ProxyTimeout {
                limit: TimeLimit::Connect,
                after: connect_timeout,
                proxy: shown(proxy),
            };
        }
        // Behind the tunnel TLS is spoken with the server; an http:// URL is asked of the proxy itself.
        let with_server = no_tunnel.is_none() && url.scheme() == "https";
        let is_tls = causes(&error).any(<dyn Error + 'static>::is::<rustls::Error>);
        let is_later = !error.is_connect();
        if with_server && (is_tls || is_later) || is_later && broken(&error) {
            return Self::before_body(error, url, connect_timeout);
        }
        let proxy = shown(proxy);
        let why = match no_tunnel {
            // Tinyproxy answers 401 where the password is wrong.
            Some(NoTunnel::Credentials | NoTunnel::Refused(Some(401 | 407))) => {
                return Self::ProxyAuth { proxy };
            }
            Some(NoTunnel::Refused(Some(code))) => format!("it answers HTTP {code} to CONNECT"),
            Some(NoTunnel::Refused(None)) => "it does not answer CONNECT with HTTP 200".to_owned(),
            _ if is_dns => "its name does not resolve".to_owned(),
            _ => deepest(&error),
        };
        Self::Proxy {
            host: url.host_str().unwrap_or_default().to_owned(),
            proxy,
            why,
        }
    }

    /// The same failure where a proxy is between, which may be the one to blame.
    pub(in crate::fetch) fn via(self, proxy: Option<&Url>) -> Self {
        match (self, proxy.map(shown)) {
            (Self::Timeout { limit, after }, Some(proxy)) => Self::ProxyTimeout {
                limit,
                after,
                proxy,
            },
            (Self::Status { code: 407, .. }, Some(proxy)) => Self::ProxyAuth { proxy },
            (other, _) => other,
        }
    }
}

/// Asks a proxy once more for the tunnel to `url` that it has just refused, to learn its status: the HTTP client tells
/// only that it refused. `None` where the proxy is asked by TLS, or does not answer in HTTP.
pub(in crate::fetch) async fn refusal(proxy: &Url, url: &Url) -> Option<u16> {
    if proxy.scheme() != "http" {
        return None;
    }
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let uri: Uri = url.as_str().parse().ok()?;
    let matcher = Matcher::builder().all(proxy.as_str()).build();
    let intercept = matcher.intercept(&uri)?;
    let mut request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    if let Some(credentials) = intercept.basic_auth() {
        request.extend(b"Proxy-Authorization: ");
        request.extend(credentials.as_bytes());
        request.extend(b"\r\n");
    }
    request.extend(b"\r\n");
    let own = proxy.host_str()?.trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((own, proxy.port_or_known_default()?))
        .await
        .ok()?;
    stream.write_all(&request).await.ok()?;
    let mut line = Vec::new();
    let mut answer = BufReader::new(stream).take(LONGEST_LINE);
    answer.read_until(b'\n', &mut line).await.ok()?;
    status(&line)
}

fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let code = rest.split_whitespace().next()?;
    let is_http = version.starts_with("HTTP/1.");
    (is_http && code.len() == 3).then(|| code.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_told_from_anything_else() {
        assert_eq!(status(b"HTTP/1.1 403 Forbidden\r\n"), Some(403));
        assert_eq!(status(b"HTTP/1.0 503\r\n"), Some(503));
        for other in [
            "",
            "\0\n",
            "403\n",
            "SSH-2.0-x 403\n",
            "HTTP/1.1 4030 x\n",
            "HTTP/1.1\n",
        ] {
            assert_eq!(status(other.as_bytes()), None, "{other:?}");
        }
    }
}
