//! Removes secrets from everything that the agent shows over HTTP.

use std::borrow::Cow;

use serde_json::Value;

/// The text that replaces a secret.
const REDACTED: &str = "[redacted]";

/// The words that mark the name of a secret, in lower case and without separators. Hiding the path of a key file is
/// better than showing a key, so `key` marks every key.
const SECRET_WORDS: &[&str] = &[
    "token",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "credential",
    "key",
    "authorization",
    "bearer",
    "cookie",
    "psk",
];

/// Removes the secrets from a document: all values under names of secrets, user information and queries in URLs, and
/// private keys.
pub fn redact_json(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if is_secret_name(name) {
                    *value = Value::from(REDACTED);
                } else {
                    redact_json(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::String(text) => {
            if let Cow::Owned(redacted) = redact_text(text) {
                *text = redacted;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The value of a setting as it may be shown.
#[must_use]
pub fn redact_setting<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret_name(name) {
        return Cow::Borrowed(REDACTED);
    }
    redact_text(value)
}

fn is_secret_name(name: &str) -> bool {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    let name: String = letters.flat_map(char::to_lowercase).collect();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A text as it may be shown. It is owned if something was removed.
#[must_use]
pub fn redact_text(text: &str) -> Cow<'_, str> {
    if text.contains("PRIVATE KEY-----") {
        return Cow::Owned(REDACTED.to_owned());
    }
    if text.contains("://") {
        return Cow::Owned(redact_urls(text));
    }
    Cow::Borrowed(text)
}

/// A text with the URLs in it as they may be shown: without user information and query.
fn redact_urls(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, url) = rest.split_at(start + "://".len());
        redacted += before;
        let (url, after) = url.split_at(url.find(ends_url).unwrap_or(url.len()));
        let (base, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        let (authority, path) = base.split_at(base.find('/').unwrap_or(base.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => redacted += &format!("{REDACTED}@{host}"),
            None => redacted += authority,
        }
        redacted += path;
        if !query.is_empty() {
            redacted += &format!("?{REDACTED}");
        }
        rest = after;
    }
    redacted + rest
}

/// Lists of URLs are written with commas (etcd's endpoints) or in sentences.
fn ends_url(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, ',' | '"' | '\'' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let mut document = json!({
            "name": "pods",
            "plugins": [{
                "type": "calico",
                "kubernetes": {"k8s_auth_token": "S1", "kubeconfig": "/etc/k"},
                "etcd_endpoints": "https://u:S2@a:2379,https://b:2379/x?sig=S3",
                "etcd-key": "S4",
                "PassWord": {"of": ["S5"]},
                "Api_Key": 5,
                "wireguard": {"presharedPSK": "S6"},
                "pem": "-----BEGIN EC PRIVATE KEY-----\nS7\n-----END EC PRIVATE KEY-----",
                "list": ["plain", "see http://S8@c/ now"],
                "mtu": 1450,
                "ipMasq": true,
            }],
        });
        redact_json(&mut document);
        assert_eq!(
            document,
            json!({
                "name": "pods",
                "plugins": [{
                    "type": "calico",
                    "kubernetes": {"k8s_auth_token": "[redacted]", "kubeconfig": "/etc/k"},
                    "etcd_endpoints": "https://[redacted]@a:2379,https://b:2379/x?[redacted]",
                    "etcd-key": "[redacted]",
                    "PassWord": "[redacted]",
                    "Api_Key": "[redacted]",
                    "wireguard": {"presharedPSK": "[redacted]"},
                    "pem": "[redacted]",
                    "list": ["plain", "see http://[redacted]@c/ now"],
                    "mtu": 1450,
                    "ipMasq": true,
                }],
            })
        );
    }

    #[test]
    fn settings_are_shown_by_the_same_rule() {
        assert_eq!(redact_setting("registry-token", "S"), "[redacted]");
        assert_eq!(
            redact_setting("mirror", "https://u:S@m/"),
            "https://[redacted]@m/"
        );
        assert_eq!(redact_setting("log-level", "info"), "info");
    }
}
