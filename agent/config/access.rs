//! `fetch.access`: headers and client certificates for the requests to one part of the web.

use super::config_value::ConfigValue;
use super::host_path::read_path;
use super::settings::{AccessRule, ClientCertificate};
use super::url_prefix::{SentCredentials, UrlPrefix};

/// Reads `fetch.access`.
pub(super) fn read_access(list: ConfigValue<'_>) -> Option<Vec<AccessRule>> {
    let mut rules: Vec<AccessRule> = Vec::new();
    for item in list.items()? {
        let Some(rule) = read_rule(item) else {
            continue;
        };
        if rules.iter().any(|other| other.prefix.is_same(&rule.prefix)) {
            let what = "another rule has the same prefix; write one rule with all that it needs";
            item.get("prefix").unwrap_or(item).note(what);
        }
        rules.push(rule);
    }
    Some(rules)
}

fn read_rule(item: ConfigValue<'_>) -> Option<AccessRule> {
    let fields = item.fields(&["prefix", "headersFile", "certFile", "keyFile", "plainHttp"])?;
    let headers_file = fields.read("headersFile", read_path);
    let cert_file = fields.read("certFile", read_path);
    let key_file = fields.read("keyFile", read_path);
    let plain_http = match fields.get("plainHttp") {
        Some(value) => value.flag(),
        None => Some(false),
    };
    let has = |key| fields.get(key).is_some();
    for (given, missing) in [("certFile", "keyFile"), ("keyFile", "certFile")] {
        if has(given) && !has(missing) {
            let what =
                "missing; certFile and keyFile are needed together, and may name the same file";
            fields.note(missing, what);
        }
    }
    let fix = "write the beginning of the URLs, such as https://mirror.example/cni/";
    let prefix = fields.require("prefix", fix)?;
    let credentials = SentCredentials {
        headers: has("headersFile"),
        certificate: has("certFile") || has("keyFile"),
    };
    let plain_http = plain_http?;
    let parsed = UrlPrefix::parse(prefix.text()?, plain_http, credentials);
    let certificate = cert_file.zip(key_file);
    Some(AccessRule {
        prefix: prefix.accept(parsed)?,
        headers_file,
        certificate: certificate.map(|(cert_file, key_file)| ClientCertificate {
            cert_file,
            key_file,
        }),
        plain_http,
    })
}
