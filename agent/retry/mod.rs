//! Which failures are worth another try, and when.
//!
//! Pure: randomness and the present moment are handed in, so that every case can be stated exactly in a test.

mod backoff;
mod health;
mod refetch;
mod rounds;
mod spread;

use std::time::{Duration, SystemTime};

pub use backoff::{Backoff, Jitter};
pub use health::Health;
pub use refetch::Refetch;
pub use rounds::{Next, Rounds, RoundsPolicy};
pub use spread::{Spread, share};

/// The ways in which a download from one source can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// The host name does not resolve; at boot that is often a matter of seconds.
    Dns,
    /// No TCP connection: refused, unreachable, the proxy said no.
    Connect,
    /// A time limit passed: connecting, silence within the answer, or the attempt as a whole.
    Timeout,
    /// The connection broke.
    Reset,
    /// What answered does not speak HTTP properly.
    Protocol,
    /// The body ended before its announced end.
    Truncated,
    /// Less than the least throughput over a whole window.
    TooSlow,
    /// An answer with this status, which is not the one asked for.
    Status(u16),
    /// The server's certificate leads to no authority that is trusted here.
    TlsUnknownCa,
    /// The server's certificate is not valid at this time.
    TlsExpired,
    /// The server's certificate is for another name.
    TlsName,
    /// TLS failed in another way.
    Tls,
    /// A redirect that is not followed.
    Redirect,
    /// More bytes than the limit allows.
    TooLarge,
    /// All bytes came and they are not the pinned ones.
    Digest,
    /// The source is not a URL that can be fetched.
    Url,
    /// A `file://` source cannot be read.
    Io,
    /// A seed does not hold it.
    NotInSeed,
    /// The extra certificate authorities of the configuration cannot be used.
    CaFile,
    /// The server asks for credentials that it was not given, or refuses those that it was given.
    Auth,
    /// No connection to the proxy, or none through it.
    Proxy,
    /// The proxy asks for credentials that it was not given, or refuses those that it was given.
    ProxyAuth,
    /// The environment names a proxy that cannot be used.
    ProxySetting,
    /// What a registry gave under the pinned digest is no image that can be used here.
    Image,
}

/// What to do with a source after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try it again in a later round, and not before `after` where the server asked for that.
    Retry {
        /// What the server asked for, not yet capped.
        after: Option<Duration>,
    },
    /// Trying again would give the same answer: leave it to the next source.
    NextSource,
}

impl FailureClass {
    /// A stable label for metrics and machine-readable output.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Truncated => "truncated",
            Self::TooSlow => "too-slow",
            Self::Status(_) => "http-status",
            Self::TlsUnknownCa => "tls-unknown-ca",
            Self::TlsExpired => "tls-expired",
            Self::TlsName => "tls-name",
            Self::Tls => "tls",
            Self::Redirect => "redirect",
            Self::TooLarge => "too-large",
            Self::Digest => "digest",
            Self::Url => "url",
            Self::Io => "io",
            Self::NotInSeed => "not-in-seed",
            Self::CaFile => "ca-file",
            Self::Auth => "auth",
            Self::Proxy => "proxy",
            Self::ProxyAuth => "proxy-auth",
            Self::ProxySetting => "proxy-setting",
            Self::Image => "image",
        }
    }

    /// Whether it says that nobody there answers as should be, rather than something of the file asked for.
    pub(super) const fn is_the_servers(self) -> bool {
        matches!(
            self,
            Self::Dns
                | Self::Connect
                | Self::Timeout
                | Self::TooSlow
                | Self::TlsUnknownCa
                | Self::TlsExpired
                | Self::TlsName
                | Self::Tls
                | Self::Proxy
                | Self::ProxyAuth
        )
    }

    /// Whether the same source is worth another try; `retry_after` is what its answer asked for.
    ///
    /// Retried is what passes by itself. A wrong digest, a refused certificate or a 404 is an answer, and asking
    /// again only loads the server: fault 46, a captive portal's HTML with status 200, must not become a storm.
    #[must_use]
    pub const fn verdict(self, retry_after: Option<Duration>) -> Verdict {
        match self {
            Self::Dns
            | Self::Connect
            | Self::Timeout
            | Self::Reset
            | Self::Protocol
            | Self::Truncated
            | Self::TooSlow
            | Self::Proxy => Verdict::Retry { after: None },
            // RFC 9110 and 6585: Request Timeout, Too Early and Too Many Requests pass, as do server errors,
            // except for Not Implemented and HTTP Version Not Supported, which are about what the server is.
            Self::Status(501 | 505) => Verdict::NextSource,
            Self::Status(408 | 425 | 429 | 500..=599) => Verdict::Retry { after: retry_after },
            Self::Status(_)
            | Self::TlsUnknownCa
            | Self::TlsExpired
            | Self::TlsName
            | Self::Tls
            | Self::Redirect
            | Self::TooLarge
            | Self::Digest
            | Self::Url
            | Self::Io
            | Self::NotInSeed
            | Self::CaFile
            | Self::Auth
            | Self::ProxyAuth
            | Self::ProxySetting
            | Self::Image => Verdict::NextSource,
        }
    }
}

/// Reads a `Retry-After` header: seconds, or an HTTP date, which counts from `now` (RFC 9110, 10.2.3).
///
/// Give the answer's own `Date` as `now` where it has one: the clock of a node that just booted may be years off.
/// `None` for a text that is neither.
#[must_use]
pub fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    Some(then.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Option<Duration> = Some(Duration::from_secs(7));
    const PASSING: [FailureClass; 8] = [
        FailureClass::Dns,
        FailureClass::Connect,
        FailureClass::Timeout,
        FailureClass::Reset,
        FailureClass::Protocol,
        FailureClass::Truncated,
        FailureClass::TooSlow,
        FailureClass::Proxy,
    ];
    const LASTING: [FailureClass; 15] = [
        FailureClass::TlsUnknownCa,
        FailureClass::TlsExpired,
        FailureClass::TlsName,
        FailureClass::Tls,
        FailureClass::Redirect,
        FailureClass::TooLarge,
        FailureClass::Digest,
        FailureClass::Url,
        FailureClass::Io,
        FailureClass::NotInSeed,
        FailureClass::CaFile,
        FailureClass::Auth,
        FailureClass::ProxyAuth,
        FailureClass::ProxySetting,
        FailureClass::Image,
    ];

    #[test]
    fn what_passes_by_itself_is_retried_and_what_lasts_is_not() {
        for class in PASSING {
            // Only an HTTP answer can carry a wish; a stray one from elsewhere is not honoured.
            assert_eq!(
                class.verdict(ASKED),
                Verdict::Retry { after: None },
                "{class:?}"
            );
        }
        for class in LASTING {
            assert_eq!(class.verdict(ASKED), Verdict::NextSource, "{class:?}");
        }
    }

    #[test]
    fn every_status_has_its_verdict() {
        let retried: Vec<u16> = (100..=599)
            .filter(|code| {
                FailureClass::Status(*code).verdict(ASKED) == Verdict::Retry { after: ASKED }
            })
            .collect();
        let expected: Vec<u16> = [408, 425, 429]
            .into_iter()
            .chain((500..=599).filter(|code| !matches!(code, 501 | 505)))
            .collect();
        assert_eq!(retried, expected);
        for code in [200, 206, 304, 400, 401, 403, 404, 410, 416, 501, 505] {
            let verdict = FailureClass::Status(code).verdict(ASKED);
            assert_eq!(verdict, Verdict::NextSource, "{code}");
        }
    }

    #[test]
    fn kinds_are_distinct() {
        let mut kinds: Vec<&str> = PASSING
            .into_iter()
            .chain(LASTING)
            .chain([FailureClass::Status(500)])
            .map(FailureClass::kind)
            .collect();
        let all = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), all);
    }

    /// Fault 45: `Retry-After` in both of its forms, capped.
    #[test]
    fn fault_45_retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let parsed = |text: &str| parse_retry_after(text, now);
        assert_eq!(parsed("120"), Some(Duration::from_secs(120)));
        assert_eq!(parsed(" 0 "), Some(Duration::ZERO));
        assert_eq!(
            parsed("Sun, 06 Nov 1994 08:50:07 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            parsed("Sun, 06 Nov 1994 08:00:00 GMT"),
            Some(Duration::ZERO),
            "a date that has passed means now"
        );
        assert_eq!(
            parsed(&"9".repeat(40)),
            Some(Duration::from_secs(u64::MAX)),
            "beyond counting, so the cap decides"
        );
        for nonsense in ["", "-1", "1.5", "soon", "1e3", "+5"] {
            assert_eq!(parsed(nonsense), None, "{nonsense:?}");
        }
        let policy = RoundsPolicy::default();
        assert_eq!(
            policy.honoured_wait(Duration::from_secs(u64::MAX)),
            policy.retry_after_max
        );
        assert_eq!(
            policy.honoured_wait(Duration::from_secs(3)),
            Duration::from_secs(3)
        );
    }
}
