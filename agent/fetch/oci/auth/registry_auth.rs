//! The authorizations for registries during one artifact's download.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::challenge::{Bearer, Challenge, parse_challenge};
use super::credentials::{Credentials, Login, NoLogin};
use super::error::RegistryError;
use super::registry_item::{
    MANIFEST_MEDIA_TYPES, RegistryItem, Repository, host_and_port, is_private_url,
};
use super::token::{TokenRequest, basic_header, bearer_header};
use super::token_request::{TokenError, request_token};
use crate::config;
use crate::fetch::http::{HttpClients, redact_foreign_url};
use crate::fetch::local_files::FileSource;

/// The largest file with credentials that is read.
const MAX_CONFIG_SIZE: u64 = 1 << 20;

/// The authorizations that repositories accepted so far.
///
/// They are kept for one artifact's download, since the layers of an image share them. Each is sent only to the origin
/// that asked for it: the storage that a registry redirects to gets none.
pub(in crate::fetch) struct RegistryAuth<'a> {
    settings: &'a config::FetchSettings,
    files: &'a dyn FileSource,
    authorizations: RefCell<HashMap<Repository, Authorization>>,
}

/// Where a registry says that tokens come from.
#[derive(Clone)]
struct TokenServer {
    bearer: Bearer,
    is_public_only: bool,
}

/// What a repository accepts as proof that we may read it.
struct Authorization {
    header: HeaderValue,
    /// Whether credentials of ours are behind it.
    is_ours: bool,
    /// When it expires, and where the next one comes from.
    renewal: Option<(Instant, TokenServer)>,
}

impl<'a> RegistryAuth<'a> {
    pub(in crate::fetch) fn new(
        settings: &'a config::FetchSettings,
        files: &'a dyn FileSource,
    ) -> Self {
        Self {
            settings,
            files,
            authorizations: RefCell::default(),
        }
    }

    /// The headers of a request for `item`: `Accept` for manifests, and the authorization for its repository. An expired
    /// token is replaced first.
    pub(in crate::fetch) async fn headers_for(
        &self,
        item: &RegistryItem,
        http: &HttpClients<'_>,
    ) -> Result<HeaderMap, RegistryError> {
        if let Some(server) = self.expired_server(&item.repository) {
            self.get_token(item, server, http).await?;
        }
        let mut headers = HeaderMap::new();
        if item.is_manifest {
            headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_MEDIA_TYPES));
        }
        if let Some(authorization) = self.authorizations.borrow().get(&item.repository) {
            headers.insert(AUTHORIZATION, authorization.header.clone());
        }
        Ok(headers)
    }

    fn expired_server(&self, repository: &Repository) -> Option<TokenServer> {
        let authorizations = self.authorizations.borrow();
        let (until, server) = authorizations.get(repository)?.renewal.as_ref()?;
        (*until <= Instant::now()).then(|| server.clone())
    }

    /// Gets the authorization that a 401 asks for. It replaces the one that was refused.
    pub(in crate::fetch) async fn answer_challenge(
        &self,
        item: &RegistryItem,
        response: &Response,
        http: &HttpClients<'_>,
    ) -> Result<(), RegistryError> {
        let repository = &item.repository;
        let registry = || repository.registry.clone();
        match parse_challenge(response.headers()) {
            Some(Challenge::Bearer(bearer)) => {
                let is_public_only = http.must_be_public(response.url(), response, &bearer.realm);
                let server = TokenServer {
                    bearer,
                    is_public_only,
                };
                self.get_token(item, server, http).await
            }
            Some(Challenge::Basic) if !item.is_private => {
                Err(RegistryError::Plain { server: registry() })
            }
            Some(Challenge::Basic) => {
                let login = self.read_login(repository)?;
                let authorization =
                    basic_header(&login).ok_or_else(|| RegistryError::NoCredentials {
                        registry: registry(),
                        repository: repository.name.clone(),
                    })?;
                self.store_authorization(repository, authorization, true, None);
                Ok(())
            }
            None => Err(RegistryError::Challenge {
                registry: registry(),
            }),
        }
    }

    /// Why a registry answers `code` after it got what it asked for; `None` where it means what any server means by it.
    pub(in crate::fetch) fn explain_status(
        &self,
        item: &RegistryItem,
        code: u16,
    ) -> Option<RegistryError> {
        let repository = &item.repository;
        if code == 404 {
            return Some(RegistryError::NotFound {
                registry: repository.registry.clone(),
                repository: repository.name.clone(),
                digest: item.digest.clone(),
            });
        }
        let denied = || refused_error(repository.registry.clone(), repository);
        let sent = self.authorizations.borrow_mut().remove(repository);
        match (code, sent) {
            (401 | 403, Some(sent)) if sent.is_ours => Some(denied()),
            (401, _) => Some(self.read_login(repository).err().unwrap_or_else(denied)),
            _ => None,
        }
    }

    async fn get_token(
        &self,
        item: &RegistryItem,
        server: TokenServer,
        http: &HttpClients<'_>,
    ) -> Result<(), RegistryError> {
        let repository = &item.repository;
        self.authorizations.borrow_mut().remove(repository);
        let TokenServer {
            bearer,
            is_public_only,
        } = &server;
        let realm = &bearer.realm;
        // A registry without TLS may have a token server without TLS. A registry with TLS must not.
        if realm.scheme() != "https" && !(item.is_plain && realm.scheme() == "http") {
            return Err(RegistryError::Realm {
                registry: repository.registry.clone(),
                realm: redact_foreign_url(realm),
            });
        }
        // Many token servers give a token for public repositories without credentials.
        let login = match self.read_login(repository) {
            Err(denied @ RegistryError::Config { .. }) => return Err(denied),
            other => other,
        };
        // Over plain http others could write the registry's answer, and name a realm of their own in it.
        let exposed = match (item.is_private, is_private_url(realm)) {
            (true, true) => None,
            (true, false) => Some(host_and_port(realm)),
            (false, _) => Some(repository.registry.clone()),
        };
        if let Some(server) = exposed.filter(|_| login.is_ok()) {
            return Err(RegistryError::Plain { server });
        }
        if let Ok(Login::Token(token)) = &login {
            let header = bearer_header(token.reveal()).ok_or_else(|| {
                self.config_error("the registrytoken has characters that no header can carry")
            })?;
            self.store_authorization(repository, header, true, None);
            return Ok(());
        }
        let request = TokenRequest {
            is_public_only: *is_public_only,
            ..TokenRequest::new(bearer, &repository.name, login.as_ref().ok())
        };
        let asked = Instant::now();
        let is_ours = login.is_ok();
        let token = match request_token(http, self.settings, request).await {
            Ok(token) => token,
            Err(TokenError::Denied) => {
                return Err(login
                    .err()
                    .unwrap_or_else(|| refused_error(host_and_port(realm), repository)));
            }
            Err(TokenError::Failed(source)) => {
                return Err(RegistryError::TokenServer {
                    server: host_and_port(realm),
                    source: Box::new(source),
                });
            }
            Err(TokenError::Unusable(what)) => {
                return Err(RegistryError::Token {
                    server: host_and_port(realm),
                    what,
                });
            }
        };
        let until = asked.checked_add(token.life);
        let renewal = until.map(|until| (until, server));
        self.store_authorization(repository, token.authorization, is_ours, renewal);
        Ok(())
    }

    fn store_authorization(
        &self,
        repository: &Repository,
        header: HeaderValue,
        is_ours: bool,
        renewal: Option<(Instant, TokenServer)>,
    ) {
        let authorization = Authorization {
            header,
            is_ours,
            renewal,
        };
        let mut authorizations = self.authorizations.borrow_mut();
        authorizations.insert(repository.clone(), authorization);
    }

    /// Our login for a repository. The file is read each time, because a mounted secret may be replaced at any time.
    fn read_login(&self, repository: &Repository) -> Result<Login, RegistryError> {
        let (registry, name) = (&repository.registry, &repository.name);
        let Some(path) = &self.settings.registry_config else {
            return Err(RegistryError::NoConfig {
                registry: registry.clone(),
            });
        };
        let content = self
            .files
            .read(path, MAX_CONFIG_SIZE)
            .map_err(|error| self.config_error(&format!("it cannot be read: {error}")))?;
        let credentials = Credentials::parse(&content).map_err(|what| self.config_error(&what))?;
        credentials
            .find_login(registry, name)
            .map_err(|why| match why {
                NoLogin::Absent => RegistryError::NoCredentials {
                    registry: registry.clone(),
                    repository: name.clone(),
                },
                NoLogin::Helper => RegistryError::Helper {
                    registry: registry.clone(),
                },
                NoLogin::Unusable(what) => {
                    self.config_error(&format!("its entry for {registry}: {what}"))
                }
            })
    }

    fn config_error(&self, what: &str) -> RegistryError {
        let path = self.settings.registry_config.as_ref();
        RegistryError::Config {
            path: path.map_or_else(String::new, |path| path.display().to_string()),
            what: what.to_owned(),
        }
    }
}

fn refused_error(by: String, repository: &Repository) -> RegistryError {
    RegistryError::Refused {
        by,
        repository: format!("{}/{}", repository.registry, repository.name),
    }
}
