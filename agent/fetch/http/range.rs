//! Resuming: when a later answer may be joined to bytes that are here already. Pure.

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED};

use super::headers::header_text;

/// What proves that the bytes on a server are still the ones that we hold a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::fetch) struct ResumeValidator {
    header: HeaderName,
    value: String,
}

impl ResumeValidator {
    /// Takes a strong `ETag`, else a `Last-Modified`. A weak `ETag` promises the same meaning, not the same
    /// bytes, and `If-Range` does not allow it (RFC 9110, 13.1.5).
    pub(in crate::fetch) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let (header, value) = header_text(headers, &ETAG)
            .filter(|tag| tag.starts_with('"'))
            .map(|tag| (ETAG, tag))
            .or_else(|| header_text(headers, &LAST_MODIFIED).map(|date| (LAST_MODIFIED, date)))?;
        Some(Self {
            header,
            value: value.to_owned(),
        })
    }

    /// The text for `If-Range`.
    pub(in crate::fetch) fn as_str(&self) -> &str {
        &self.value
    }

    /// Whether an answer contradicts it. One without that header does not.
    fn is_contradicted_by(&self, headers: &HeaderMap) -> bool {
        headers
            .get(&self.header)
            .is_some_and(|value| value.as_bytes() != self.value.as_bytes())
    }
}

/// The body of a 206 that goes on where our part ends.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fetch) struct ResumedRange {
    /// The size of the whole representation in bytes, where the server tells it.
    pub(in crate::fetch) total: Option<u64>,
}

impl ResumedRange {
    /// From a 206's headers; `None` if the body is not the exact rest, from `position` on, of the same representation.
    pub(in crate::fetch) fn from_headers(
        headers: &HeaderMap,
        validator: &ResumeValidator,
        position: u64,
    ) -> Option<Self> {
        if validator.is_contradicted_by(headers) {
            return None;
        }
        let text = header_text(headers, &CONTENT_RANGE)?;
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
        if start != position || end < start {
            return None;
        }
        if total == "*" {
            return Some(Self { total: None });
        }
        let total = total.parse().ok()?;
        // An answer that ends before the end of the representation would look like a truncated body later, so start
        // again from zero.
        (total == end.checked_add(1)?).then_some(Self { total: Some(total) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_a_strong_tag_or_a_date_validates() {
        let of = |pairs: &[_]| {
            ResumeValidator::from_headers(&headers(pairs)).map(|v| v.as_str().to_owned())
        };
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(
            of(&[(ETAG, "\"v1\""), (LAST_MODIFIED, date)]),
            Some("\"v1\"".to_owned())
        );
        assert_eq!(
            of(&[(ETAG, "W/\"v1\""), (LAST_MODIFIED, date)]),
            Some(date.to_owned())
        );
        assert_eq!(of(&[(ETAG, "W/\"v1\"")]), None);
        assert_eq!(of(&[]), None);
    }

    /// Fault 43: a range of something else, or another range, is never joined to what is here.
    #[test]
    fn fault_43_only_the_exact_rest_of_the_same_thing_continues() {
        let validator = ResumeValidator::from_headers(&headers(&[(ETAG, "\"v1\"")])).unwrap();
        let parse = |pairs: &[_]| ResumedRange::from_headers(&headers(pairs), &validator, 100);
        assert_eq!(
            parse(&[(CONTENT_RANGE, "bytes 100-199/200"), (ETAG, "\"v1\"")]),
            Some(ResumedRange { total: Some(200) })
        );
        assert_eq!(
            parse(&[(CONTENT_RANGE, "bytes 100-199/*")]),
            Some(ResumedRange { total: None })
        );
        assert_eq!(
            parse(&[(CONTENT_RANGE, "bytes 100-199/200"), (ETAG, "\"v2\"")]),
            None
        );
        for wrong in [
            "bytes 0-199/200",
            "bytes 101-199/200",
            "bytes 100-150/200",
            "bytes 100-99/100",
            "bytes */200",
            "items 100-199/200",
            "bytes 100-18446744073709551615/5",
            "",
        ] {
            assert_eq!(parse(&[(CONTENT_RANGE, wrong)]), None, "{wrong:?}");
        }
        assert_eq!(parse(&[]), None);
    }
}
