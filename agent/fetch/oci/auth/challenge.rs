//! What a registry asks for with a 401: reading `WWW-Authenticate`. Pure.

use http_auth::{ChallengeRef, parser::ChallengeParser};
use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The longest header that is looked at; the ones in use have less than 300 bytes.
const MAX_HEADER_SIZE: usize = 8 << 10;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With a user's name and password (RFC 7617).
    Basic,
    /// With a token from elsewhere.
    Bearer(Bearer),
}

/// Where the token comes from (distribution's token authentication specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The token server's address.
    pub(super) realm: Url,
    /// What the token server calls this registry.
    pub(super) service: Option<String>,
    /// What the token is to allow.
    pub(super) scope: Option<String>,
}

/// Reads the challenges of an answer, of which a token's goes before a password's, as containerd has it.
///
/// Headers are read one by one and challenges in order, so that one of no use does not hide another.
pub(super) fn parse_challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers
        .get_all(WWW_AUTHENTICATE)
        .into_iter()
        .filter(|value| value.len() <= MAX_HEADER_SIZE)
        .filter_map(|value| value.to_str().ok());
    let mut basic = None;
    for challenge in texts.flat_map(ChallengeParser::new).flatten() {
        if challenge.scheme.eq_ignore_ascii_case("Basic") {
            basic = Some(Challenge::Basic);
        } else if challenge.scheme.eq_ignore_ascii_case("Bearer")
            && let Some(bearer) = parse_bearer(&challenge)
        {
            return Some(Challenge::Bearer(bearer));
        }
    }
    basic
}

fn parse_bearer(challenge: &ChallengeRef<'_>) -> Option<Bearer> {
    let param = |name: &str| {
        let mut params = challenge.params.iter();
        let (_, value) = params.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value.to_unescaped()).filter(|text| !text.is_empty())
    };
    let realm = Url::parse(&param("realm")?).ok()?;
    Some(Bearer {
        realm: realm.has_host().then_some(realm)?,
        service: param("service"),
        scope: param("scope"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        parse_challenge(&headers)
    }

    fn token(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer(Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }))
    }

    #[test]
    fn challenges_in_all_their_spellings() {
        let full = r#"Bearer realm="https://auth.example/token?a=b",service="registry.example",scope="repository:team/cni:pull,push""#;
        let expected = token(
            "https://auth.example/token?a=b",
            Some("registry.example"),
            Some("repository:team/cni:pull,push"),
        );
        assert_eq!(read(&[full]), expected);
        assert_eq!(read(&[&full.replace("Bearer", "bEARER")]), expected);
        assert_eq!(
            read(&[&full.replace("realm", "Realm").replace(",s", " , s")]),
            expected
        );
        assert_eq!(read(&["Basic realm=\"a\"", full]), expected, "two headers");
        assert_eq!(
            read(&[&format!("Basic realm=\"a, b\", {full}")]),
            expected,
            "one header"
        );
        assert_eq!(read(&[&format!("{full}, Basic realm=\"a\"")]), expected);
        assert_eq!(read(&[&format!("Negotiate, {full}")]), expected);
        assert_eq!(
            read(&[r#"Bearer realm="https://a\.example/t""#]),
            token("https://a.example/t", None, None),
            "a backslash makes the next character stand for itself"
        );
        assert_eq!(
            read(&[r#"Bearer realm="https://a.example/t",service="",error="invalid_token""#]),
            token("https://a.example/t", None, None)
        );
        assert_eq!(read(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(
            read(&["basic realm=x, charset=\"UTF-8\""]),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn garbage_is_no_challenge_and_hides_no_other() {
        let bomb = format!(
            "Bearer {}realm=\"https://a.example\"",
            "a=b,".repeat(100_000)
        );
        let commas = ",".repeat(100_000);
        for garbage in [
            "",
            "Digest realm=\"a\"",
            "Bearer",
            "Bearer realm=",
            "Bearer realm=\"\"",
            "Bearer realm=\"not a URL\"",
            "Bearer realm=\"data:,x\"",
            "Bearer realm=\"https://a.example",
            "Bearer service=\"a\"",
            "=,=",
            "\"",
            &bomb,
            &commas,
        ] {
            let shown = &garbage[..garbage.len().min(40)];
            assert_eq!(read(&[garbage]), None, "{shown}");
            assert_eq!(
                read(&[garbage, "Basic realm=\"a\""]),
                Some(Challenge::Basic),
                "{shown}"
            );
        }
        assert_eq!(read(&[]), None);
    }
}
