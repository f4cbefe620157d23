//! The HTTP client: HTTP/1.1, rustls with ring, the system's authorities and the operator's own.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Proxy};
use rustls::{ClientConfig, RootCertStore};

use super::client_certificate::{ClientIdentity, parse_certificates};
use super::error::HttpError;
use super::error_chain::innermost_message;
use super::proxy::ProxySettings;
use super::system_roots::load_system_roots;
use crate::model::quote_error;

/// Builds a client for one download; it is dropped with it, and its memory with it.
pub(super) fn download_client(
    connect_timeout: Duration,
    tls: ClientConfig,
    proxies: Arc<ProxySettings>,
) -> Result<Client, HttpError> {
    // A proxy that cannot be used does not get here: `HttpClients::request` reports it.
    let proxy = Proxy::custom(move |url| proxies.proxy_for(url).ok().flatten().cloned());
    build_client(client_builder(connect_timeout, tls).proxy(proxy))
}

/// Builds a client for what is on this node: as for a download, but past any proxy.
///
/// # Errors
/// When TLS cannot be set up.
pub fn local_client(connect_timeout: Duration) -> Result<Client, HttpError> {
    let tls = tls_config(load_roots(None)?, None).map_err(setup_error)?;
    build_client(client_builder(connect_timeout, tls).no_proxy())
}

/// Builds a client for an API server, which trusts the authorities in `ca`, a PEM file's content, and no others: any
/// of the system's could otherwise have a token of ours.
///
/// `proxied` lets the proxies of the environment stand between, as far as `NO_PROXY` does not except the server.
///
/// # Errors
/// [`HttpError::CaFile`] when there is no certificate in `ca`; [`HttpError::Setup`] when TLS cannot be set up.
pub fn api_client(
    connect_timeout: Duration,
    ca: &[u8],
    proxied: bool,
) -> Result<Client, HttpError> {
    let mut roots = RootCertStore::empty();
    add_certificates(&mut roots, ca)?;
    let client = client_builder(
        connect_timeout,
        tls_config(roots, None).map_err(setup_error)?,
    );
    build_client(match proxied {
        true => client,
        false => client.no_proxy(),
    })
}

/// The TLS settings: the authorities to trust, and the client certificate.
///
/// # Errors
/// When certificate and key do not belong together, or are of no kind that can be used.
pub(super) fn tls_config(
    roots: impl Into<Arc<RootCertStore>>,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let begun = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match identity {
        Some((chain, key)) => begun.with_client_auth_cert(chain, key),
        None => Ok(begun.with_no_client_auth()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be handed to map_err")]
fn setup_error(error: rustls::Error) -> HttpError {
    HttpError::Setup(quote_error(&error))
}

fn build_client(client: ClientBuilder) -> Result<Client, HttpError> {
    client
        .build()
        .map_err(|error| HttpError::Setup(innermost_message(&error)))
}

fn client_builder(connect_timeout: Duration, tls: ClientConfig) -> ClientBuilder {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("cni-keeper/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .connect_timeout(connect_timeout)
        // Redirects are followed by our own rules, and no server is told where a redirect came from.
        .redirect(Policy::none())
        .referer(false)
}

/// The authorities to trust; `extra` is the content of `fetch.caFile`. Single bad certificates among the system's are skipped, as everywhere; the
/// operator's own must all be good.
pub(super) fn load_roots(extra: Option<&[u8]>) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(load_system_roots()?);
    if let Some(pem) = extra {
        add_certificates(&mut roots, pem)?;
    }
    Ok(roots)
}

/// Adds every certificate of a PEM text, of which there is at least one.
fn add_certificates(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), HttpError> {
    let certificates = parse_certificates(pem).map_err(HttpError::CaFile)?;
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|_| {
            let number = index + 1;
            HttpError::CaFile(format!("certificate {number} in it is damaged or no X.509"))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in ["", "not PEM", block] {
            assert!(
                matches!(load_roots(Some(pem.as_bytes())), Err(HttpError::CaFile(_))),
                "{pem:?}"
            );
        }
    }
}
