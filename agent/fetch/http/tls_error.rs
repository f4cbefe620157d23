//! What went wrong with TLS, in the words an operator needs.

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::model::{FailureKind, quote_error};

/// How an error of rustls counts.
pub(super) fn tls_failure_kind(error: &rustls::Error) -> FailureKind {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                FailureKind::TlsUnknownCa
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => FailureKind::TlsExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                FailureKind::TlsName
            }
            _ => FailureKind::Tls,
        },
        _ => FailureKind::Tls,
    }
}

/// The same in an operator's words.
pub(super) fn explain_tls_error(error: &rustls::Error, host: &str) -> String {
    // It lists the names of a foreign certificate.
    let quoted = quote_error(error);
    match tls_failure_kind(error) {
        FailureKind::TlsUnknownCa => format!(
            "the certificate of {host} comes from no authority trusted here; put that authority's PEM under fetch.caFile"
        ),
        FailureKind::TlsExpired => format!(
            "the certificate of {host} is not valid now; check this node's clock, then have it renewed ({quoted})"
        ),
        FailureKind::TlsName => format!(
            "the certificate is not for {host}; use a name in it as the source's host ({quoted})"
        ),
        _ => match error {
            rustls::Error::InvalidCertificate(certificate) => format!(
                "the certificate of {host} cannot be used: {}",
                explain_certificate(certificate, &quoted)
            ),
            rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => format!(
                "{host} asks for a client certificate; give it one under fetch.access (certFile, keyFile)"
            ),
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied),
            ) => format!(
                "{host} refuses the client certificate it was shown ({alert:?}); check the one under fetch.access"
            ),
            rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => format!(
                "{host} ends the handshake; if it asks for a client certificate, give it one under fetch.access (certFile, keyFile)"
            ),
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => format!(
                "{host} does not speak TLS there; write http:// for a mirror, and for a registry plainHttp: true under fetch.access"
            ),
            _ => format!("TLS with {host} failed: {quoted}"),
        },
    }
}

/// What is wrong with a certificate whose authority, time and name are right, and what to do. `quoted` is the library's
/// text. Its names are those of `webpki::Error`, which rustls passes on.
fn explain_certificate(certificate: &CertificateError, quoted: &str) -> String {
    const BY_NAME: [(&str, &str); 7] = [
        (
            "CaUsedAsEndEntity",
            "it is an authority's own (CA:TRUE); have the server use a certificate of its own that this authority signed \
             (basicConstraints CA:FALSE), and keep the authority's for fetch.caFile",
        ),
        (
            "EndEntityUsedAsCa",
            "a certificate that is no authority's (CA:FALSE) has signed another one; have the server's signed by an \
             authority, and put that one under fetch.caFile",
        ),
        (
            "UnsupportedCertVersion",
            "it has an old version; issue it as X.509 v3, with subjectAltName",
        ),
        (
            "NameConstraintViolation",
            "its authority may not sign for that name; have another authority sign it",
        ),
        (
            "PathLenConstraintViolated",
            "there are more authorities in its chain than one of them allows; have it signed by a higher one",
        ),
        (
            "ExtensionValueInvalid",
            "an extension of it is malformed; have it issued anew",
        ),
        (
            "MaximumPathDepthExceeded",
            "its chain has too many authorities; have the server send only those between it and the one under fetch.caFile",
        ),
    ];
    let known = BY_NAME.iter().find(|(name, _)| quoted.contains(name));
    let fix = match certificate {
        CertificateError::Revoked => "its authority has revoked it; have a new one issued",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers; issue it with extendedKeyUsage serverAuth"
        }
        CertificateError::BadEncoding => "it is damaged; have it issued anew",
        CertificateError::UnhandledCriticalExtension => {
            "it has a critical extension that is unknown here; issue it without"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed in an outdated or rare way; sign it with ECDSA (P-256, P-384) or RSA and SHA-256 or higher"
        }
        _ => known.map_or("have it issued anew", |(_, fix)| fix),
    };
    format!("{fix} ({quoted})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_trouble_has_a_reason_each() {
        let kind = |error| tls_failure_kind(&rustls::Error::InvalidCertificate(error));
        assert_eq!(
            kind(CertificateError::UnknownIssuer),
            FailureKind::TlsUnknownCa
        );
        assert_eq!(kind(CertificateError::Expired), FailureKind::TlsExpired);
        assert_eq!(kind(CertificateError::NotValidYet), FailureKind::TlsExpired);
        assert_eq!(
            kind(CertificateError::NotValidForName),
            FailureKind::TlsName
        );
        assert_eq!(kind(CertificateError::Revoked), FailureKind::Tls);
        assert_eq!(
            tls_failure_kind(&rustls::Error::DecryptError),
            FailureKind::Tls
        );
    }

    #[test]
    fn every_certificate_error_says_what_to_do() {
        let webpki = |name: &'static str| {
            CertificateError::Other(rustls::OtherError(std::sync::Arc::new(
                std::io::Error::other(name),
            )))
        };
        for (error, fix) in [
            (webpki("CaUsedAsEndEntity"), "CA:FALSE"),
            (webpki("EndEntityUsedAsCa"), "fetch.caFile"),
            (webpki("UnsupportedCertVersion"), "X.509 v3"),
            (webpki("SomethingNew"), "have it issued anew (invalid"),
            (CertificateError::Revoked, "have a new one issued"),
            (CertificateError::InvalidPurpose, "serverAuth"),
            (
                CertificateError::UnhandledCriticalExtension,
                "issue it without",
            ),
        ] {
            let text = explain_tls_error(&rustls::Error::InvalidCertificate(error), "host");
            assert!(
                text.contains("of host cannot be used: ") && text.contains(fix),
                "{text}"
            );
        }
    }

    #[test]
    fn a_server_that_wants_credentials_differs_from_one_that_rejects_them() {
        let text = |alert| explain_tls_error(&rustls::Error::AlertReceived(alert), "host");
        for (alert, word) in [
            (
                AlertDescription::CertificateRequired,
                "asks for a client certificate",
            ),
            (
                AlertDescription::UnknownCA,
                "refuses the client certificate",
            ),
            (
                AlertDescription::CertificateExpired,
                "refuses the client certificate",
            ),
            (
                AlertDescription::HandshakeFailure,
                "if it asks for a client certificate",
            ),
        ] {
            assert!(text(alert).contains(word), "{alert:?}: {}", text(alert));
        }
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert!(explain_tls_error(&plain, "host").contains("plainHttp"));
        let other = text(AlertDescription::InternalError);
        assert!(!other.contains("client certificate"), "{other}");
    }
}
