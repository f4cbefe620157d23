//! `kubernetes`: how the API is reached, and what is written to it.

use super::config_value::{ConfigValue, Fields};
use super::host_path::read_path;
use super::settings::KubernetesSettings;
use super::source_url::parse_web_url;

/// Where the token and the CA of the API server are in every pod with a ServiceAccount.
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The longest name and prefix in a taint's key (`IsQualifiedName` of Kubernetes' validation).
const LONGEST_NAME: usize = 63;
const LONGEST_PREFIX: usize = 253;

/// Reads `kubernetes`. By default everything in it is off.
pub(super) fn read_kubernetes(root: &Fields<'_>) -> KubernetesSettings {
    let keys = [
        "condition",
        "events",
        "removeTaint",
        "server",
        "caFile",
        "tokenFile",
    ];
    let section = root.section("kubernetes", &keys);
    KubernetesSettings {
        condition: section.read_or("condition", false, ConfigValue::flag),
        events: section.read_or("events", false, ConfigValue::flag),
        remove_taint: section.read("removeTaint", |value| {
            value.accept(check_taint(value.text()?))
        }),
        server: section.read("server", |value| value.accept(check_server(value.text()?))),
        ca_file: section.read_or("caFile", CA_FILE.into(), read_path),
        token_file: section.read_or("tokenFile", TOKEN_FILE.into(), read_path),
    }
}

/// Checks the address of an API server, `https://HOST:PORT`. TLS is required, because our token is sent there.
fn check_server(text: &str) -> Result<String, String> {
    let fix = "write https://HOST:PORT";
    if !text.starts_with("https://") {
        return Err(format!("the API server must be reached by TLS; {fix}"));
    }
    let url = parse_web_url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("the API server's address has a path; {fix}"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Checks the key of a taint: a qualified name, such as `cni-keeper.dev/not-ready`.
fn check_taint(key: &str) -> Result<String, String> {
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
        Ok(key.to_owned())
    } else {
        Err(format!(
            "'{key}' is not the key of a taint; write a key such as cni-keeper.dev/not-ready, without value and effect"
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
            assert_eq!(check_server(text), Ok(url.to_owned()), "{text}");
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
            assert!(check_server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_taint_is_named_by_its_key_alone() {
        for good in ["cni-keeper.dev/not-ready", "startup", "a.b/c_d.E-1"] {
            assert_eq!(check_taint(good).as_deref(), Ok(good));
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
