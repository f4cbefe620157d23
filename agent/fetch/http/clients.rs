//! The HTTP clients of a download: for each URL the right client certificate, headers and proxy.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use rustls::RootCertStore;

use super::client;
use super::client_certificate::{ClientIdentity, parse_certificates, parse_private_key};
use super::error::HttpError;
use super::headers::{header_text, parse_header_file};
use super::proxy::ProxySettings;
use super::reach::{is_internal, leads_inside, literal_address};
use super::redact::redact_foreign_url;
use super::redirect::{RedirectChain, RedirectError};
use super::system_roots::LARGEST_CA_FILE;
use crate::config;
use crate::fetch::local_files::FileSource;
use crate::model::quote_error;

/// The largest file of headers that is read, in bytes.
const LARGEST_HEADERS: u64 = 64 << 10;
/// The largest file with a certificate or key, in bytes; a chain of four has about 8 KiB.
const LARGEST_PEM: u64 = 1 << 20;

/// The clients of one download. What they read and build is dropped with the download: secrets may be replaced, and a
/// client's authorities take memory.
pub(in crate::fetch) struct HttpClients<'a> {
    settings: &'a config::FetchSettings,
    files: &'a dyn FileSource,
    proxies: Arc<ProxySettings>,
    /// Reading the system's authorities takes milliseconds.
    roots: OnceCell<Arc<RootCertStore>>,
    /// The client that shows no certificate.
    anonymous: OnceCell<Client>,
    /// One for each rule of `fetch.access`.
    rules: Vec<OnceCell<RuleAccess>>,
}

/// What a rule of `fetch.access` gives to a request.
struct RuleAccess {
    headers: HeaderMap,
    client: Option<Client>,
}

impl<'a> HttpClients<'a> {
    pub(in crate::fetch) fn new(
        settings: &'a config::FetchSettings,
        files: &'a dyn FileSource,
    ) -> Self {
        Self {
            settings,
            files,
            proxies: Arc::new(ProxySettings::from_env()),
            roots: OnceCell::new(),
            anonymous: OnceCell::new(),
            rules: settings.access.iter().map(|_| OnceCell::new()).collect(),
        }
    }

    /// Sends one request, of one hop: to the chain's current address.
    ///
    /// # Errors
    /// When a public server named an address of this machine or its network, no answer comes, or one from the proxy itself
    /// that asks for credentials.
    pub(in crate::fetch) async fn send(
        &self,
        request: RequestBuilder,
        chain: &RedirectChain,
    ) -> Result<Response, HttpError> {
        let url = chain.current();
        let proxy = self.proxy_for(url)?;
        let refuse = || RedirectError::Internal(redact_foreign_url(url));
        // A proxy resolves names itself.
        let is_known_here = proxy.is_none() || literal_address(url).is_some();
        if chain.is_public_only() && is_known_here && leads_inside(url).await {
            return Err(refuse().into());
        }
        let sent = request.send().await;
        let response = sent.map_err(|error| {
            let connect_timeout = self.settings.connect_timeout;
            match proxy {
                None => HttpError::before_answer(error, url, connect_timeout),
                Some(proxy) => HttpError::before_proxied_answer(error, url, proxy, connect_timeout),
            }
        })?;
        // The name may have got another address since.
        if chain.is_public_only() && !self.is_from_public(url, &response) {
            return Err(refuse().into());
        }
        match response.status().as_u16() {
            407 => Err(HttpError::from_status(&response).through_proxy(proxy)),
            _ => Ok(response),
        }
    }

    /// Moves the chain on to where a redirect points. From a public server it may not lead to this machine or its network,
    /// unless a rule of `fetch.access` names that address.
    ///
    /// # Errors
    /// [`RedirectError`] when it is not followed.
    pub(in crate::fetch) fn follow(
        &self,
        chain: &mut RedirectChain,
        response: &Response,
    ) -> Result<(), RedirectError> {
        let is_restricted =
            chain.is_public_only() || self.is_from_public(chain.current(), response);
        chain.follow(header_text(response.headers(), &LOCATION))?;
        chain.restrict(is_restricted && !self.is_named(chain.current()));
        Ok(())
    }

    /// Whether an address that this answer names must be a public one.
    pub(in crate::fetch) fn must_be_public(
        &self,
        from: &Url,
        response: &Response,
        to: &Url,
    ) -> bool {
        self.is_from_public(from, response) && !self.is_named(to)
    }

    fn is_named(&self, url: &Url) -> bool {
        self.settings.find_access_rule(url).is_some()
    }

    /// Whether an answer comes from outside of this machine and its network. Behind a proxy only the URL shows that.
    fn is_from_public(&self, url: &Url, response: &Response) -> bool {
        let is_proxied = !matches!(self.proxy_for(url), Ok(None));
        let address = match is_proxied {
            true => literal_address(url),
            false => response.remote_addr().map(|address| address.ip()),
        };
        match address {
            Some(address) => !is_internal(address),
            None => is_proxied,
        }
    }

    /// A request for `url`, of one hop: with what the rule for this very URL gives it, so that nothing of it goes to where
    /// a redirect leads.
    ///
    /// # Errors
    /// When a file of the rule cannot be used, or TLS cannot be set up.
    pub(in crate::fetch) fn request(
        &self,
        method: Method,
        url: &Url,
    ) -> Result<RequestBuilder, HttpError> {
        // Report a proxy that cannot be used before any file is read.
        self.proxy_for(url)?;
        let rule = match self.settings.find_access_rule(url) {
            Some(index) => Some(self.rule_access(index)?),
            None => None,
        };
        let client = match rule.and_then(|rule| rule.client.as_ref()) {
            Some(client) => client,
            None => get_or_try(&self.anonymous, || {
                self.new_client(None, |error| HttpError::Setup(quote_error(&error)))
            })?,
        };
        let request = client.request(method, url.clone());
        Ok(match rule {
            Some(rule) => request.headers(rule.headers.clone()),
            None => request,
        })
    }

    /// The proxy that a request to `url` goes through, if any.
    ///
    /// # Errors
    /// When the environment names one that cannot be used.
    pub(in crate::fetch) fn proxy_for(&self, url: &Url) -> Result<Option<&Url>, HttpError> {
        self.proxies.proxy_for(url)
    }

    fn rule_access(&self, index: usize) -> Result<&RuleAccess, HttpError> {
        get_or_try(&self.rules[index], || self.read_rule(index))
    }

    fn read_rule(&self, index: usize) -> Result<RuleAccess, HttpError> {
        let rule = &self.settings.access[index];
        let broken = |key: &str, path: &Path, why: String| HttpError::Access {
            key: format!("fetch.access[{index}].{key}"),
            path: path.display().to_string(),
            why,
        };
        let read = |key: &str, path: &Path, limit| {
            let content = self.files.read(path, limit);
            content.map_err(|error| broken(key, path, format!("it cannot be read: {error}")))
        };
        let headers = match &rule.headers_file {
            Some(path) => parse_header_file(&read("headersFile", path, LARGEST_HEADERS)?)
                .map_err(|why| broken("headersFile", path, why))?,
            None => HeaderMap::new(),
        };
        let client = match &rule.certificate {
            Some(config::ClientCertificate {
                cert_file,
                key_file,
            }) => {
                let chain = parse_certificates(&read("certFile", cert_file, LARGEST_PEM)?)
                    .map_err(|why| broken("certFile", cert_file, why))?;
                let key = parse_private_key(&read("keyFile", key_file, LARGEST_PEM)?)
                    .map_err(|why| broken("keyFile", key_file, why))?;
                let client = self.new_client(Some((chain, key)), |error| {
                    broken("certFile", cert_file, describe_misfit(&error, key_file))
                });
                Some(client?)
            }
            None => None,
        };
        Ok(RuleAccess { headers, client })
    }

    fn load_roots(&self) -> Result<Arc<RootCertStore>, HttpError> {
        let extra = match &self.settings.ca_file {
            Some(path) => {
                let read = self.files.read(path, LARGEST_CA_FILE);
                Some(read.map_err(|error| HttpError::CaFile(error.to_string()))?)
            }
            None => None,
        };
        client::load_roots(extra.as_deref()).map(Arc::new)
    }

    fn new_client(
        &self,
        identity: Option<ClientIdentity>,
        describe_error: impl FnOnce(rustls::Error) -> HttpError,
    ) -> Result<Client, HttpError> {
        let roots = get_or_try(&self.roots, || self.load_roots())?;
        let tls = client::tls_config(Arc::clone(roots), identity).map_err(describe_error)?;
        let proxies = Arc::clone(&self.proxies);
        client::download_client(self.settings.connect_timeout, tls, proxies)
    }
}

/// The cell's value, made now if there is none yet; a failure leaves it empty.
fn get_or_try<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> Result<T, HttpError>,
) -> Result<&T, HttpError> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

fn describe_misfit(error: &rustls::Error, key_file: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the certificate is not for the key in keyFile {}; replace both together",
            key_file.display()
        ),
        other => format!("certificate and key cannot be used: {}", quote_error(other)),
    }
}
