//! The `Retry-After` header, by which a server asks for a later try: its two forms, the statuses for which it counts,
//! and the limit. `fetch/http/error.rs` reads it from an answer, and
//! `fetch/sources/rounds.rs` waits.

use std::time::{Duration, SystemTime};

/// Reads a `Retry-After` header: seconds, or an HTTP date, which counts from `now` (RFC 9110, 10.2.3).
///
/// Pass the answer's own `Date` as `now` if it has one, because the clock of a node that has just booted may be wrong
/// by years. Returns `None` for a text in another form.
#[must_use]
pub fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    Some(then.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The longest `Retry-After` that is waited for. A server that asks for more is asked again after this time.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Whether an answer with this status is worth another try, after its `Retry-After`.
///
/// RFC 9110 and 6585: Request Timeout, Too Early, Too Many Requests and server errors are temporary. Not Implemented
/// and HTTP Version Not Supported are not: they describe the server itself.
pub(super) const fn passes_by_itself(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599) && !matches!(status, 501 | 505)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 45: `Retry-After` in both of its forms.
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
    }
}
