//! Where the API server is, and whether to reach it through a proxy.

use std::net::Ipv6Addr;

use reqwest::Url;

use super::error::KubeError;
use crate::config;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiEndpoint {
    /// The server, without a path.
    pub(super) url: Url,
    /// Whether the proxy of the environment is used, unless `NO_PROXY` excludes the server. No proxy can reach the
    /// address in `KUBERNETES_SERVICE_HOST`: it exists within the cluster only.
    pub(super) proxied: bool,
}

impl ApiEndpoint {
    /// The declared server, or the one that every pod finds in its environment.
    pub(super) fn from_settings(settings: &config::KubernetesSettings) -> Result<Self, KubeError> {
        if let Some(server) = &settings.server {
            return Self::from_url(server, true);
        }
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or(KubeError::NoServer)?;
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        Self::from_url(&in_cluster_url(&host, &port), false)
    }

    fn from_url(server: &str, proxied: bool) -> Result<Self, KubeError> {
        match Url::parse(server) {
            Ok(url) => Ok(Self { url, proxied }),
            Err(_) => Err(KubeError::BadServer(server.to_owned())),
        }
    }
}

/// The URL of a host, which may be an IPv6 address without brackets.
fn in_cluster_url(host: &str, port: &str) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("https://[{address}]:{port}"),
        Err(_) => format!("https://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_gets_its_brackets() {
        for (host, url) in [
            ("10.96.0.1", "https://10.96.0.1:443"),
            ("fd00:10:96::1", "https://[fd00:10:96::1]:443"),
            ("[fd00::1]", "https://[fd00::1]:443"),
            (
                "kubernetes.default.svc",
                "https://kubernetes.default.svc:443",
            ),
        ] {
            assert_eq!(in_cluster_url(host, "443"), url);
            assert!(ApiEndpoint::from_url(url, false).is_ok());
        }
        assert!(ApiEndpoint::from_url(&in_cluster_url("a", "x"), false).is_err());
    }
}
