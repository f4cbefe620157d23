//! Which failures are worth another try.

use std::time::Duration;

use super::retry_after::passes_by_itself;
use crate::model::FailureKind;

/// What to do with a source after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try it again in a later round, but not before `after` if the server asked for that.
    Retry {
        /// The wait that the server asked for, not yet limited.
        after: Option<Duration>,
    },
    /// Another try would give the same answer, so continue with the next source.
    NextSource,
}

/// Whether the failure says that the server does not answer as it should, rather than something about the file.
pub(super) const fn is_of_server(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::Dns
            | FailureKind::Connect
            | FailureKind::Timeout
            | FailureKind::TooSlow
            | FailureKind::TlsUnknownCa
            | FailureKind::TlsExpired
            | FailureKind::TlsName
            | FailureKind::Tls
            | FailureKind::Proxy
            | FailureKind::ProxyAuth
    )
}

/// Whether the same source is tried again. `retry_after` is the wait that its answer asked for.
///
/// Temporary failures are retried. A wrong digest, a refused certificate or a 404 is a final answer, and asking again
/// would only load the server: the HTML of a captive portal, with status 200, must not cause a storm of requests.
#[must_use]
pub const fn verdict_on(kind: FailureKind, retry_after: Option<Duration>) -> Verdict {
    match kind {
        FailureKind::Dns
        | FailureKind::Connect
        | FailureKind::Timeout
        | FailureKind::Reset
        | FailureKind::Protocol
        | FailureKind::Truncated
        | FailureKind::TooSlow
        | FailureKind::Proxy => Verdict::Retry { after: None },
        FailureKind::Status(status) if passes_by_itself(status) => {
            Verdict::Retry { after: retry_after }
        }
        _ => Verdict::NextSource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Option<Duration> = Some(Duration::from_secs(7));
    const PASSING: [FailureKind; 8] = [
        FailureKind::Dns,
        FailureKind::Connect,
        FailureKind::Timeout,
        FailureKind::Reset,
        FailureKind::Protocol,
        FailureKind::Truncated,
        FailureKind::TooSlow,
        FailureKind::Proxy,
    ];
    const LASTING: [FailureKind; 15] = [
        FailureKind::TlsUnknownCa,
        FailureKind::TlsExpired,
        FailureKind::TlsName,
        FailureKind::Tls,
        FailureKind::Redirect,
        FailureKind::TooLarge,
        FailureKind::Digest,
        FailureKind::Url,
        FailureKind::Io,
        FailureKind::NotInSeed,
        FailureKind::CaFile,
        FailureKind::Auth,
        FailureKind::ProxyAuth,
        FailureKind::ProxySetting,
        FailureKind::Image,
    ];

    #[test]
    fn what_passes_by_itself_is_retried_and_what_lasts_is_not() {
        for kind in PASSING {
            // Only an HTTP answer can ask for a delay (Retry-After); a delay from anything else is ignored.
            assert_eq!(
                verdict_on(kind, ASKED),
                Verdict::Retry { after: None },
                "{kind:?}"
            );
        }
        for kind in LASTING {
            assert_eq!(verdict_on(kind, ASKED), Verdict::NextSource, "{kind:?}");
        }
    }

    #[test]
    fn every_status_has_its_verdict() {
        let retried: Vec<u16> = (100..=599)
            .filter(|code| {
                verdict_on(FailureKind::Status(*code), ASKED) == Verdict::Retry { after: ASKED }
            })
            .collect();
        let expected: Vec<u16> = [408, 425, 429]
            .into_iter()
            .chain((500..=599).filter(|code| !matches!(code, 501 | 505)))
            .collect();
        assert_eq!(retried, expected);
        for code in [200, 206, 304, 400, 401, 403, 404, 410, 416, 501, 505] {
            let verdict = verdict_on(FailureKind::Status(code), ASKED);
            assert_eq!(verdict, Verdict::NextSource, "{code}");
        }
    }

    #[test]
    fn kinds_are_distinct() {
        let mut kinds: Vec<&str> = PASSING
            .into_iter()
            .chain(LASTING)
            .chain([FailureKind::Status(500)])
            .map(FailureKind::as_str)
            .collect();
        let all = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), all);
    }
}
