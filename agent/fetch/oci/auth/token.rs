//! Requests to a token server and its answers. Pure.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use url::form_urlencoded::Serializer;

use super::challenge::Bearer;
use super::credentials::Login;

/// The largest answer that is read; tokens in use have less than 8 KiB.
pub(super) const MAX_TOKEN_ANSWER: usize = 64 << 10;

/// How long a token lives where the answer does not say, and the least that is made of what it says (distribution's
/// token authentication specification).
const MIN_TOKEN_LIFE: Duration = Duration::from_secs(60);

/// A request to a token server.
pub(super) struct TokenRequest {
    /// Where to.
    pub(super) url: Url,
    /// `Authorization`, where there are credentials.
    pub(super) authorization: Option<HeaderValue>,
    /// The form to post; `None` makes the request a GET.
    pub(super) form: Option<String>,
    /// Whether it must not lead to this machine or its network, because a public registry named it.
    pub(super) is_public_only: bool,
}

impl TokenRequest {
    /// A request for the right to read `repository`.
    pub(super) fn new(bearer: &Bearer, repository: &str, login: Option<&Login>) -> Self {
        let scope = match &bearer.scope {
            Some(scope) => scope.clone(),
            None => format!("repository:{repository}:pull"),
        };
        let service = bearer.service.as_deref();
        let mut url = bearer.realm.clone();
        if let Some(Login::Identity(token)) = login {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token.reveal())
                .append_pair("client_id", env!("CARGO_PKG_NAME"))
                .append_pair("scope", &scope);
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            return Self {
                url,
                authorization: None,
                form: Some(form.finish()),
                is_public_only: false,
            };
        }
        let mut authorization = None;
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &scope);
            if let Some(login @ Login::Password(user, _)) = login {
                query.append_pair("account", user);
                authorization = basic_header(login);
            }
        }
        Self {
            url,
            authorization,
            form: None,
            is_public_only: false,
        }
    }
}

/// A token, ready to be sent.
pub(super) struct Token {
    /// The whole header.
    pub(super) authorization: HeaderValue,
    /// For how long it is valid, counted from the request.
    pub(super) life: Duration,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Token {
    /// Reads a token server's answer.
    ///
    /// # Errors
    /// What is wrong with it, and nothing of what it holds.
    pub(super) fn parse(answer: &[u8]) -> Result<Self, &'static str> {
        let answer: TokenResponse = serde_json::from_slice(answer).map_err(
            |_| "the answer is not the JSON of one; check that the realm is a token server",
        )?;
        let token = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|token| !token.is_empty())
            .ok_or("there is none in the answer")?;
        Ok(Self {
            authorization: bearer_header(&token)
                .ok_or("it has characters that no header can carry")?,
            life: Duration::from_secs(answer.expires_in.unwrap_or_default()).max(MIN_TOKEN_LIFE),
        })
    }
}

/// `Authorization` with a token.
pub(super) fn bearer_header(token: &str) -> Option<HeaderValue> {
    secret_header(&format!("Bearer {token}"))
}

/// `Authorization` with a user's name and password, where that is what there is.
pub(super) fn basic_header(login: &Login) -> Option<HeaderValue> {
    let Login::Password(user, password) = login else {
        return None;
    };
    let pair = STANDARD.encode(format!("{user}:{}", password.reveal()));
    secret_header(&format!("Basic {pair}"))
}

/// A header that is not shown where a request is printed.
fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::oci::auth::credentials::Credentials;

    fn login(entry: &str) -> Login {
        let file = format!(r#"{{"auths": {{"r": {entry}}}}}"#);
        let credentials = Credentials::parse(file.as_bytes()).unwrap();
        credentials.find_login("r", "a").unwrap()
    }

    fn bearer_of(realm: &str, service: Option<&str>, scope: Option<&str>) -> Bearer {
        Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn the_question_names_service_scope_and_account() {
        let anonymous = TokenRequest::new(&bearer_of("https://a/t", None, None), "team/cni", None);
        assert_eq!(
            anonymous.url.as_str(),
            "https://a/t?scope=repository%3Ateam%2Fcni%3Apull"
        );
        assert!(anonymous.authorization.is_none() && anonymous.form.is_none());

        let user = login(r#"{"username": "u&x", "password": "p"}"#);
        let bearer = bearer_of(
            "https://a/t?k=v",
            Some("the registry"),
            Some("repository:b:pull"),
        );
        let known = TokenRequest::new(&bearer, "b", Some(&user));
        assert_eq!(
            known.url.as_str(),
            "https://a/t?k=v&service=the+registry&scope=repository%3Ab%3Apull&account=u%26x"
        );
        let header = known.authorization.unwrap();
        assert_eq!(header, "Basic dSZ4OnA=");
        assert!(header.is_sensitive());
    }

    #[test]
    fn an_identity_token_is_posted_and_stands_in_no_address() {
        let identity = login(r#"{"identitytoken": "hid&den"}"#);
        let bearer = bearer_of("https://a/t", Some("s"), None);
        let request = TokenRequest::new(&bearer, "b", Some(&identity));
        assert_eq!(request.url.as_str(), "https://a/t");
        assert!(request.authorization.is_none());
        assert_eq!(
            request.form.unwrap(),
            "grant_type=refresh_token&refresh_token=hid%26den&client_id=cni-keeper&scope=repository%3Ab%3Apull&service=s"
        );
    }

    #[test]
    fn an_answer_has_its_token_under_either_name() {
        for (answer, header, life) in [
            (
                r#"{"token": "a", "expires_in": 300, "issued_at": "x"}"#,
                "Bearer a",
                300,
            ),
            (r#"{"access_token": "b"}"#, "Bearer b", 60),
            (
                r#"{"token": "", "access_token": "c", "expires_in": 5}"#,
                "Bearer c",
                60,
            ),
        ] {
            let token = Token::parse(answer.as_bytes()).unwrap();
            assert_eq!(token.authorization, header);
            assert!(token.authorization.is_sensitive());
            assert_eq!(token.life, Duration::from_secs(life));
        }
        for none in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"token": ""}"#,
            r#"{"token": "a\nb"}"#,
            r#"{"token": 1}"#,
        ] {
            assert!(Token::parse(none.as_bytes()).is_err(), "{none}");
        }
    }
}
