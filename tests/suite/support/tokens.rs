//! A token server as registries name one in their challenges, with tokens that Debian's docker-registry takes.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

use super::server::{Reply, Request};
use super::tls::Authority;

/// The issuer and the audience of the tokens.
pub(crate) const ISSUER: &str = "cni-keeper tests";
pub(crate) const SERVICE: &str = "the registry";

/// The user whose tokens give access.
pub(crate) const USER: &str = "puller";
pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const IDENTITY: &str = "identity-of-the-puller";

/// How long a token says that it is valid, and how long it really is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenLifetime {
    pub(crate) message: u64,
    pub(crate) real: i64,
}

impl TokenLifetime {
    /// Long enough for any test.
    pub(crate) const LONG: Self = Self {
        message: 3600,
        real: 3600,
    };
}

/// Signs tokens with a key that leads to an authority.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    certificate: String,
    lives: Mutex<Vec<TokenLifetime>>,
}

impl Issuer {
    pub(crate) fn of(authority: &Authority) -> Self {
        let (certificate, key) = authority.pair(&["issuer"]);
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &key.serialize_der(),
            &SystemRandom::new(),
        );
        Self {
            key: key.unwrap(),
            certificate: STANDARD.encode(certificate.der()),
            lives: Mutex::new(Vec::new()),
        }
    }

    /// The next tokens get these lifetimes, and those after them a long one.
    pub(crate) fn live(self, lives: &[TokenLifetime]) -> Self {
        *self.lives.lock().unwrap() = lives.to_vec();
        self
    }

    /// A token for a scope such as `repository:team/cni:pull`.
    pub(crate) fn token(&self, scope: &str, life: i64) -> String {
        let mut parts = scope.split(':');
        let mut part = || parts.next().unwrap();
        let (kind, name, actions) = (part(), part(), part());
        let actions: Vec<&str> = actions.split(',').collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": ISSUER, "aud": SERVICE, "sub": USER, "jti": "1",
            "iat": now - 7200, "nbf": now - 7200, "exp": now + life,
            "access": [{"type": kind, "name": name, "actions": actions}],
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap()))
    }

    /// Answers a request for a token, with the password or with the identity token.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let pairs = match request.method.as_str() {
            "POST" => url::form_urlencoded::parse(&request.body),
            _ => {
                let query = request.path.split_once('?').map_or("", |(_, query)| query);
                url::form_urlencoded::parse(query.as_bytes())
            }
        };
        let pairs: Vec<(String, String)> = pairs.into_owned().collect();
        let get = |name: &str| {
            let mut found = pairs.iter().filter(|(key, _)| key == name);
            found.next().map_or("", |(_, value)| value.as_str())
        };
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let known = match request.method.as_str() {
            "POST" => get("grant_type") == "refresh_token" && get("refresh_token") == IDENTITY,
            _ => request.header("authorization") == Some(&basic) && get("account") == USER,
        };
        if !known || get("service") != SERVICE {
            return Reply::status(401);
        }
        let mut lives = self.lives.lock().unwrap();
        let life = match lives.is_empty() {
            true => TokenLifetime::LONG,
            false => lives.remove(0),
        };
        let token = self.token(get("scope"), life.real);
        let name = match request.method.as_str() {
            "POST" => "access_token",
            _ => "token",
        };
        let answer = json!({name: token, "expires_in": life.message});
        Reply::ok(answer.to_string().as_bytes())
    }
}
