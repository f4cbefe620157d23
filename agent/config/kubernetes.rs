//! `kubernetes`: how the API is reached, and what it is told.

use url::Url;

use super::error::Problems;
use super::paths::path_of;
use super::read::Fields;
use super::settings::Kubernetes;
use super::source::check_web;
use super::tree::Node;
use super::validate::{section, value};

/// Where every pod with a ServiceAccount has its token and the API server's authority.
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The longest name and prefix in a taint's key (`IsQualifiedName` of Kubernetes' validation).
const LONGEST_NAME: usize = 63;
const LONGEST_PREFIX: usize = 253;

/// Reads `kubernetes`; everything in it is off by default.
pub(super) fn kubernetes(root: &Fields<'_>, problems: &mut Problems) -> Option<Kubernetes> {
    let keys = [
        "condition",
        "events",
        "removeTaint",
        "server",
        "caFile",
        "tokenFile",
    ];
    let section = section(root, "kubernetes", &keys, problems)?;
    let section = section.as_ref();
    let condition = value(section, "condition", false, problems, Node::flag);
    let events = value(section, "events", false, problems, Node::flag);
    let remove_taint = value(section, "removeTaint", None, problems, |node, problems| {
        let key = node.text(problems)?;
        node.note(check_taint(key), problems)?;
        Some(Some(key.to_owned()))
    });
    let server = value(section, "server", None, problems, |node, problems| {
        let text = node.text(problems)?;
        node.note(server(text), problems).map(Some)
    });
    let ca_file = value(section, "caFile", CA_FILE.into(), problems, path_of);
    let token_file = value(section, "tokenFile", TOKEN_FILE.into(), problems, path_of);
    Some(Kubernetes {
        condition: condition?,
        events: events?,
        remove_taint: remove_taint?,
        server: server?,
        ca_file: ca_file?,
        token_file: token_file?,
    })
}

/// The address of an API server, as `https://HOST:PORT`. It gets our token, so only TLS will do.
fn server(text: &str) -> Result<String, String> {
    let mend = "write https://HOST:PORT";
    if !text.starts_with("https://") {
        return Err(format!("the API server is reached by TLS only; {mend}"));
    }
    check_web(text)?;
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}; {mend}"))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("there is a path behind the API server; {mend}"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A taint's key: a qualified name, as in `cni-keeper.dev/not-ready`.
fn check_taint(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("cni-keeper.dev", key));
    let is_name = |text: &str, longest| {
        let ends = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
        text.len() <= longest
            && ends(text.bytes().next())
            && ends(text.bytes().last())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    if is_name(name, LONGEST_NAME) && is_name(prefix, LONGEST_PREFIX) {
        Ok(())
    } else {
        Err(format!(
            "'{key}' is not the key of a taint; write such as cni-keeper.dev/not-ready, without value and effect"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_server_is_a_host_and_a_port_by_tls() {
        for (text, url) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443"),
            ("https://[fd00::1]:6443/", "https://[fd00::1]:6443"),
            ("https://api.example", "https://api.example"),
        ] {
            assert_eq!(server(text), Ok(url.to_owned()), "{text}");
        }
        for bad in [
            "",
            "10.0.0.1:6443",
            "http://10.0.0.1:6443",
            "https://",
            "https://a/k8s/clusters/c",
            "https://a?x",
            "https://a#x",
            "https://u:p@a",
        ] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taint_is_named_by_its_key_alone() {
        for good in ["cni-keeper.dev/not-ready", "startup", "a.b/c_d.E-1"] {
            assert_eq!(check_taint(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "a/b=c",
            "a:NoSchedule",
            "-a",
            "a b",
        ] {
            assert!(check_taint(bad).is_err(), "{bad}");
        }
    }
}
