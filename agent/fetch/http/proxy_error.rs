//! Why a request that goes through a proxy failed.

use std::error::Error;
use std::time::Duration;

use reqwest::Url;

use super::error::{HttpError, TimeLimit};
use super::error_chain::{error_chain, innermost_message, is_broken_connection};
use super::proxy::display_proxy;

/// Why there is no tunnel through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TunnelError {
    /// The proxy asks for credentials.
    Credentials,
    /// It does not answer CONNECT with HTTP 200. The client does not tell the status.
    Refused,
    /// It cannot be reached, or closes the connection.
    Unreachable,
}

impl TunnelError {
    /// Whether an error is one on the way to a tunnel. The client exports no type for it, so its words decide.
    fn from_error(error: &(dyn Error + 'static)) -> Option<Self> {
        error_chain(error).find_map(|cause| {
            let text = cause.to_string();
            Some(match text.strip_prefix("tunnel error: ")? {
                "proxy authorization required" => Self::Credentials,
                "unsuccessful" => Self::Refused,
                _ => Self::Unreachable,
            })
        })
    }
}

impl HttpError {
    /// Sorts an error from before the answer's body of a request for `url` that went through `proxy`.
    pub(in crate::fetch) fn before_proxied_answer(
        error: reqwest::Error,
        url: &Url,
        proxy: &Url,
        connect_timeout: Duration,
    ) -> Self {
        let no_tunnel = TunnelError::from_error(&error);
        let error = error.without_url();
        let is_dns = error.is_dns();
        if error.is_timeout() {
            return Self::ProxyTimeout {
                limit: TimeLimit::Connect,
                after: connect_timeout,
                proxy: display_proxy(proxy),
            };
        }
        // Behind a tunnel, TLS is with the server. A request for an http:// URL goes to the proxy itself.
        let with_server = no_tunnel.is_none() && url.scheme() == "https";
        let is_tls = error_chain(&error).any(<dyn Error + 'static>::is::<rustls::Error>);
        let is_later = !error.is_connect();
        if with_server && (is_tls || is_later) || is_later && is_broken_connection(&error) {
            return Self::before_answer(error, url, connect_timeout);
        }
        let proxy = display_proxy(proxy);
        let why = match no_tunnel {
            Some(TunnelError::Credentials) => return Self::ProxyAuth { proxy },
            Some(TunnelError::Refused) => {
                "it does not answer CONNECT with HTTP 200: it does not allow or reach the host, \
                 or refuses the user and password"
                    .to_owned()
            }
            _ if is_dns => "its name does not resolve".to_owned(),
            _ => innermost_message(&error),
        };
        Self::Proxy {
            host: url.host_str().unwrap_or_default().to_owned(),
            proxy,
            why,
        }
    }

    /// The same error of a request that went through `proxy`, which may be the cause.
    pub(in crate::fetch) fn through_proxy(self, proxy: Option<&Url>) -> Self {
        match (self, proxy.map(display_proxy)) {
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
