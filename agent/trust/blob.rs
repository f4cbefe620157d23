//! Signatures over an artifact, made with a key: as `cosign sign-blob --key` and `openssl dgst -sha256 -sign` do.
//!
//! ECDSA over P-256 signs the SHA-256 of the artifact, which is its pin: so a signature is verified before anything
//! is downloaded.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use super::distrust::Distrust;
use crate::model::{Pin, Sha256};

/// `id-ecPublicKey` with `prime256v1`, as a SubjectPublicKeyInfo begins (RFC 5480, 2.1.1).
const P256: [u8; 21] = [
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// The object identifiers of keys that people have, and that are not read.
const OTHERS: [(&[u8], &str); 5] = [
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01],
        "RSA",
    ),
    (&[0x2b, 0x65, 0x70], "Ed25519"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], "ECDSA over P-384"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "ECDSA over P-521"),
    (&[0x2b, 0x81, 0x04, 0x00, 0x0a], "ECDSA over secp256k1"),
];

/// The public key of whoever signs an artifact: ECDSA over P-256.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobKey {
    key: VerifyingKey,
    print: Sha256,
}

/// A signature, not yet compared with anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed(Signature);

/// Why a text is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobKeyError {
    /// The other half of the pair.
    #[error(
        "this is a private key, which has no business here: take it out, and treat it as known to others; write the public one, as cosign public-key and openssl ec -pubout print it"
    )]
    Private,
    /// No PEM at all.
    #[error(
        "this is no public key in PEM; write the lines from -----BEGIN PUBLIC KEY----- on, behind a |"
    )]
    NotPem,
    /// A key of another kind.
    #[error(
        "this is a key of the kind {0}; only ECDSA over P-256 is read, which is what cosign generate-key-pair makes"
    )]
    Kind(&'static str),
}

impl BlobKey {
    /// What the key is known by: the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub const fn print(&self) -> &Sha256 {
        &self.print
    }

    /// Whether the artifact with this digest is what the key's owner signed.
    ///
    /// # Errors
    /// When it is not, or the digest is no SHA-256.
    pub fn verify(&self, pin: &Pin, signed: &Signed) -> Result<(), Distrust> {
        let Pin::Sha256(digest) = pin else {
            return Err(Distrust::NotSha256(*pin));
        };
        self.key
            .verify_prehash(digest, &signed.0)
            .map_err(|_| Distrust::BlobSignature {
                pin: *pin,
                key: self.to_string(),
            })
    }
}

impl Signed {
    /// Reads the content of a signature file.
    ///
    /// # Errors
    /// When it is anything but DER in base64.
    pub fn read(bytes: &[u8]) -> Result<Self, Distrust> {
        let text = str::from_utf8(bytes).map_err(|_| {
            Distrust::NoBlobSignature("it is not in base64; pass it through base64")
        })?;
        text.parse()
    }
}

impl FromStr for Signed {
    type Err = Distrust;

    fn from_str(text: &str) -> Result<Self, Distrust> {
        let text: String = text.split_whitespace().collect();
        if text.starts_with('{') {
            return Err(Distrust::NoBlobSignature(
                "it is a bundle; have cosign write the signature alone, with --output-signature",
            ));
        }
        let der = STANDARD
            .decode(text)
            .map_err(|_| Distrust::NoBlobSignature("it is not in base64"))?;
        let signature = Signature::from_der(&der)
            .map_err(|_| Distrust::NoBlobSignature("it is no ECDSA signature in DER"))?;
        Ok(Self(signature))
    }
}

impl FromStr for BlobKey {
    type Err = BlobKeyError;

    /// The text never enters a message: it may be the wrong half of the pair.
    fn from_str(text: &str) -> Result<Self, BlobKeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(BlobKeyError::Private);
        }
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| BlobKeyError::NotPem)?;
        let kind = || BlobKeyError::Kind(kind_of(&info));
        let point = point(&info).ok_or_else(kind)?;
        Ok(Self {
            key: VerifyingKey::from_sec1_bytes(point).map_err(|_| BlobKeyError::NotPem)?,
            print: Sha256::of(&info),
        })
    }
}

/// The point of a P-256 key; `None` for any other kind. All of it fits in lengths of one byte.
fn point(info: &[u8]) -> Option<&[u8]> {
    let [0x30, length, rest @ ..] = info else {
        return None;
    };
    let [0x03, bits, 0x00, point @ ..] = rest.strip_prefix(&P256)? else {
        return None;
    };
    let whole = usize::from(*length) == rest.len() && usize::from(*bits) == point.len() + 1;
    whole.then_some(point)
}

fn kind_of(info: &[u8]) -> &'static str {
    // The identifier stands near the beginning, behind some lengths.
    let head = info.get(..32).unwrap_or(info);
    let is_in = |oid: &[u8]| head.windows(oid.len()).any(|window| window == oid);
    let known = OTHERS.iter().find(|(oid, _)| is_in(oid));
    known.map_or("unknown", |(_, name)| name)
}

/// `sha256:` and the first digits of its print.
impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.print.short())
    }
}

impl fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by openssl 3 over "hi\n".
    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0Q==
-----END PUBLIC KEY-----
";
    const COMPRESSED: &str = "-----BEGIN PUBLIC KEY-----
MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgADoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU=
-----END PUBLIC KEY-----
";
    const SIGNATURE: &str = "MEQCICWSMI0V/8Gz442AFwAVCKLz4QJcKvD0pdWUOKKT5r3RAiBZ3tsa1xqPXC47kNJhL19FH4Paber0HbxuKK1wGSAsdA==";

    fn pin(text: &str) -> Pin {
        Pin::sha256(&Sha256::of(text.as_bytes()).to_string()).unwrap()
    }

    #[test]
    fn a_signature_is_verified_over_the_digest_alone() {
        for key in [KEY, COMPRESSED] {
            let key: BlobKey = key.parse().unwrap();
            let wrapped = format!("{}\n{}\n", &SIGNATURE[..64], &SIGNATURE[64..]);
            let signed = Signed::read(wrapped.as_bytes()).unwrap();
            assert_eq!(key.verify(&pin("hi\n"), &signed), Ok(()));
            let told = key.verify(&pin("ho\n"), &signed).unwrap_err();
            assert!(matches!(told, Distrust::BlobSignature { .. }), "{told}");
            let long = Pin::Sha512([0; 64]);
            assert_eq!(key.verify(&long, &signed), Err(Distrust::NotSha256(long)));
        }
    }

    #[test]
    fn what_is_no_signature_is_told_as_such() {
        for (text, word) in [
            (&b"\x30\x44\xff"[..], "base64"),
            (b"<html>", "base64"),
            (b"{\"base64Signature\":\"x\"}", "bundle"),
            (b"aGk=", "DER"),
            (b"", "DER"),
        ] {
            let told = Signed::read(text).unwrap_err();
            assert!(told.to_string().contains(word), "{told}");
            assert_eq!(told.kind(), crate::model::FailureKind::Signature);
        }
    }

    fn refused(body: &str) -> String {
        let text = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        text.parse::<BlobKey>().unwrap_err().to_string()
    }

    #[test]
    fn keys_of_other_kinds_are_refused_by_name() {
        for (body, name) in [
            (
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEArRiNYQWKEvDIGC4nT2BH",
                "kind RSA;",
            ),
            (
                "MCowBQYDK2VwAyEAWwRcubdwmLTMlj/QOPXrtkmGtm73gi36HGoG2xkuBbw=",
                "kind Ed25519;",
            ),
            (
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEWaLeYNYYp6l/xP+hDocBPibLJvcPdpiE
vcOssORHmkkzvDFWDEGyigVnKXZKz1/sDJTgbzXpgBesQgWQ4GgFABjmCXwGYVBF
oremz09dlGbBGm6lmeYXD4JeXfU0fyWl",
                "kind ECDSA over P-384;",
            ),
            ("aGk=", "kind unknown;"),
            // Of the right kind, and no point of the curve; then with bytes behind it.
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0A==",
                "no public key in PEM",
            ),
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0QAA",
                "kind unknown;",
            ),
        ] {
            let told = refused(body);
            assert!(told.contains(name), "{told}");
        }
    }

    #[test]
    fn a_private_key_is_refused_and_never_repeated() {
        for kind in [
            "PRIVATE KEY",
            "EC PRIVATE KEY",
            "ENCRYPTED SIGSTORE PRIVATE KEY",
        ] {
            let text = format!("-----BEGIN {kind}-----\nc2VjcmV0\n-----END {kind}-----\n");
            assert_eq!(text.parse::<BlobKey>(), Err(BlobKeyError::Private));
        }
        assert_eq!("c2VjcmV0".parse::<BlobKey>(), Err(BlobKeyError::NotPem));
    }
}
