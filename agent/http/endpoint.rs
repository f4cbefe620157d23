//! The paths that are served, and which listener serves which.

use crate::model::label_enum;

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All endpoints: `http.listen`.
    Everything,
    /// `/metrics`, and `/livez` to see that the listener works: `http.metricsListen`.
    MetricsOnly,
}

label_enum! {
    /// One path with its own answer.
    pub(super) enum Endpoint {
        Page = "/",
        Livez = "/livez",
        Readyz = "/readyz",
        Healthz = "/healthz",
        Metrics = "/metrics",
        Status = "/status",
        Drift = "/drift",
        Conflist = "/conflist",
        Statusz = "/statusz",
        Flagz = "/flagz",
    }
}

impl Surface {
    /// The setting that says where it listens.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Everything => "http.listen",
            Self::MetricsOnly => "http.metricsListen",
        }
    }

    pub(super) const fn endpoints(self) -> &'static [Endpoint] {
        match self {
            Self::Everything => &Endpoint::ALL,
            Self::MetricsOnly => &[Endpoint::Livez, Endpoint::Metrics],
        }
    }

    /// The endpoint at exactly this path, if this listener serves it.
    pub(super) fn endpoint_at(self, path: &str) -> Option<Endpoint> {
        let mut endpoints = self.endpoints().iter().copied();
        endpoints.find(|endpoint| endpoint.as_str() == path)
    }

    pub(super) fn paths(self) -> Vec<&'static str> {
        self.endpoints().iter().map(|it| it.as_str()).collect()
    }
}
