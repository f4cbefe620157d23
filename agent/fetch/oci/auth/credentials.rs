//! Our credentials for registries: a docker `config.json`. Pure.
//!
//! The same format is what `podman login` writes to `auth.json`, and what a Kubernetes secret of the type
//! `kubernetes.io/dockerconfigjson` holds.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The credentials in a docker `config.json`.
#[derive(Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// How to log in to a registry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// A user's name and password.
    Password(String, Secret),
    /// What a token server takes in place of a password (`identitytoken`).
    Identity(Secret),
    /// A token for the registry itself (`registrytoken`).
    Token(Secret),
}

/// A text that is never shown.
#[derive(PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    /// The text, for a request and nothing else.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Why there is no [`Login`] although the file may hold one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoLogin {
    /// Nothing in it is for this registry.
    Absent,
    /// A helper program has it.
    Helper,
    /// The entry for it cannot be read; says why.
    Unusable(&'static str),
}

impl Credentials {
    /// Reads a file's content.
    ///
    /// # Errors
    /// Says where the mistake is and never what stands there, as the parser's own message would.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(content).map_err(|error| {
            format!(
                "it is not a docker config.json: line {}, column {} is {}; write {{\"auths\": {{\"HOST\": {{\"auth\": …}}}}}}",
                error.line(),
                error.column(),
                match error.classify() {
                    serde_json::error::Category::Eof => "its end, before the JSON is complete",
                    serde_json::error::Category::Data => "of another type than expected",
                    _ => "no JSON",
                }
            )
        })
    }

    /// What opens `repository` at `registry` (`HOST` or `HOST:PORT`, in lower case).
    ///
    /// Of several entries the one with the longest path holds, as containers-auth.json(5) has it.
    pub(super) fn find_login(&self, registry: &str, repository: &str) -> Result<Login, NoLogin> {
        let fitting = self.auths.iter().filter_map(|(key, entry)| {
            let path = path_of_key(key, registry)?;
            let covers = path.is_empty()
                || repository
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            covers.then_some((path.len(), entry))
        });
        // What stands in the file goes before a helper: `docker login` leaves empty entries where one has it.
        let best = fitting
            .filter(|(_, entry)| !entry.is_empty())
            .max_by_key(|(length, _)| *length);
        if let Some((_, entry)) = best {
            return entry.to_login().map_err(NoLogin::Unusable);
        }
        let is_helped = |key: &String| path_of_key(key, registry) == Some("");
        if self.store.as_ref().is_some_and(|store| !store.is_empty())
            || self.helpers.keys().any(is_helped)
        {
            return Err(NoLogin::Helper);
        }
        Err(NoLogin::Absent)
    }
}

impl AuthEntry {
    fn is_empty(&self) -> bool {
        let fields = [
            &self.auth,
            &self.username,
            &self.password,
            &self.identitytoken,
            &self.registrytoken,
        ];
        fields.into_iter().all(|field| non_empty(field).is_none())
    }

    fn to_login(&self) -> Result<Login, &'static str> {
        if let Some(token) = non_empty(&self.identitytoken) {
            return Ok(Login::Identity(Secret(token.to_owned())));
        }
        if let Some(token) = non_empty(&self.registrytoken) {
            return Ok(Login::Token(Secret(token.to_owned())));
        }
        if let Some(auth) = non_empty(&self.auth) {
            let fix = "its auth is not the base64 of USER:PASSWORD";
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| fix)?;
            let text = String::from_utf8(bytes).map_err(|_| fix)?;
            let (user, password) = text.split_once(':').ok_or(fix)?;
            // Docker pads what it writes to whole blocks.
            let password = password.trim_end_matches('\0');
            return Ok(Login::Password(
                user.to_owned(),
                Secret(password.to_owned()),
            ));
        }
        match (non_empty(&self.username), non_empty(&self.password)) {
            (Some(user), Some(password)) => Ok(Login::Password(
                user.to_owned(),
                Secret(password.to_owned()),
            )),
            _ => Err("it has one of username and password, and needs both"),
        }
    }
}

fn non_empty(field: &Option<String>) -> Option<&str> {
    field.as_deref().filter(|text| !text.is_empty())
}

/// The path of an entry's key, where it is for this registry.
///
/// Keys are `HOST`, `HOST:PORT`, `HOST/PATH`, or a URL as old clients wrote it: `https://HOST/v1/`.
fn path_of_key<'a>(key: &'a str, registry: &str) -> Option<&'a str> {
    let web = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let (host, path) = web
        .unwrap_or(key)
        .split_once('/')
        .unwrap_or((web.unwrap_or(key), ""));
    let path = path.trim_end_matches('/');
    let path = match (web, path) {
        (Some(_), "v1" | "v2") => "",
        _ => path,
    };
    let without_port = |host: &'a str| host.strip_suffix(":443").unwrap_or(host);
    let registry = registry.strip_suffix(":443").unwrap_or(registry);
    without_port(host)
        .eq_ignore_ascii_case(registry)
        .then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(file: &str, registry: &str, repository: &str) -> Result<Login, NoLogin> {
        Credentials::parse(file.as_bytes())
            .unwrap()
            .find_login(registry, repository)
    }

    fn password(user: &str, password: &str) -> Result<Login, NoLogin> {
        Ok(Login::Password(
            user.to_owned(),
            Secret(password.to_owned()),
        ))
    }

    fn auth(text: &str) -> String {
        format!(r#"{{"auth": "{}"}}"#, STANDARD.encode(text))
    }

    #[test]
    fn a_key_is_a_host_with_or_without_port_scheme_and_path() {
        for (key, registry) in [
            ("registry.example", "registry.example"),
            ("Registry.Example", "registry.example"),
            ("registry.example:5000", "registry.example:5000"),
            ("https://registry.example", "registry.example"),
            ("https://registry.example/v1/", "registry.example"),
            ("https://registry.example/v2", "registry.example"),
            ("http://registry.example:5000/", "registry.example:5000"),
            ("registry.example:443", "registry.example"),
            ("registry.example", "registry.example:443"),
            ("[::1]:5000", "[::1]:5000"),
            ("registry.example/team", "registry.example"),
            ("registry.example/team/app", "registry.example"),
        ] {
            let file = format!(
                r#"{{"auths": {{"{key}": {}}}, "psFormat": 1}}"#,
                auth("u:p:q")
            );
            assert_eq!(
                find(&file, registry, "team/app"),
                password("u", "p:q"),
                "{key}"
            );
        }
        for key in [
            "other.example",
            "registry.example:5000",
            "a.registry.example",
            "registry.example.org",
            "registry.example/te",
            "registry.example/team/app/more",
            "registry.example/v1",
            "",
        ] {
            let file = format!(r#"{{"auths": {{"{key}": {}}}}}"#, auth("u:p"));
            let found = find(&file, "registry.example", "team/app");
            assert_eq!(found, Err(NoLogin::Absent), "{key}");
        }
    }

    #[test]
    fn the_longest_path_holds() {
        let file = format!(
            r#"{{"auths": {{"r.example": {}, "r.example/team": {}, "r.example/team/app": {}, "r.example/team/app/x": {{}}}}}}"#,
            auth("host:1"),
            auth("team:2"),
            auth("app:3"),
        );
        assert_eq!(find(&file, "r.example", "other"), password("host", "1"));
        assert_eq!(find(&file, "r.example", "teams"), password("host", "1"));
        assert_eq!(find(&file, "r.example", "team/b"), password("team", "2"));
        assert_eq!(find(&file, "r.example", "team/app/x"), password("app", "3"));
    }

    #[test]
    fn an_entry_holds_a_password_or_a_token_in_one_of_its_forms() {
        let one = |entry: &str| find(&format!(r#"{{"auths": {{"r": {entry}}}}}"#), "r", "a");
        assert_eq!(
            one(r#"{"username": "u", "password": "p"}"#),
            password("u", "p")
        );
        assert_eq!(one(&auth("u:p\0\0")), password("u", "p"));
        assert_eq!(one(&auth("u:")), password("u", ""));
        assert_eq!(
            one(&auth("u:p").replace('}', r#", "identitytoken": "i"}"#)),
            Ok(Login::Identity(Secret("i".to_owned())))
        );
        assert_eq!(
            one(r#"{"registrytoken": "t", "auth": ""}"#),
            Ok(Login::Token(Secret("t".to_owned())))
        );
        assert_eq!(one("{}"), Err(NoLogin::Absent));
        for unusable in [
            r#"{"auth": "%"}"#,
            &auth("nobody"),
            r#"{"username": "u"}"#,
            r#"{"auth": "/w=="}"#,
        ] {
            assert!(
                matches!(one(unusable), Err(NoLogin::Unusable(_))),
                "{unusable}"
            );
        }
        let shown = format!("{:?}", one(&auth("u:hidden")));
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn helpers_are_named_where_they_would_be_needed() {
        let store = r#"{"auths": {"r": {}}, "credsStore": "desktop"}"#;
        assert_eq!(find(store, "r", "a"), Err(NoLogin::Helper));
        let helper = r#"{"credHelpers": {"r": "login"}}"#;
        assert_eq!(find(helper, "r", "a"), Err(NoLogin::Helper));
        assert_eq!(find(helper, "other", "a"), Err(NoLogin::Absent));
        let both = format!(
            r#"{{"auths": {{"r": {}}}, "credsStore": "desktop"}}"#,
            auth("u:p")
        );
        assert_eq!(find(&both, "r", "a"), password("u", "p"));
    }

    #[test]
    fn a_file_that_is_none_is_reported_without_what_it_holds() {
        for (file, message) in [
            ("", "line 1, column 0 is its end"),
            ("hidden", "line 1, column 1 is no JSON"),
            (
                "{\n \"auths\": \"hidden\"}",
                "line 2, column 18 is of another type",
            ),
            (r#"{"auths": {"r": {"auth": ["hidden"]}}}"#, "another type"),
            (r#"{"auths": {"r": {"auth": "hidden"#, "its end"),
        ] {
            let error = Credentials::parse(file.as_bytes()).err().unwrap();
            assert!(error.contains(message), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
