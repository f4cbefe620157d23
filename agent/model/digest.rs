//! Digests: the pin an operator gives for an artifact, and the digest of a file's content.

use std::fmt;
use std::str::FromStr;

use base16ct::HexDisplay;

use super::serde_as_text::serde_as_text;

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text has the wrong number of characters; `want` is the number for the algorithm.
    #[error("a {algorithm} digest has {want} hexadecimal digits, this has {got}")]
    Length {
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// Digits expected.
        want: usize,
        /// Characters found.
        got: usize,
    },
    /// A character that is not `0-9a-fA-F`.
    #[error("'{0}' is not a hexadecimal digit")]
    NotHex(char),
}

/// The SHA-256 digest of a file's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Wraps the 32 bytes that a hasher gave.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest of what is in memory.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(<sha2::Sha256 as sha2::Digest>::digest(content).into())
    }

    /// The first twelve digits, for people. Never compare them.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(12);
        hex
    }
}

/// The digest that an operator pinned for a whole artifact (archive or raw file), as downloaded.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pin {
    /// SHA-256 of the artifact.
    Sha256([u8; 32]),
    /// SHA-512 of the artifact.
    Sha512([u8; 64]),
}

impl Pin {
    /// Reads the 64 hexadecimal digits of a SHA-256 pin.
    ///
    /// # Errors
    /// When the text has another length or another character.
    pub fn sha256(hex: &str) -> Result<Self, DigestError> {
        decode_hex("sha256", hex).map(Self::Sha256)
    }

    /// Reads the 128 hexadecimal digits of a SHA-512 pin.
    ///
    /// # Errors
    /// When the text has another length or another character.
    pub fn sha512(hex: &str) -> Result<Self, DigestError> {
        decode_hex("sha512", hex).map(Self::Sha512)
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        }
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", HexDisplay(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(hex: &str) -> Result<Self, DigestError> {
        decode_hex("sha256", hex).map(Self)
    }
}

serde_as_text!(Sha256);

/// `sha256:…` or `sha512:…`: the form used in messages and in the ledger.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        };
        write!(f, "{}:{:x}", self.algorithm(), HexDisplay(bytes))
    }
}

impl serde::Serialize for Pin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Pin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let pin = match text.split_once(':') {
            Some(("sha256", hex)) => Self::sha256(hex),
            Some(("sha512", hex)) => Self::sha512(hex),
            _ => return Err(serde::de::Error::custom("neither sha256:… nor sha512:…")),
        };
        pin.map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decode_hex<const N: usize>(algorithm: &'static str, hex: &str) -> Result<[u8; N], DigestError> {
    let mut bytes = [0; N];
    if base16ct::mixed::decode(hex, &mut bytes).is_ok_and(|decoded| decoded.len() == N) {
        return Ok(bytes);
    }
    Err(match hex.chars().find(|c| !c.is_ascii_hexdigit()) {
        Some(stranger) => DigestError::NotHex(stranger),
        None => DigestError::Length {
            algorithm,
            want: 2 * N,
            got: hex.len(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_in_either_case() {
        let lower = "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";
        let digest: Sha256 = lower.to_uppercase().parse().unwrap();
        assert_eq!(digest.to_string(), lower);
        assert_eq!(
            Pin::sha256(lower).unwrap().to_string(),
            format!("sha256:{lower}")
        );
    }

    #[test]
    fn a_wrong_length_and_a_wrong_digit_are_distinguished() {
        assert_eq!(
            Pin::sha512("ab").unwrap_err().to_string(),
            "a sha512 digest has 128 hexadecimal digits, this has 2"
        );
        assert_eq!(
            "é".repeat(32).parse::<Sha256>(),
            Err(DigestError::NotHex('é'))
        );
    }
}
