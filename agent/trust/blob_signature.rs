//! Signatures over an artifact, made with a key: as `cosign sign-blob --key` and `openssl dgst -sha256 -sign` do.
//!
//! ECDSA over P-256 signs the SHA-256 of the artifact, which is its pin. A signature is therefore verified before anything
//! is downloaded.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{DecodePublicKey as _, SubjectPublicKeyInfoRef};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::VerificationError;
use crate::model::{Pin, Sha256};

/// The object identifier of the curve P-256.
const P256: &str = "1.2.840.10045.3.1.7";

/// Kinds of keys that are common and not supported, by their object identifiers: of the algorithm, or of the curve
/// for ECDSA.
const OTHER_KINDS: [(&str, &str); 5] = [
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.132.0.34", "ECDSA over P-384"),
    ("1.3.132.0.35", "ECDSA over P-521"),
    ("1.3.132.0.10", "ECDSA over secp256k1"),
];

/// The public key for the signature of an artifact: ECDSA over P-256.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobKey {
    key: VerifyingKey,
    fingerprint: Sha256,
}

/// A signature, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobSignature(Signature);

/// Why a text is not such a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobKeyError {
    #[error(
        "this is a private key, which must not be here: remove it, and replace the key pair, because others may have read it; write the public key, as cosign public-key and openssl ec -pubout print it"
    )]
    Private,
    #[error(
        "this is not a public key in PEM; write the lines from -----BEGIN PUBLIC KEY----- on, after a |"
    )]
    NotPem,
    #[error(
        "this is a key of the kind {0}; only ECDSA over P-256 is supported, which cosign generate-key-pair makes"
    )]
    Kind(&'static str),
}

impl BlobKey {
    /// The SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub const fn fingerprint(&self) -> &Sha256 {
        &self.fingerprint
    }

    /// Checks that the key's owner signed the artifact with this digest.
    ///
    /// # Errors
    /// When the signature does not match, or the digest is not a SHA-256.
    pub fn verify(&self, pin: &Pin, signed: &BlobSignature) -> Result<(), VerificationError> {
        let Pin::Sha256(digest) = pin else {
            return Err(VerificationError::NotSha256(*pin));
        };
        self.key.verify_prehash(digest, &signed.0).map_err(|_| {
            VerificationError::OtherBlobSignature {
                pin: *pin,
                key: self.to_string(),
            }
        })
    }
}

impl BlobSignature {
    /// Reads the content of a signature file.
    ///
    /// # Errors
    /// When the content is not DER in base64.
    pub fn from_file(bytes: &[u8]) -> Result<Self, VerificationError> {
        let text = str::from_utf8(bytes).map_err(|_| {
            VerificationError::NotABlobSignature("it is not in base64; encode it with base64")
        })?;
        text.parse()
    }
}

impl FromStr for BlobSignature {
    type Err = VerificationError;

    fn from_str(text: &str) -> Result<Self, VerificationError> {
        let text: String = text.split_whitespace().collect();
        if text.starts_with('{') {
            return Err(VerificationError::NotABlobSignature(
                "it is a bundle; have cosign write the signature alone, with --output-signature",
            ));
        }
        let der = STANDARD
            .decode(text)
            .map_err(|_| VerificationError::NotABlobSignature("it is not in base64"))?;
        let signature = Signature::from_der(&der).map_err(|_| {
            VerificationError::NotABlobSignature("it is not an ECDSA signature in DER")
        })?;
        Ok(Self(signature))
    }
}

impl FromStr for BlobKey {
    type Err = BlobKeyError;

    /// No message contains the text, because it may be the private key.
    fn from_str(text: &str) -> Result<Self, BlobKeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(BlobKeyError::Private);
        }
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|_| BlobKeyError::NotPem)?;
        let key = VerifyingKey::from_public_key_der(&info)
            .map_err(|_| name_kind(&info).map_or(BlobKeyError::NotPem, BlobKeyError::Kind))?;
        Ok(Self {
            key,
            fingerprint: Sha256::of(&info),
        })
    }
}

/// The kind of a key that is not supported; `None` for a damaged P-256 key and for what is not a key.
fn name_kind(info: &[u8]) -> Option<&'static str> {
    let algorithm = SubjectPublicKeyInfoRef::try_from(info).ok()?.algorithm;
    let curve = algorithm.parameters_oid().ok();
    let oid = curve.unwrap_or(algorithm.oid).to_string();
    let known = OTHER_KINDS.iter().find(|(other, _)| *other == oid);
    match known {
        Some((_, name)) => Some(name),
        None => (oid != P256).then_some("unknown"),
    }
}

/// `sha256:` and the first digits of its fingerprint.
impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.fingerprint.short())
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
            let signed = BlobSignature::from_file(wrapped.as_bytes()).unwrap();
            assert_eq!(key.verify(&pin("hi\n"), &signed), Ok(()));
            let reported = key.verify(&pin("ho\n"), &signed).unwrap_err();
            assert!(
                matches!(reported, VerificationError::OtherBlobSignature { .. }),
                "{reported}"
            );
            let long = Pin::Sha512([0; 64]);
            assert_eq!(
                key.verify(&long, &signed),
                Err(VerificationError::NotSha256(long))
            );
        }
    }

    #[test]
    fn a_text_that_is_no_signature_is_reported_as_such() {
        for (text, word) in [
            (&b"\x30\x44\xff"[..], "base64"),
            (b"<html>", "base64"),
            (b"{\"base64Signature\":\"x\"}", "bundle"),
            (b"aGk=", "DER"),
            (b"", "DER"),
        ] {
            let reported = BlobSignature::from_file(text).unwrap_err();
            assert!(reported.to_string().contains(word), "{reported}");
            assert_eq!(reported.kind(), crate::model::FailureKind::Signature);
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
                "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAOWukXm8DFq/7Q4XcTPGqv3RITtUIdXH
DXBY6mMP7cjotm5Kfr0rFbXbnCwvM8UN5qswHEaemDGsdqO04K1BNFECAwEAAQ==",
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
            ("aGk=", "not a public key in PEM"),
            // Of the right kind, and no point of the curve; then with bytes behind it.
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0A==",
                "not a public key in PEM",
            ),
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0QAA",
                "not a public key in PEM",
            ),
        ] {
            let reported = refused(body);
            assert!(reported.contains(name), "{reported}");
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
