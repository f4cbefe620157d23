//! Who is asked as whom: the client for a URL, the headers that go with it, and the proxy between.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Url};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::client;
use super::proxy::Proxies;
use crate::config;
use crate::fetch::local_files::FileSource;
use crate::fetch::sources::error::Failure;

/// The largest CA file that is read, in bytes; the system's whole bundle has about 200 KiB.
const LARGEST_CA_FILE: u64 = 4 << 20;
/// The largest file of headers that is read, in bytes.
const LARGEST_HEADERS: u64 = 64 << 10;
/// The largest file with a certificate or key, in bytes; a chain of four has about 8 KiB.
const LARGEST_PEM: u64 = 1 << 20;

/// What is never taken from a file: what belongs to a connection (RFC 9110, 7.6.1), what makes a body mean something
/// else, and what the download says itself.
const RESERVED: [HeaderName; 19] = [
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What one download needs to ask anybody. Whatever is read or built stays until the download is dropped, and no
/// longer: secrets may be replaced, and a client's authorities take memory.
pub(in crate::fetch) struct Access<'a> {
    settings: &'a config::FetchSettings,
    files: &'a dyn FileSource,
    proxies: Arc<Proxies>,
    /// Reading the system's authorities takes milliseconds.
    roots: OnceCell<Arc<RootCertStore>>,
    /// The client that shows no certificate.
    nobody: OnceCell<Client>,
    /// One for each rule of `fetch.access`.
    passes: Vec<OnceCell<Pass>>,
}

/// What a rule of `fetch.access` gives to a request.
struct Pass {
    headers: HeaderMap,
    client: Option<Client>,
}

impl<'a> Access<'a> {
    pub(in crate::fetch) fn new(
        settings: &'a config::FetchSettings,
        files: &'a dyn FileSource,
    ) -> Self {
        Self {
            settings,
            files,
            proxies: Arc::new(Proxies::from_env()),
            roots: OnceCell::new(),
            nobody: OnceCell::new(),
            passes: settings.access.iter().map(|_| OnceCell::new()).collect(),
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
    ) -> Result<RequestBuilder, Failure> {
        let pass = match self.settings.find_access_rule(url) {
            Some(index) => Some(self.pass(index)?),
            None => None,
        };
        let client = match pass.and_then(|pass| pass.client.as_ref()) {
            Some(client) => client,
            None => get_or_try(&self.nobody, || {
                self.client(None, |error| Failure::Setup(error.to_string()))
            })?,
        };
        let request = client.request(method, url.clone());
        Ok(match pass {
            Some(pass) => request.headers(pass.headers.clone()),
            None => request,
        })
    }

    /// The proxy that a request to `url` goes through, if any.
    ///
    /// # Errors
    /// When the environment names one that cannot be used.
    pub(in crate::fetch) fn proxy(&self, url: &Url) -> Result<Option<&Url>, Failure> {
        self.proxies.to(url)
    }

    fn pass(&self, index: usize) -> Result<&Pass, Failure> {
        get_or_try(&self.passes[index], || self.read(index))
    }

    fn read(&self, index: usize) -> Result<Pass, Failure> {
        let rule = &self.settings.access[index];
        let broken = |key: &str, path: &Path, why: String| Failure::Access {
            key: format!("fetch.access[{index}].{key}"),
            path: path.display().to_string(),
            why,
        };
        let read = |key: &str, path: &Path, limit| {
            let content = self.files.read(path, limit);
            content.map_err(|error| broken(key, path, format!("it cannot be read: {error}")))
        };
        let headers = match &rule.headers_file {
            Some(path) => headers(&read("headersFile", path, LARGEST_HEADERS)?)
                .map_err(|why| broken("headersFile", path, why))?,
            None => HeaderMap::new(),
        };
        let client = match &rule.certificate {
            Some(config::ClientCertificate {
                cert_file,
                key_file,
            }) => {
                let chain = chain(&read("certFile", cert_file, LARGEST_PEM)?)
                    .map_err(|why| broken("certFile", cert_file, why))?;
                let key = private_key(&read("keyFile", key_file, LARGEST_PEM)?)
                    .map_err(|why| broken("keyFile", key_file, why))?;
                let client = self.client(Some((chain, key)), |error| {
                    broken("certFile", cert_file, misfit(&error, key_file))
                });
                Some(client?)
            }
            None => None,
        };
        Ok(Pass { headers, client })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, Failure> {
        let extra = match &self.settings.ca_file {
            Some(path) => {
                let read = self.files.read(path, LARGEST_CA_FILE);
                Some(read.map_err(|error| Failure::CaFile(error.to_string()))?)
            }
            None => None,
        };
        client::roots(extra.as_deref()).map(Arc::new)
    }

    fn client(
        &self,
        identity: Option<client::Identity>,
        misfit: impl FnOnce(rustls::Error) -> Failure,
    ) -> Result<Client, Failure> {
        let roots = get_or_try(&self.roots, || self.roots())?;
        let tls = client::tls(Arc::clone(roots), identity).map_err(misfit)?;
        let proxies = Arc::clone(&self.proxies);
        client::build(self.settings.connect_timeout, tls, proxies)
    }
}

/// The cell's value, made now if there is none yet; a failure leaves it empty.
fn get_or_try<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> Result<T, Failure>,
) -> Result<&T, Failure> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// Reads lines of `Name: value`; `#` begins a comment line. What stands in the file never enters a message.
fn headers(content: &[u8]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (name, mut value) = header(line).map_err(|why| format!("line {}: {why}", index + 1))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn header(line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.ok_or("it has no colon; write Name: value")?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let name = HeaderName::from_bytes(name)
        .map_err(|_| "what stands before the colon is no header's name; write Name: value")?;
    if RESERVED.contains(&name) {
        return Err("this header belongs to the connection or to the download itself; take it out");
    }
    if value.is_empty() {
        return Err("there is nothing behind the colon; write Name: value");
    }
    let value = HeaderValue::from_bytes(value)
        .map_err(|_| "what stands behind the colon holds a control character; take it out")?;
    Ok((name, value))
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("no CERTIFICATE block in it; it must be PEM, the client's own first".to_owned()),
    }
}

/// The parser's own message may show a line of the file, and that line is a secret.
fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
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

fn misfit(error: &rustls::Error, key_file: &Path) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the certificate is not for the key in keyFile {}; replace both together",
            key_file.display()
        ),
        other => format!("certificate and key cannot be used: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_headers_is_read_and_marked_as_secret() {
        let text =
            b"# for the mirror\r\n\r\nAuthorization:  Bearer a:b \r\n  X-Team: one\nx-team:two";
        let found = headers(text).unwrap();
        assert_eq!(found[header::AUTHORIZATION], "Bearer a:b");
        let teams: Vec<_> = found.get_all("x-team").iter().collect();
        assert_eq!(teams, ["one", "two"]);
        assert!(found.values().all(HeaderValue::is_sensitive));
        assert!(!format!("{found:?}").contains("Bearer"));
        assert!(headers(b"").unwrap().is_empty());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_alone() {
        for bad in [
            "secret",
            ": secret",
            "Bad Name: secret",
            "Name : secret",
            "Name:",
            "Name: secret\x01",
            "\u{feff}Name: secret",
            "host: secret",
            "Content-Length: 1",
            "RANGE: secret",
            "If-Range: secret",
            "Transfer-Encoding: chunked",
            "Connection: secret",
            "Proxy-Authorization: secret",
            "Accept-Encoding: secret",
        ] {
            let why = headers(format!("A: b\n\n{bad}\n").as_bytes()).unwrap_err();
            assert!(why.starts_with("line 3: "), "{bad}: {why}");
            assert!(!why.contains("secret"), "{bad}: {why}");
        }
    }

    #[test]
    fn what_is_no_key_or_certificate_is_told_without_showing_it() {
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
            let why = private_key(pem.as_bytes()).unwrap_err();
            assert!(why.contains(word), "{pem}: {why}");
            assert!(!why.contains("secret"), "{why}");
        }
        for pem in ["", "secret", "-----BEGIN CERTIFICATE\nsecret"] {
            assert!(chain(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
