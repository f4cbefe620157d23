//! PEM: the certificates of authorities, and the certificate and key that show a server who asks. No message repeats
//! what stands in a file.

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A client's certificate with those that lead to its authority, and its key.
pub(super) type ClientIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads every certificate of a PEM text, of which there must be at least one.
pub(super) fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        certificates.push(certificate.map_err(|error| explain_pem_error(&error).to_owned())?);
    }
    match certificates.is_empty() {
        false => Ok(certificates),
        true if has_text(pem, b"PRIVATE KEY-----") => {
            Err("it holds a private key and no certificate".to_owned())
        }
        true => Err("no CERTIFICATE block in it".to_owned()),
    }
}

/// What is wrong with a PEM text. The parser's own message repeats parts of the text, which may be a secret and long.
const fn explain_pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a block in it has no end; -----BEGIN …-----, -----END …----- and what is between are on lines of their own"
        }
        pem::Error::IllegalSectionStart { .. } => "a line with -----BEGIN in it is malformed",
        pem::Error::Base64Decode(_) => "a block in it is not base64",
        _ => "it cannot be parsed",
    }
}

/// The parser's own message may show a line of the file, and that line is a secret.
pub(super) fn parse_private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let marks = [&b"BEGIN ENCRYPTED"[..], b"Proc-Type: 4,ENCRYPTED"];
        match marks.iter().any(|mark| has_text(pem, mark)) {
            true => "the key in it is encrypted; write it without a passphrase",
            false => "no private key in it; it must be PEM: PKCS #8, SEC 1 or PKCS #1",
        }
        .to_owned()
    })
}

fn has_text(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|here| here == part)
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
            assert!(parse_certificates(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
