//! The paths that are served, and which listener serves which.

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// All endpoints: `http.listen`.
    Everything,
    /// `/metrics`, and `/livez` to see that the listener works: `http.metricsListen`.
    MetricsOnly,
}

/// One path with its own answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Page,
    Livez,
    Readyz,
    Healthz,
    Metrics,
    Status,
    Drift,
    Conflist,
    Statusz,
    Flagz,
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
        endpoints.find(|endpoint| endpoint.path() == path)
    }

    pub(super) fn paths(self) -> Vec<&'static str> {
        self.endpoints().iter().map(|it| it.path()).collect()
    }
}

impl Endpoint {
    const ALL: [Self; 10] = [
        Self::Page,
        Self::Livez,
        Self::Readyz,
        Self::Healthz,
        Self::Metrics,
        Self::Status,
        Self::Drift,
        Self::Conflist,
        Self::Statusz,
        Self::Flagz,
    ];

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Page => "/",
            Self::Livez => "/livez",
            Self::Readyz => "/readyz",
            Self::Healthz => "/healthz",
            Self::Metrics => "/metrics",
            Self::Status => "/status",
            Self::Drift => "/drift",
            Self::Conflist => "/conflist",
            Self::Statusz => "/statusz",
            Self::Flagz => "/flagz",
        }
    }
}
