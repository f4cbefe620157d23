//! Container images and other artifacts in a registry, named by their digest.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{DigestError, Pin};

/// The longest repository name (`RepositoryNameTotalLengthMax` of the distribution project).
const LONGEST_REPOSITORY: usize = 255;
/// The longest tag (OCI distribution specification, "Pulling manifests").
const LONGEST_TAG: usize = 128;
/// The longest host name and the longest part of one (RFC 1035, 2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Content in a registry, named by its digest: `oci://HOST[:PORT]/REPOSITORY[:TAG]@sha256:HEX`.
///
/// The rules for names are those of the distribution project's `reference` package. As with `docker pull`, a tag before
/// a digest is ignored: a digest names one content, but a tag can be moved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    digest: Pin,
}

/// Why a text is not a [`Reference`]. The messages never quote a part that could be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Another scheme, or none.
    #[error("an image's address begins with oci://; write oci://REGISTRY/REPOSITORY@sha256:DIGEST")]
    Scheme,
    /// A user name or password before the host.
    #[error(
        "the address holds a user name or password; take it out, and name a docker config.json under fetch.registryConfig"
    )]
    UserInfo,
    /// The host is neither a name nor an IP address.
    #[error(
        "the registry's host is not a name or an address; write HOST or HOST:PORT, and an IPv6 address in brackets"
    )]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the registry's port is not a port number; write a number from 1 to 65535")]
    Port,
    /// Nothing between the host and the digest.
    #[error(
        "no repository is named behind the registry; write oci://REGISTRY/REPOSITORY@sha256:DIGEST"
    )]
    NoRepository,
    /// A character that is not allowed in a repository's name.
    #[error(
        "{0:?} is not allowed in a repository's name; use lower-case letters and digits, with . _ __ or - between them"
    )]
    Stranger(char),
    /// The characters are allowed, but not in this order.
    #[error(
        "a part of the repository's name is empty, or begins or ends with . _ or -, or has two of them together; \
         correct it"
    )]
    Separators,
    /// Longer than a registry accepts.
    #[error(
        "the repository's name is longer than {LONGEST_REPOSITORY} characters, which no registry accepts"
    )]
    TooLong,
    /// The tag has a character or a length that is not allowed.
    #[error(
        "the tag before the digest is not valid; use at most {LONGEST_TAG} letters, digits, . _ and -, or leave the tag out"
    )]
    Tag,
    /// No digest. The field is the image in the form for skopeo.
    #[error(
        "a tag can be moved to another image, so the digest is needed; after the repository, write @ and what \
         this prints: skopeo inspect --format '{{{{.Digest}}}}' docker://{0}"
    )]
    NotPinned(String),
    /// A digest of another kind.
    #[error("the digest is neither sha256: nor sha512:; write @sha256: and its 64 digits")]
    Algorithm,
    /// The digest is malformed.
    #[error("{0}; write @sha256: and its 64 digits")]
    Digest(#[from] DigestError),
}

impl Reference {
    /// `HOST` or `HOST:PORT`, in lower case.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest of the index or manifest.
    #[must_use]
    pub const fn digest(&self) -> &Pin {
        &self.digest
    }

    /// Where the registry has the manifest or index with this digest (OCI distribution specification, end-3).
    /// `scheme` is `https` or `http`.
    #[must_use]
    pub fn manifest_url(&self, scheme: &str, digest: &Pin) -> String {
        self.registry_url(scheme, "manifests", digest)
    }

    /// Where the registry has the blob with this digest (OCI distribution specification, end-2).
    /// `scheme` is `https` or `http`.
    #[must_use]
    pub fn blob_url(&self, scheme: &str, digest: &Pin) -> String {
        self.registry_url(scheme, "blobs", digest)
    }

    fn registry_url(&self, scheme: &str, kind: &str, digest: &Pin) -> String {
        let Self {
            registry,
            repository,
            ..
        } = self;
        format!("{scheme}://{registry}/v2/{repository}/{kind}/{digest}")
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text.strip_prefix("oci://").ok_or(ReferenceError::Scheme)?;
        let Some((host, path)) = rest.split_once('/') else {
            let named = rest.split('@').next().unwrap_or_default();
            // `oci://REPOSITORY@sha256:…` is a more likely mistake than a user of that name.
            return Err(match rest[named.len()..].get(..8) {
                Some("@sha256:" | "@sha512:") => ReferenceError::NoRepository,
                Some(_) => ReferenceError::UserInfo,
                None => parse_registry(rest)
                    .map_or_else(|error| error, |_| ReferenceError::NoRepository),
            });
        };
        if host.contains('@') {
            return Err(ReferenceError::UserInfo);
        }
        let registry = parse_registry(host)?;
        let (name, digest) = match path.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (path, None),
        };
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (name, None),
        };
        check_repository(repository)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag);
        }
        let Some(digest) = digest else {
            return Err(ReferenceError::NotPinned(format!("{registry}/{name}")));
        };
        let digest = match digest.split_once(':') {
            Some(("sha256", hex)) => Pin::sha256(hex)?,
            Some(("sha512", hex)) => Pin::sha512(hex)?,
            _ => return Err(ReferenceError::Algorithm),
        };
        Ok(Self {
            registry,
            repository: repository.to_owned(),
            digest,
        })
    }
}

/// The text without the tag, so that two references to the same content have the same text.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registry,
            repository,
            digest,
        } = self;
        write!(f, "oci://{registry}/{repository}@{digest}")
    }
}

/// Checks `HOST[:PORT]`.
fn parse_registry(text: &str) -> Result<String, ReferenceError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or(ReferenceError::Host)?;
            let address: Ipv6Addr = address.parse().map_err(|_| ReferenceError::Host)?;
            let port = match behind {
                "" => None,
                _ => Some(behind.strip_prefix(':').ok_or(ReferenceError::Host)?),
            };
            (format!("[{address}]"), port)
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            if !is_host(host) {
                return Err(ReferenceError::Host);
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    let Some(port) = port else {
        return Ok(host);
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(format!("{host}:{port}")),
        _ => Err(ReferenceError::Port),
    }
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // URL parsers read a name whose last part is a number as an IPv4 address: 1.2 is 1.0.0.2.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    host.len() <= LONGEST_HOST
        && host.split('.').all(is_label)
        && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}

fn check_repository(name: &str) -> Result<(), ReferenceError> {
    if name.is_empty() {
        return Err(ReferenceError::NoRepository);
    }
    if name.len() > LONGEST_REPOSITORY {
        return Err(ReferenceError::TooLong);
    }
    let known = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(*c);
    if let Some(stranger) = name.chars().find(|c| !known(c)) {
        return Err(ReferenceError::Stranger(stranger));
    }
    name.split('/')
        .all(is_component)
        .then_some(())
        .ok_or(ReferenceError::Separators)
}

/// Letters and digits, with one `.`, one `_`, two `_` or any number of `-` between.
fn is_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| is_word(*byte));
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(|byte| is_word(*byte)).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST_TAG).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";

    fn error(text: &str) -> ReferenceError {
        text.parse::<Reference>().unwrap_err()
    }

    #[test]
    fn registries_repositories_and_digests_of_every_kind() {
        let sha512 = format!("sha512:{}", "ab".repeat(64));
        for (registry, repository, digest) in [
            ("registry.example", "cni", DIGEST),
            ("registry.example:5000", "team/a__b/c.d-e---f_0", DIGEST),
            ("localhost", "cni", DIGEST),
            ("127.0.0.1:5000", "cni", DIGEST),
            ("[::1]:5000", "cni", DIGEST),
            ("[fd00::1]", "cni", &sha512),
        ] {
            let text = format!("oci://{registry}/{repository}@{digest}");
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.registry(), registry);
            assert_eq!(reference.repository(), repository);
            assert_eq!(reference.digest().to_string(), digest);
            assert_eq!(reference.to_string(), text);
        }
        let reference: Reference = format!("oci://h/a/b@{DIGEST}").parse().unwrap();
        let layer = Pin::sha256(&"0".repeat(64)).unwrap();
        assert_eq!(
            reference.manifest_url("https", reference.digest()),
            format!("https://h/v2/a/b/manifests/{DIGEST}")
        );
        assert_eq!(
            reference.blob_url("http", &layer),
            format!("http://h/v2/a/b/blobs/{layer}")
        );
    }

    #[test]
    fn case_and_tag_make_no_difference() {
        let plain: Reference = format!("oci://registry.example/cni@{DIGEST}")
            .parse()
            .unwrap();
        let (name, hex) = DIGEST.split_once(':').unwrap();
        for text in [
            format!("oci://Registry.EXAMPLE/cni@{DIGEST}"),
            format!("oci://registry.example/cni:v1.9.1@{DIGEST}"),
            format!("oci://registry.example/cni@{name}:{}", hex.to_uppercase()),
        ] {
            assert_eq!(text.parse(), Ok(plain.clone()), "{text}");
        }
    }

    #[test]
    fn a_tag_is_refused_with_the_command_that_resolves_it() {
        assert_eq!(
            error("oci://registry.example:5000/team/cni:v1.9.1").to_string(),
            "a tag can be moved to another image, so the digest is needed; after the repository, write @ and what \
             this prints: skopeo inspect --format '{{.Digest}}' docker://registry.example:5000/team/cni:v1.9.1"
        );
        assert_eq!(
            error("oci://registry.example/cni"),
            ReferenceError::NotPinned("registry.example/cni".to_owned())
        );
    }

    #[test]
    fn each_mistake_has_its_own_fix() {
        let long = format!("oci://h/{}@{DIGEST}", "a".repeat(256));
        let long_tag = format!("oci://h/a:{}@{DIGEST}", "a".repeat(129));
        let cases = [
            ("https://h/a", ReferenceError::Scheme),
            ("h/a", ReferenceError::Scheme),
            ("oci://user:pw@h/a", ReferenceError::UserInfo),
            ("oci://user:pw@registry.example", ReferenceError::UserInfo),
            ("oci://", ReferenceError::Host),
            ("oci:///a", ReferenceError::Host),
            ("oci://a_b/c", ReferenceError::Host),
            ("oci://-a/c", ReferenceError::Host),
            ("oci://a..b/c", ReferenceError::Host),
            ("oci://a b/c", ReferenceError::Host),
            ("oci://1.2.3/c", ReferenceError::Host),
            ("oci://1.2.3.400/c", ReferenceError::Host),
            ("oci://0x7f.1/c", ReferenceError::Host),
            ("oci://a.0x1/c", ReferenceError::Host),
            ("oci://::1/c", ReferenceError::Host),
            ("oci://[::1/c", ReferenceError::Host),
            ("oci://[::1]5000/c", ReferenceError::Host),
            ("oci://[fe80::1%25eth0]/c", ReferenceError::Host),
            ("oci://h:/c", ReferenceError::Port),
            ("oci://h:0/c", ReferenceError::Port),
            ("oci://h:+5/c", ReferenceError::Port),
            ("oci://h:65536/c", ReferenceError::Port),
            ("oci://h", ReferenceError::NoRepository),
            ("oci://h/", ReferenceError::NoRepository),
            ("oci://h/:v1", ReferenceError::NoRepository),
            ("oci://h/A", ReferenceError::Stranger('A')),
            ("oci://h/a?token=x", ReferenceError::Stranger('?')),
            ("oci://h/a%2fb", ReferenceError::Stranger('%')),
            ("oci://h/a//b", ReferenceError::Separators),
            ("oci://h/a/", ReferenceError::Separators),
            ("oci://h/a/../b", ReferenceError::Separators),
            ("oci://h/a..b", ReferenceError::Separators),
            ("oci://h/a___b", ReferenceError::Separators),
            ("oci://h/a._b", ReferenceError::Separators),
            ("oci://h/a-", ReferenceError::Separators),
            (&long, ReferenceError::TooLong),
            ("oci://h/a:", ReferenceError::Tag),
            ("oci://h/a:-v", ReferenceError::Tag),
            (&long_tag, ReferenceError::Tag),
            ("oci://h/a@md5:ab", ReferenceError::Algorithm),
            ("oci://h/a@", ReferenceError::Algorithm),
            (
                "oci://h/a@sha256:ab",
                ReferenceError::Digest(Pin::sha256("ab").unwrap_err()),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text}");
        }
        assert_eq!(
            error(&format!("oci://cni@{DIGEST}")),
            ReferenceError::NoRepository
        );
    }

    proptest! {
        #[test]
        fn what_is_read_prints_as_itself_and_makes_the_url_it_says(
            name in "[a-z0-9.:\\[\\]-]{1,9}/[a-z/._-]{1,9}(:[a-z.]{0,4})?"
        ) {
            let text = format!("oci://{name}@{DIGEST}");
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference.clone()));
                let url = url::Url::parse(&reference.manifest_url("https", reference.digest())).unwrap();
                let path = format!("/v2/{}/manifests/{DIGEST}", reference.repository());
                prop_assert_eq!(url.path(), path);
                let registry = reference.registry();
                let host = registry.strip_suffix(":443").unwrap_or(registry);
                prop_assert_eq!(url.authority(), host);
            }
        }

        #[test]
        fn no_text_upsets_it(text in "(oci://)?.{0,40}") {
            let _ = text.parse::<Reference>();
        }
    }
}
