//! Where the API server is, and whether a proxy may stand between.

use std::net::Ipv6Addr;

use reqwest::Url;

use super::KubeError;
use crate::config;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The server, without a path.
    pub(super) url: Url,
    /// Whether the proxy of the environment is asked to reach it, as far as `NO_PROXY` does not except it. None can
    /// reach the address that pods are told of: it exists within the cluster only.
    pub(super) proxied: bool,
}

impl Endpoint {
    /// The declared server, or the one that the environment tells every pod of.
    pub(super) fn of(settings: &config::Kubernetes) -> Result<Self, KubeError> {
        if let Some(server) = &settings.server {
            return Self::at(server, true);
        }
        let of = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = of("KUBERNETES_SERVICE_HOST").ok_or(KubeError::NoServer)?;
        let port = of("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        Self::at(&in_cluster(&host, &port), false)
    }

    fn at(server: &str, proxied: bool) -> Result<Self, KubeError> {
        match Url::parse(server) {
            Ok(url) => Ok(Self { url, proxied }),
            Err(_) => Err(KubeError::BadServer(server.to_owned())),
        }
    }
}

/// The URL of a host, which may be an IPv6 address without brackets.
fn in_cluster(host: &str, port: &str) -> String {
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
            assert_eq!(in_cluster(host, "443"), url);
            assert!(Endpoint::at(url, false).is_ok());
        }
        assert!(Endpoint::at(&in_cluster("a", "x"), false).is_err());
    }
}
