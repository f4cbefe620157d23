//! The certificate and key that show a server who asks.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A client's certificate with those that lead to its authority, and its key.
pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn parse_certificate_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("no CERTIFICATE block in it; it must be PEM, the client's own first".to_owned()),
    }
}

/// The parser's own message may show a line of the file, and that line is a secret.
pub(super) fn parse_private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let marks = [&b"BEGIN ENCRYPTED"[..], b"Proc-Type: 4,ENCRYPTED"];
        let is_encrypted = marks
            .iter()
            .any(|mark| pem.windows(mark.len()).any(|part| part == *mark));
        match is_encrypted {
            true => "the key in it is encrypted; write it without a passphrase",
            false => "no private key in it; it must be PEM: PKCS #8, SEC 1 or PKCS #1",
        }
        .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_or_certificate_is_reported_without_showing_it() {
        let block =
            |label: &str| format!("-----BEGIN {label}-----\nc2VjcmV0\n-----END {label}-----\n");
        for (pem, word) in [
            (String::new(), "no private key"),
            ("secret".to_owned(), "no private key"),
            (block("CERTIFICATE"), "no private key"),
            (block("ENCRYPTED PRIVATE KEY"), "encrypted"),
            (
                "-----BEGIN PRIVATE KEY\nsecret".to_owned(),
                "no private key",
            ),
        ] {
            let why = parse_private_key(pem.as_bytes()).unwrap_err();
            assert!(why.contains(word), "{pem}: {why}");
            assert!(!why.contains("secret"), "{why}");
        }
        for pem in ["", "secret", "-----BEGIN CERTIFICATE\nsecret"] {
            assert!(parse_certificate_chain(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
