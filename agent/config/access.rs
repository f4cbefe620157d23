//! `fetch.access`: what is shown to whom. A prefix of URLs, and the files that hold what goes with requests to it.

use std::path::PathBuf;

use url::Url;

use super::error::Problems;
use super::paths::path_of;
use super::settings::Fetch;
use super::source::check_web;
use super::tree::Node;
use crate::model::has_loopback_host;

/// What goes with the requests to one part of the web. The files are the agent's own, never below `--host-root`,
/// and are read anew for each download, since mounted secrets are replaced while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Which requests are meant.
    pub prefix: UrlPrefix,
    /// A file of `Name: value` lines that are sent as headers.
    pub headers_file: Option<PathBuf>,
    /// The client certificate that is shown to a server that asks for one.
    pub identity: Option<Identity>,
    /// Whether a registry is asked by http.
    pub plain_http: bool,
}

/// A client certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those that lead from it to an authority that the server knows.
    pub cert_file: PathBuf,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key_file: PathBuf,
}

/// The start of a URL, up to a whole part of the path: `https://host/a` is for `/a` and `/a/b`, never for `/ab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPrefix {
    /// An `oci://` prefix is kept as the URL of the registry's API that it stands for.
    url: Url,
}

impl UrlPrefix {
    /// Whether a request to `url` is meant: same scheme, host and port, and the path at or below this one's.
    ///
    /// Both have been through the URL parser, which has resolved `..` also where it was percent-encoded.
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

    /// The path without a slash at its end; empty for a whole origin.
    fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }
}

impl Fetch {
    /// The place in `access` of the rule for a request to `url`: the one with the longest prefix that covers it.
    #[must_use]
    pub fn access_to(&self, url: &Url) -> Option<usize> {
        let covering = self
            .access
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.prefix.covers(url));
        covering
            .max_by_key(|(_, rule)| rule.prefix.path().len())
            .map(|(index, _)| index)
    }

    /// The scheme by which a registry (`HOST[:PORT]`) is asked for a repository: `http` where the longest `oci://`
    /// prefix says `plainHttp`, else `https`.
    #[must_use]
    pub fn registry_scheme(&self, registry: &str, repository: &str) -> &'static str {
        let longest = |scheme: &str, plain: bool| {
            let url = Url::parse(&format!("{scheme}://{registry}/v2/{repository}")).ok()?;
            let rules = self.access.iter().filter(|rule| rule.plain_http == plain);
            rules
                .filter(|rule| rule.prefix.covers(&url))
                .map(|rule| rule.prefix.path().len())
                .max()
        };
        if longest("http", true) > longest("https", false) {
            "http"
        } else {
            "https"
        }
    }
}

/// Reads `fetch.access`.
pub(super) fn access(node: &Node, problems: &mut Problems) -> Option<Vec<Access>> {
    let mut rules: Vec<Access> = Vec::new();
    let mut is_good = true;
    for item in node.items(problems)? {
        let Some(rule) = rule(item, problems) else {
            is_good = false;
            continue;
        };
        if rules.iter().any(|other| same(&other.prefix, &rule.prefix)) {
            let what = "this prefix has a rule already; write one rule with all that it needs";
            problems.add(&item.at.key("prefix"), what);
            is_good = false;
        }
        rules.push(rule);
    }
    is_good.then_some(rules)
}

fn same(one: &UrlPrefix, other: &UrlPrefix) -> bool {
    one.covers(&other.url) && other.covers(&one.url)
}

fn rule(item: &Node, problems: &mut Problems) -> Option<Access> {
    let keys = ["prefix", "headersFile", "certFile", "keyFile", "plainHttp"];
    let fields = item.fields(&keys, problems)?;
    let before = problems.count();
    let mut path = |key: &str| fields.get(key).map(|node| path_of(node, problems));
    let (headers, cert, key) = (path("headersFile"), path("certFile"), path("keyFile"));
    let plain = fields
        .get("plainHttp")
        .map_or(Some(false), |node| node.flag(problems));
    for (has, lacks, key) in [(&cert, &key, "keyFile"), (&key, &cert, "certFile")] {
        if has.is_some() && lacks.is_none() {
            let mend = "certFile and keyFile come together; they may name the same file";
            problems.add(&fields.place_of(key), format!("missing; {mend}"));
        }
    }
    let mend = "write the start of the URLs that are meant, such as https://mirror.example/cni/";
    let node = fields.require("prefix", mend, problems)?;
    let secrets = Secrets {
        headers: headers.is_some(),
        certificate: cert.is_some() || key.is_some(),
    };
    let prefix = plain.and_then(|plain| {
        let text = node.text(problems)?;
        node.note(prefix(text, plain, secrets), problems)
    });
    if problems.count() > before {
        return None;
    }
    Some(Access {
        prefix: prefix?,
        headers_file: headers.flatten(),
        identity: match (cert.flatten(), key.flatten()) {
            (Some(cert_file), Some(key_file)) => Some(Identity {
                cert_file,
                key_file,
            }),
            _ => None,
        },
        plain_http: plain?,
    })
}

/// What a rule sends beside the request.
#[derive(Clone, Copy)]
struct Secrets {
    headers: bool,
    certificate: bool,
}

/// Checks a prefix with what is to be sent to it. The text itself never enters a message: it may hold a password.
fn prefix(text: &str, plain: bool, secrets: Secrets) -> Result<UrlPrefix, String> {
    let url = match text.strip_prefix("oci://") {
        Some(rest) => registry(rest, plain)?,
        None if plain => {
            return Err("plainHttp is for registries only; write http:// in the sources instead, or an oci:// prefix".to_owned());
        }
        None => {
            check_web(text)?;
            parse(text)?
        }
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a prefix ends with the path; take out what is behind ? or #".to_owned());
    }
    if !(secrets.headers || secrets.certificate || plain) {
        return Err(
            "this rule changes nothing; give it a headersFile, or a certFile and a keyFile"
                .to_owned(),
        );
    }
    if url.scheme() == "http" {
        if secrets.certificate {
            return Err("a client certificate is part of TLS, which http:// goes without; write https://, or take certFile and keyFile out".to_owned());
        }
        if secrets.headers && !has_loopback_host(&url) {
            return Err("what headersFile holds would go over the network unencrypted; write https:// (http:// is for a loopback address, such as 127.0.0.1)".to_owned());
        }
    }
    Ok(UrlPrefix { url })
}

/// The registry's API below an `oci://` prefix: `HOST[:PORT]`, or with the first parts of a repository's name.
fn registry(rest: &str, plain: bool) -> Result<Url, String> {
    let scheme = if plain { "http" } else { "https" };
    let (host, repository) = rest.split_once('/').unwrap_or((rest, ""));
    if repository.contains([':', '@']) {
        return Err("a prefix ends with the repository's name; take tag and digest out".to_owned());
    }
    // The whole host, with what is beside its API: that is where many have their tokens.
    let api = if repository.is_empty() { "" } else { "v2/" };
    let text = format!("{scheme}://{host}/{api}{repository}");
    check_web(&text)?;
    parse(&text)
}

fn parse(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("not a URL: {error}; write https://HOST/PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: Secrets = Secrets {
        headers: true,
        certificate: false,
    };
    const CERTIFICATE: Secrets = Secrets {
        headers: false,
        certificate: true,
    };
    const NOTHING: Secrets = Secrets {
        headers: false,
        certificate: false,
    };

    fn covers(text: &str, url: &str) -> bool {
        let prefix = prefix(text, false, HEADERS).unwrap();
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
        let plain = prefix("oci://r", true, NOTHING).unwrap();
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
            assert!(prefix(good, false, HEADERS).is_ok(), "{good}");
        }
        for bad in ["http://h/", "http://localhost/", "http://10.0.0.1/"] {
            let why = prefix(bad, false, HEADERS).unwrap_err();
            assert!(why.contains("unencrypted"), "{bad}: {why}");
        }
        let why = prefix("oci://r", true, HEADERS).unwrap_err();
        assert!(why.contains("unencrypted"), "{why}");
        assert!(prefix("oci://127.0.0.1:5000", true, HEADERS).is_ok());
        for (plain, text) in [(false, "http://127.0.0.1/"), (true, "oci://127.0.0.1")] {
            let why = prefix(text, plain, CERTIFICATE).unwrap_err();
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
            let why = prefix(bad, false, HEADERS).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
        assert!(prefix("https://h", true, HEADERS).is_err());
        assert!(prefix("https://h", false, NOTHING).is_err());
    }
}
