//! The beginning of a URL. It decides whether a rule of `fetch.access` applies to a request.

use url::Url;

use super::source_url::parse_web_url;
use crate::model::has_loopback_host;

/// What a rule sends with a request.
#[derive(Clone, Copy)]
pub(super) struct SentCredentials {
    pub headers: bool,
    pub certificate: bool,
}

/// The beginning of a URL. It ends with a whole part of the path: `https://host/a` covers `/a` and `/a/b`, but not
/// `/ab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPrefix {
    /// For an `oci://` prefix, the URL of the registry's API.
    url: Url,
}

impl UrlPrefix {
    /// Reads a prefix, and checks that the rule's credentials may be sent there. No message contains the text itself,
    /// because it may contain a password.
    ///
    /// # Errors
    /// One sentence that says what to write.
    pub(super) fn parse(
        text: &str,
        plain: bool,
        credentials: SentCredentials,
    ) -> Result<Self, String> {
        let url = match text.strip_prefix("oci://") {
            Some(rest) => parse_registry(rest, plain)?,
            None if plain => {
                return Err("plainHttp applies to registries only; write http:// in the sources instead, or write an oci:// prefix here".to_owned());
            }
            None => parse_web_url(text)?,
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a prefix ends with the path; remove what follows ? or #".to_owned());
        }
        if url.scheme() == "http" {
            if credentials.certificate {
                return Err("a client certificate is part of TLS, which http:// does not use; write https://, or remove certFile and keyFile".to_owned());
            }
            if credentials.headers && !has_loopback_host(&url) {
                return Err("the headers of headersFile would be sent unencrypted; write https:// (http:// is allowed for a loopback address only, such as 127.0.0.1)".to_owned());
            }
        }
        Ok(Self { url })
    }

    /// Whether the prefix covers a request to `url`: same scheme, host and port, and the path at or below this one's.
    ///
    /// The URL parser has resolved `..` in both, also where it was percent-encoded.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        let below = |path: &str| {
            let own = self.path();
            path.strip_prefix(own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.url.scheme() == url.scheme()
            && self.url.host() == url.host()
            && self.url.port_or_known_default() == url.port_or_known_default()
            && below(url.path())
    }

    /// Whether the two apply to the same requests.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.covers(&other.url) && other.covers(&self.url)
    }

    /// The path without a slash at its end; empty for a whole origin.
    pub(super) fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }
}

/// The URL of the registry's API for an `oci://` prefix, which is `HOST[:PORT]`, or that with the first parts of a
/// repository's name.
fn parse_registry(rest: &str, plain: bool) -> Result<Url, String> {
    let scheme = if plain { "http" } else { "https" };
    let (host, repository) = rest.split_once('/').unwrap_or((rest, ""));
    if repository.contains([':', '@']) {
        return Err(
            "a prefix ends with the repository's name; remove the tag and the digest".to_owned(),
        );
    }
    // Without a repository, the prefix covers the whole host and not only its API, because many registries issue their
    // tokens elsewhere on the host.
    let api = if repository.is_empty() { "" } else { "v2/" };
    let text = format!("{scheme}://{host}/{api}{repository}");
    parse_web_url(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: SentCredentials = SentCredentials {
        headers: true,
        certificate: false,
    };
    const CERTIFICATE: SentCredentials = SentCredentials {
        headers: false,
        certificate: true,
    };
    const NOTHING: SentCredentials = SentCredentials {
        headers: false,
        certificate: false,
    };

    fn covers(text: &str, url: &str) -> bool {
        let prefix = UrlPrefix::parse(text, false, HEADERS).unwrap();
        prefix.covers(&url.parse().unwrap())
    }

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_does() {
        for prefix in ["https://h/a/b", "https://h/a/b/", "https://H:443/a/./b"] {
            for url in ["https://h/a/b", "https://h/a/b/", "https://h/a/b/c?d=e"] {
                assert!(covers(prefix, url), "{prefix} {url}");
            }
            for url in [
                "https://h/a",
                "https://h/a/bc",
                "https://h/a/b/../c",
                "https://h/a/b/%2E%2e/c",
                "https://h/A/b",
                "https://h:8443/a/b",
                "http://h/a/b",
                "https://x.h/a/b",
                "https://hh/a/b",
            ] {
                assert!(!covers(prefix, url), "{prefix} {url}");
            }
        }
        for prefix in ["https://h", "https://h/"] {
            assert!(covers(prefix, "https://h/any/thing"));
            assert!(!covers(prefix, "https://h.evil.example/"));
            assert!(!covers(prefix, "https://hevil/"));
        }
    }

    #[test]
    fn an_oci_prefix_is_for_the_registry_s_api() {
        assert!(covers("oci://r", "https://r/v2/a/manifests/x"));
        assert!(covers("oci://r", "https://r/token"));
        assert!(covers("oci://r:5000/a/b", "https://r:5000/v2/a/b/blobs/x"));
        assert!(!covers(
            "oci://r:5000/a/b",
            "https://r:5000/v2/a/bb/blobs/x"
        ));
        assert!(!covers("oci://r:5000/a/b", "https://r:5000/token"));
        assert!(!covers("oci://r", "http://r/v2/"));
        let plain = UrlPrefix::parse("oci://r", true, NOTHING).unwrap();
        assert!(plain.covers(&"http://r/v2/a/blobs/x".parse().unwrap()));
    }

    #[test]
    fn secrets_go_over_tls_or_stay_on_the_machine() {
        for good in [
            "https://h/",
            "http://127.0.0.1:8080/",
            "http://127.1.2.3/",
            "http://[::1]/a",
        ] {
            assert!(UrlPrefix::parse(good, false, HEADERS).is_ok(), "{good}");
        }
        for bad in ["http://h/", "http://localhost/", "http://10.0.0.1/"] {
            let why = UrlPrefix::parse(bad, false, HEADERS).unwrap_err();
            assert!(why.contains("unencrypted"), "{bad}: {why}");
        }
        let why = UrlPrefix::parse("oci://r", true, HEADERS).unwrap_err();
        assert!(why.contains("unencrypted"), "{why}");
        assert!(UrlPrefix::parse("oci://127.0.0.1:5000", true, HEADERS).is_ok());
        for (plain, text) in [(false, "http://127.0.0.1/"), (true, "oci://127.0.0.1")] {
            let why = UrlPrefix::parse(text, plain, CERTIFICATE).unwrap_err();
            assert!(why.contains("part of TLS"), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_no_prefix_is_refused_without_being_shown() {
        for bad in [
            "",
            "h/a",
            "file:///a",
            "https://",
            "oci://",
            "oci:///a",
            "oci://u:secret@r/a",
            "https://u:secret@h/",
            "https://h/?sig=secret",
            "https://h/#secret",
            "oci://r/a@sha256:secret",
            "oci://r/a:secret",
        ] {
            let why = UrlPrefix::parse(bad, false, HEADERS).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        assert!(UrlPrefix::parse("https://h", true, HEADERS).is_err());
        assert!(UrlPrefix::parse("https://h", false, NOTHING).is_ok());
    }
}
