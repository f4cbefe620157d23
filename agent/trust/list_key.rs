//! The minisign key of a pin list, and the verification of a list.
//!
//! <https://jedisct1.github.io/minisign/> describes keys and signatures.

use std::fmt;
use std::str::FromStr;

use base16ct::HexDisplay;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{Error, PublicKey, Signature};

use super::error::VerificationError;

/// Where the ID of the key is in a key and in a signature: behind the two bytes that name the algorithm.
const ID: std::ops::Range<usize> = 2..10;

/// A minisign public key.
#[derive(Clone, PartialEq, Eq)]
pub struct ListKey {
    key: PublicKey,
    bytes: Vec<u8>,
}

/// The text is not a minisign public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a minisign public key; copy the line of minisign.pub that begins with RW, and nothing from minisign.key"
)]
pub struct ListKeyError;

impl ListKey {
    /// The key's ID as minisign prints it: 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        format_id(&self.bytes)
    }

    /// Checks that the key's owner signed this list and its trusted comment. Both kinds of signature are
    /// accepted: over the list's BLAKE2b hash, and over the list itself as older releases made them.
    ///
    /// # Errors
    /// When the signature does not match.
    pub fn verify(&self, list: &[u8], signature: &[u8]) -> Result<(), VerificationError> {
        let text = str::from_utf8(signature).map_err(|_| VerificationError::NotAListSignature)?;
        let signature =
            Signature::decode(text).map_err(|_| VerificationError::NotAListSignature)?;
        self.key
            .verify(list, &signature, true)
            .map_err(|error| match error {
                Error::UnexpectedKeyId => VerificationError::OtherKey {
                    expected: self.id(),
                    found: signing_key_id(text),
                },
                _ => VerificationError::ListChanged,
            })
    }
}

/// The ID of the key that made a signature, which the library has decoded before.
fn signing_key_id(signature: &str) -> String {
    let line = signature.lines().nth(1).unwrap_or_default();
    format_id(&STANDARD.decode(line).unwrap_or_default())
}

/// The ID in a key or a signature. minisign prints it as a number, the last byte first.
fn format_id(bytes: &[u8]) -> String {
    let id: Vec<u8> = bytes
        .get(ID)
        .unwrap_or_default()
        .iter()
        .rev()
        .copied()
        .collect();
    format!("{:X}", HexDisplay(&id))
}

impl FromStr for ListKey {
    type Err = ListKeyError;

    /// Accepts the key alone, or the whole file of two lines. No message contains the text, because it may be the
    /// private key.
    fn from_str(text: &str) -> Result<Self, ListKeyError> {
        let line = text.trim().lines().last().unwrap_or_default();
        Ok(Self {
            key: PublicKey::from_base64(line).map_err(|_| ListKeyError)?,
            bytes: STANDARD.decode(line).map_err(|_| ListKeyError)?,
        })
    }
}

/// The key as minisign prints it.
impl fmt::Display for ListKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.bytes))
    }
}

impl fmt::Debug for ListKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by minisign 0.11 over "hi\n".
    const KEY: &str = "RWRE04opxnJydroYAtHyxBfvAYHbAspattvwHiAiqQvrYWgxkGIC5QOq";
    const HASHED: &str = "untrusted comment: signature from minisign secret key
RURE04opxnJydpS4aeBqY/5uzsjyojUvtDtrvz8lXpTR0kKzT69/YQAtGM3G1mz7YeGy71Ar/GK8hBJMAYDxOPF1BuZMN9TwyAY=
trusted comment: trusted words
z5/8Y2X2zGPxNdkJPdLDB+0/FLPZ0d70IUaCq3IUaQ1c1Vse5HxfB/DwIgN7CZ07TD7aGjJ2WVJFwm+VTGotBg==
";
    const PLAIN: &str = "untrusted comment: signature from minisign secret key
RWRE04opxnJydsWC+bcHRidYaEB9dJ8BHbQvdmJf0jJ0TFXSK2iKVBxlY2w1PdICfHcpI0pDzXzjgXaWJ21NJj/5UxdAgjGOUAw=
trusted comment: x y
k40KPDhRpVFgqQvyaklxi+Kg3O6mf8N1RovSb0hWpiEjX3jR8pnJ1BDMiWVyeD7ScrTLz7M4ffQvTpsONuIcAg==
";

    fn verify(list: &str, signature: &str) -> Result<(), VerificationError> {
        let key: ListKey = KEY.parse().unwrap();
        key.verify(list.as_bytes(), signature.as_bytes())
    }

    #[test]
    fn both_kinds_of_signature_are_taken() {
        assert_eq!(verify("hi\n", HASHED), Ok(()));
        assert_eq!(verify("hi\n", PLAIN), Ok(()));
    }

    #[test]
    fn another_list_signature_or_key_is_refused() {
        for signature in [HASHED, PLAIN] {
            assert_eq!(
                verify("ho\n", signature),
                Err(VerificationError::ListChanged)
            );
        }
        let other_comment = HASHED.replace("trusted words", "other words");
        let mixed = HASHED.replace("z5/8", "z6/8");
        let other_signature = HASHED.replace("pS4ae", "pS4af");
        for changed in [other_comment, mixed, other_signature] {
            assert_ne!(changed, HASHED);
            assert_eq!(
                verify("hi\n", &changed),
                Err(VerificationError::ListChanged)
            );
        }
        let other_key = HASHED.replace("RURE04op", "RURE04oq");
        assert_eq!(
            verify("hi\n", &other_key),
            Err(VerificationError::OtherKey {
                expected: "767272C6298AD344".to_owned(),
                found: "767272C62A8AD344".to_owned(),
            })
        );
        let unknown_algorithm = HASHED.replace("RURE04op", "RUZE04op");
        for none in ["", "<html>\n<p>\nplease\nlog in", &unknown_algorithm] {
            assert_eq!(
                verify("hi\n", none),
                Err(VerificationError::NotAListSignature)
            );
        }
    }

    #[test]
    fn a_key_is_read_alone_and_as_a_file_and_is_never_repeated() {
        let file = format!("untrusted comment: minisign public key 767272C6298AD344\n{KEY}\n");
        for text in [KEY, &file] {
            let key: ListKey = text.parse().unwrap();
            assert_eq!(key.id(), "767272C6298AD344");
            assert_eq!(key.to_string(), KEY);
        }
        for bad in ["", "RWQ", &KEY[1..], "-----BEGIN PUBLIC KEY-----"] {
            assert_eq!(bad.parse::<ListKey>(), Err(ListKeyError), "{bad}");
        }
    }
}
