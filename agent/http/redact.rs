//! Secrets stay inside.

use std::borrow::Cow;

use serde_json::Value;

/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// What the name of a secret has in it, in lower case and without separators. Better one path to a key
/// file too many than one key: `key` is every key.
const SECRETIVE: &[&str] = &[
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

/// Takes the secrets out of a document: all values under names that sound like secrets, user information and
/// queries in URLs, private keys.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if is_secretive(name) {
                    *value = Value::from(REDACTED);
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Cow::Owned(shown) = shown(text) {
                *text = shown;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The value of a setting as it may be shown.
pub(super) fn setting<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if is_secretive(name) {
        return Cow::Borrowed(REDACTED);
    }
    shown(value)
}

fn is_secretive(name: &str) -> bool {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    let name: String = letters.flat_map(char::to_lowercase).collect();
    SECRETIVE.iter().any(|word| name.contains(word))
}

/// A text as it may be shown; owned where something was taken out.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.contains("PRIVATE KEY-----") {
        return Cow::Owned(REDACTED.to_owned());
    }
    if text.contains("://") {
        return Cow::Owned(public_urls(text));
    }
    Cow::Borrowed(text)
}

/// A text with the URLs in it as they may be shown: without user information and query.
fn public_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, url) = rest.split_at(start + "://".len());
        shown += before;
        let (url, after) = url.split_at(url.find(ends_url).unwrap_or(url.len()));
        let (place, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => shown += &format!("{REDACTED}@{host}"),
            None => shown += authority,
        }
        shown += path;
        if !query.is_empty() {
            shown += &format!("?{REDACTED}");
        }
        rest = after;
    }
    shown + rest
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
        redact(&mut document);
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
        assert_eq!(setting("registry-token", "S"), "[redacted]");
        assert_eq!(setting("mirror", "https://u:S@m/"), "https://[redacted]@m/");
        assert_eq!(setting("log-level", "info"), "info");
    }
}
