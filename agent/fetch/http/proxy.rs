//! The proxies that the environment names, and the hosts that are asked without one. Pure, except that it reads
//! environment variables.
//!
//! The rules are those of Go's `httpproxy`, which the kubelet, containerd and CRI-O go by: one setting does for all of
//! them. Beyond them, `ALL_PROXY` stands in for the other two, as with curl.

use std::net::IpAddr;

use reqwest::Url;
use url::Host;

use super::error::HttpError;
use super::redact::redact_url;
use crate::model::{Cidr, is_loopback};

/// The proxy variables of the environment, read once for a download.
#[derive(Debug)]
pub(super) struct ProxySettings {
    http: ProxyVariable,
    https: ProxyVariable,
    exempt: Vec<ProxyExemption>,
}

/// A proxy, none, or the variable that names no usable one and why.
type ProxyVariable = Result<Option<Url>, (&'static str, &'static str)>;

/// An entry of `NO_PROXY`.
#[derive(Debug, PartialEq)]
enum ProxyExemption {
    /// `*`.
    Everything,
    /// A range of addresses, or a single one, and the port if only one is meant.
    Addresses(Cidr, Option<u16>),
    /// Everything below a name, such as `.example`; the name itself as well unless it was written with a dot.
    Names {
        below: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl ProxySettings {
    pub(super) fn from_env() -> Self {
        Self::from_variables(|name| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    /// As from the environment; an empty variable counts as none.
    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            let mut given = names.iter().filter_map(|name| {
                let value = variable(name)?.trim().to_owned();
                (!value.is_empty()).then_some((*name, value))
            });
            given.next()
        };
        let proxy = |names: &[&'static str]| match first(names) {
            Some((name, value)) => parse_proxy(&value).map(Some).map_err(|why| (name, why)),
            None => Ok(None),
        };
        let past = first(&["NO_PROXY", "no_proxy"]);
        let past = past.as_ref().map_or("", |(_, value)| value);
        Self {
            http: proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
            https: proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            exempt: past.split(',').filter_map(parse_exemption).collect(),
        }
    }

    /// The proxy for a request to `url`, with its user information; `None` for none. Loopback addresses never have one.
    ///
    /// # Errors
    /// When the variable names no usable proxy. A request without the proxy could end in a firewall, or where it should
    /// not be seen.
    pub(super) fn proxy_for(&self, url: &Url) -> Result<Option<&Url>, HttpError> {
        if self.is_exempt(url) {
            return Ok(None);
        }
        let setting = match url.scheme() {
            "https" => &self.https,
            _ => &self.http,
        };
        match setting {
            Ok(proxy) => Ok(proxy.as_ref()),
            Err((variable, why)) => Err(HttpError::ProxySetting { variable, why }),
        }
    }

    fn is_exempt(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let is_port = |only: &Option<u16>| only.is_none_or(|only| Some(only) == port);
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical(),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                let matches = |exemption: &ProxyExemption| match exemption {
                    ProxyExemption::Everything => true,
                    ProxyExemption::Addresses(..) => false,
                    ProxyExemption::Names {
                        below,
                        itself,
                        port,
                    } => is_port(port) && (name.ends_with(below) || *itself && name == &below[1..]),
                };
                return name == "localhost" || self.exempt.iter().any(matches);
            }
            None => return false,
        };
        let alone = Cidr::from(address);
        let matches = |exemption: &ProxyExemption| match exemption {
            ProxyExemption::Everything => true,
            ProxyExemption::Addresses(range, port) => is_port(port) && range.contains(&alone),
            ProxyExemption::Names { .. } => false,
        };
        is_loopback(address) || self.exempt.iter().any(matches)
    }
}

/// A proxy as it may be shown.
pub(super) fn display_proxy(proxy: &Url) -> String {
    redact_url(proxy.as_str()).trim_end_matches('/').to_owned()
}

/// Reads a proxy's URL, whose scheme is http if it has none.
fn parse_proxy(value: &str) -> Result<Url, &'static str> {
    let with_scheme = match value.contains("://") {
        true => value.to_owned(),
        false => format!("http://{value}"),
    };
    let url = Url::parse(&with_scheme).map_err(
        |_| "it is no URL; percent-encode what is no letter or digit in user and password",
    )?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only proxies that are asked by http:// or https:// are known here");
    }
    // A password with one of these characters would end the host's name early.
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(
            "there is more behind host and port; percent-encode / ? and # in user and password",
        );
    }
    // The client parses it in this way too, and silently uses no proxy where that fails.
    let readable = url.as_str().parse::<http::Uri>();
    if readable.is_ok_and(|uri| uri.authority().is_some()) {
        Ok(url)
    } else {
        Err("it is no URL; percent-encode what is no letter or digit in user and password")
    }
}

/// Reads an entry of `NO_PROXY`. An entry that cannot be read is ignored, as in Go.
fn parse_exemption(entry: &str) -> Option<ProxyExemption> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry == "*" {
        return Some(ProxyExemption::Everything);
    }
    if let Some(range) = Cidr::parse_lenient(&entry) {
        return Some(ProxyExemption::Addresses(range, None));
    }
    let whole = entry.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = whole.parse::<IpAddr>() {
        return Some(ProxyExemption::Addresses(Cidr::from(address), None));
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(ProxyExemption::Addresses(Cidr::from(address), port));
    }
    let host = host.strip_prefix('*').unwrap_or(host);
    let host = host.trim_end_matches('.');
    let (below, itself) = match host.strip_prefix('.') {
        Some(_) => (host.to_owned(), false),
        None => (format!(".{host}"), true),
    };
    (below.len() > 1).then_some(ProxyExemption::Names {
        below,
        itself,
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> ProxySettings {
        ProxySettings::from_variables(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn to(proxies: &ProxySettings, url: &str) -> Option<String> {
        let url = url.parse().unwrap();
        proxies.proxy_for(&url).unwrap().map(display_proxy)
    }

    fn is_past(no_proxy: &str, url: &str) -> bool {
        let proxies = proxies(&[("ALL_PROXY", "http://p"), ("NO_PROXY", no_proxy)]);
        to(&proxies, url).is_none()
    }

    #[test]
    fn each_scheme_has_its_variable_and_upper_case_goes_first() {
        let named = |name: &str| format!("http://{name}.proxy:3128");
        for (variables, http, https) in [
            (vec![], None, None),
            (vec!["http_proxy"], Some("http_proxy"), None),
            (vec!["HTTPS_PROXY"], None, Some("HTTPS_PROXY")),
            (vec!["http_proxy", "HTTP_PROXY"], Some("HTTP_PROXY"), None),
            (vec!["all_proxy"], Some("all_proxy"), Some("all_proxy")),
            (
                vec!["all_proxy", "https_proxy"],
                Some("all_proxy"),
                Some("https_proxy"),
            ),
        ] {
            let found = ProxySettings::from_variables(|name| {
                variables.contains(&name).then(|| named(name))
            });
            let want = |name: Option<&str>| name.map(|name| named(name).to_lowercase());
            assert_eq!(to(&found, "http://a/"), want(http), "{variables:?}");
            assert_eq!(to(&found, "https://a/"), want(https), "{variables:?}");
        }
    }

    #[test]
    fn an_empty_variable_is_none_and_a_scheme_may_be_left_out() {
        let found = proxies(&[("HTTPS_PROXY", " "), ("https_proxy", "u:p%40@p:3128")]);
        assert_eq!(to(&found, "https://a/").unwrap(), "http://p:3128");
        assert_eq!(to(&found, "http://a/"), None);
    }

    /// The rules of Go's `httpproxy`, by example.
    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        for (no_proxy, past, through) in [
            (
                "example",
                "http://example/ https://a.example:8443/ http://EXAMPLE./",
                "http://notexample/ http://example.org/",
            ),
            (
                ".example",
                "http://a.example/ http://b.a.example/",
                "http://example/ http://aexample/",
            ),
            ("*.example", "http://a.example/", "http://example/"),
            (
                " a.test , b.test ",
                "http://a.test/ http://b.test/",
                "http://c.test/",
            ),
            (
                "a.test:8080",
                "http://a.test:8080/",
                "http://a.test/ https://a.test/",
            ),
            ("a.test:443", "https://a.test/", "http://a.test/"),
            (
                "192.0.2.7",
                "http://192.0.2.7/ https://192.0.2.7:1/",
                "http://192.0.2.8/",
            ),
            ("192.0.2.7:80", "http://192.0.2.7/", "https://192.0.2.7/"),
            (
                "192.0.2.0/24",
                "http://192.0.2.200/",
                "http://192.0.3.1/ http://192.0.2.example/",
            ),
            ("192.0.2.9/24", "http://192.0.2.200/", "http://192.0.3.1/"),
            (
                "2001:db8::/32",
                "http://[2001:db8:1::1]/",
                "http://[2001:db9::1]/",
            ),
            (
                "2001:db8::1",
                "http://[2001:db8::1]:8080/",
                "http://[2001:db8::2]/",
            ),
            (
                "[2001:db8::1]:80",
                "http://[2001:db8::1]/",
                "https://[2001:db8::1]/",
            ),
            (
                "*",
                "http://a/ https://192.0.2.1/ http://[2001:db8::1]/",
                "",
            ),
            ("", "", "http://a/"),
            (", ,:80,a:b,.", "", "http://a/ http://a.b/"),
        ] {
            for url in past.split_whitespace() {
                assert!(is_past(no_proxy, url), "{no_proxy:?} {url}");
            }
            for url in through.split_whitespace() {
                assert!(!is_past(no_proxy, url), "{no_proxy:?} {url}");
            }
        }
    }

    #[test]
    fn this_machine_is_never_asked_through_a_proxy() {
        for url in ["http://localhost:1/", "https://127.9.9.9/", "http://[::1]/"] {
            assert!(is_past("", url), "{url}");
        }
        assert!(!is_past("", "http://localhost.example/"));
    }

    /// What would otherwise be taken for no proxy at all, or for another one.
    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_that_shows_nothing_of_it() {
        for bad in [
            "socks5://u:secret@p:1080",
            "http://",
            "http://u:secret@p:99999",
            "http://u:secret/x@p:3128",
            "http://u:1#secret@p:3128",
            "http://u:1?secret@p:3128",
            "http://p:3128/secret",
            "secret secret",
            "ftp://secret",
        ] {
            let found = proxies(&[("https_proxy", bad)]);
            let error = found.proxy_for(&"https://a/".parse().unwrap()).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("https_proxy"), "{bad}: {text}");
            assert!(!text.contains("secret"), "{bad}: {text}");
            assert_eq!(to(&found, "http://a/"), None, "{bad}");
        }
    }
}
