//! Certificates for the server: valid ones, and invalid ones of each kind.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// An authority that signs what the tests need.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "cni-keeper test authority");
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What goes into `fetch.caFile`.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's identity for these names, valid now.
    pub(crate) fn server(&self, names: &[&str]) -> ServerConfig {
        self.sign(&Self::params(names))
    }

    /// A server's identity that expired long ago.
    pub(crate) fn expired_server(&self, names: &[&str]) -> ServerConfig {
        let mut params = Self::params(names);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    /// A server's identity that is an authority's.
    pub(crate) fn server_as_authority(&self, names: &[&str]) -> ServerConfig {
        let mut params = Self::params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.sign(&params)
    }

    /// A server's identity that is for clients only.
    pub(crate) fn server_for_clients(&self, names: &[&str]) -> ServerConfig {
        let mut params = Self::params(names);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A server's identity; it refuses clients without a certificate of `clients`.
    pub(crate) fn mutual_server(&self, names: &[&str], clients: &Self) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(clients.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let (chain, key) = self.identity(&Self::params(names));
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap()
    }

    /// A certificate for a client that holds this key, both PEM.
    pub(crate) fn client(&self, key: &KeyPair) -> String {
        let params = Self::params(&["client"]);
        params.signed_by(key, &self.0).unwrap().pem()
    }

    /// A server's certificate for these names and its key, valid now.
    pub(crate) fn pair(&self, names: &[&str]) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = Self::params(names).signed_by(&key, &self.0).unwrap();
        (certificate, key)
    }

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateParams::new(names).unwrap()
    }

    fn sign(&self, params: &CertificateParams) -> ServerConfig {
        let (chain, key) = self.identity(params);
        let provider = rustls::crypto::ring::default_provider();
        ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn identity(
        &self,
        params: &CertificateParams,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }
}
