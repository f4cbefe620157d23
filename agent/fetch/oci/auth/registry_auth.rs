//! What opens the repositories of one artifact's download.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use super::challenge::{Bearer, Challenge, challenge};
use super::credentials::{Credentials, Login, NoLogin};
use super::error::Denied;
use super::item::{Item, MANIFESTS, Repository, is_private, server};
use super::token;
use super::token::Question;
use super::token_request::{NoToken, ask};
use crate::config;
use crate::fetch::http::clients::Access;
use crate::fetch::http::redact::redacted_briefly;
use crate::fetch::local_files::FileSource;
use crate::fetch::sources::error::Failure;

/// The largest file with credentials that is read.
const LARGEST_CONFIG: u64 = 1 << 20;

/// What opened repositories so far.
///
/// It is kept for one artifact's download, since the layers of an image share it, and is only ever sent to the origin
/// that asked for it: the storage that a registry redirects to gets nothing.
pub(in crate::fetch) struct Doors<'a> {
    settings: &'a config::FetchSettings,
    files: &'a dyn FileSource,
    keys: RefCell<HashMap<Repository, Key>>,
}

/// What opens a repository.
struct Key {
    authorization: HeaderValue,
    /// Whether credentials of ours are behind it.
    is_ours: bool,
    /// Until when it does, and who gives another one then.
    renewal: Option<(Instant, Bearer)>,
}

impl<'a> Doors<'a> {
    pub(in crate::fetch) fn new(
        settings: &'a config::FetchSettings,
        files: &'a dyn FileSource,
    ) -> Self {
        Self {
            settings,
            files,
            keys: RefCell::default(),
        }
    }

    /// What goes with a request for `item`: the manifests that can be read, and what opened its repository before. A
    /// token that has run out is replaced first.
    pub(in crate::fetch) async fn headers(
        &self,
        item: &Item,
        access: &Access<'_>,
    ) -> Result<HeaderMap, Denied> {
        if let Some(bearer) = self.expired(&item.repository) {
            self.get_token(item, bearer, access).await?;
        }
        let mut headers = HeaderMap::new();
        if item.is_manifest {
            headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        }
        if let Some(key) = self.keys.borrow().get(&item.repository) {
            headers.insert(AUTHORIZATION, key.authorization.clone());
        }
        Ok(headers)
    }

    fn expired(&self, repository: &Repository) -> Option<Bearer> {
        let keys = self.keys.borrow();
        let (until, bearer) = keys.get(repository)?.renewal.as_ref()?;
        (*until <= Instant::now()).then(|| bearer.clone())
    }

    /// Gets what a 401 with these headers asks for. What was held until then is no longer of use.
    pub(in crate::fetch) async fn knock(
        &self,
        item: &Item,
        headers: &HeaderMap,
        access: &Access<'_>,
    ) -> Result<(), Denied> {
        let repository = &item.repository;
        let registry = || repository.registry.clone();
        match challenge(headers) {
            Some(Challenge::Bearer(bearer)) => self.get_token(item, bearer, access).await,
            Some(Challenge::Basic) if !item.is_private => Err(Denied::Plain { server: registry() }),
            Some(Challenge::Basic) => {
                let login = self.login(repository)?;
                let authorization = token::basic(&login).ok_or_else(|| Denied::NoCredentials {
                    registry: registry(),
                    repository: repository.name.clone(),
                })?;
                self.keep(repository, authorization, true, None);
                Ok(())
            }
            None => Err(Denied::Challenge {
                registry: registry(),
            }),
        }
    }

    /// What a registry means by `code`, after it got what it asked for; `None` for what any server means by it.
    pub(in crate::fetch) fn meaning(&self, item: &Item, code: u16) -> Option<Failure> {
        let repository = &item.repository;
        if code == 404 {
            return Some(Failure::NotInRegistry {
                registry: repository.registry.clone(),
                repository: repository.name.clone(),
                digest: item.digest.clone(),
            });
        }
        let denied = || refused(repository.registry.clone(), repository);
        let key = self.keys.borrow_mut().remove(repository);
        match (code, key) {
            (401 | 403, Some(key)) if key.is_ours => Some(denied().into()),
            (401, _) => Some(self.login(repository).err().unwrap_or_else(denied).into()),
            _ => None,
        }
    }

    async fn get_token(
        &self,
        item: &Item,
        bearer: Bearer,
        access: &Access<'_>,
    ) -> Result<(), Denied> {
        let repository = &item.repository;
        self.keys.borrow_mut().remove(repository);
        let realm = &bearer.realm;
        // A registry without TLS may have a token server without. One with TLS never sends down from it.
        if realm.scheme() != "https" && !(item.is_plain && realm.scheme() == "http") {
            return Err(Denied::Realm {
                registry: repository.registry.clone(),
                realm: redacted_briefly(realm),
            });
        }
        // Without credentials many give a token for what is public.
        let login = match self.login(repository) {
            Err(denied @ Denied::Config { .. }) => return Err(denied),
            other => other,
        };
        // Where others can write the registry's answer, the realm in it may be anybody's, and a token would be read.
        let exposed = match (item.is_private, is_private(realm)) {
            (true, true) => None,
            (true, false) => Some(server(realm)),
            (false, _) => Some(repository.registry.clone()),
        };
        if let Some(server) = exposed.filter(|_| login.is_ok()) {
            return Err(Denied::Plain { server });
        }
        if let Ok(Login::Token(token)) = &login {
            let header = token::bearer(token.reveal()).ok_or_else(|| {
                self.unusable("the registrytoken has characters that no header can carry")
            })?;
            self.keep(repository, header, true, None);
            return Ok(());
        }
        let question = Question::new(&bearer, &repository.name, login.as_ref().ok());
        let asked = Instant::now();
        let is_ours = login.is_ok();
        let token = match ask(access, self.settings, question).await {
            Ok(token) => token,
            Err(NoToken::Denied) => {
                return Err(login
                    .err()
                    .unwrap_or_else(|| refused(server(realm), repository)));
            }
            Err(NoToken::Failed(source)) => {
                return Err(Denied::TokenServer {
                    server: server(realm),
                    source: Box::new(source),
                });
            }
            Err(NoToken::Unusable(what)) => {
                return Err(Denied::Token {
                    server: server(realm),
                    what,
                });
            }
        };
        let until = asked.checked_add(token.life);
        let renewal = until.map(|until| (until, bearer));
        self.keep(repository, token.authorization, is_ours, renewal);
        Ok(())
    }

    fn keep(
        &self,
        repository: &Repository,
        authorization: HeaderValue,
        is_ours: bool,
        renewal: Option<(Instant, Bearer)>,
    ) {
        let key = Key {
            authorization,
            is_ours,
            renewal,
        };
        self.keys.borrow_mut().insert(repository.clone(), key);
    }

    /// Who we are there. Read anew each time it is needed: a mounted secret is replaced while the agent runs.
    fn login(&self, repository: &Repository) -> Result<Login, Denied> {
        let (registry, name) = (&repository.registry, &repository.name);
        let Some(path) = &self.settings.registry_config else {
            return Err(Denied::NoConfig {
                registry: registry.clone(),
            });
        };
        let content = self
            .files
            .read(path, LARGEST_CONFIG)
            .map_err(|error| self.unusable(&format!("it cannot be read: {error}")))?;
        let credentials = Credentials::read(&content).map_err(|what| self.unusable(&what))?;
        credentials.find(registry, name).map_err(|why| match why {
            NoLogin::Absent => Denied::NoCredentials {
                registry: registry.clone(),
                repository: name.clone(),
            },
            NoLogin::Helper => Denied::Helper {
                registry: registry.clone(),
            },
            NoLogin::Unusable(what) => self.unusable(&format!("its entry for {registry}: {what}")),
        })
    }

    fn unusable(&self, what: &str) -> Denied {
        let path = self.settings.registry_config.as_ref();
        Denied::Config {
            path: path.map_or_else(String::new, |path| path.display().to_string()),
            what: what.to_owned(),
        }
    }
}

fn refused(by: String, repository: &Repository) -> Denied {
    Denied::Refused {
        by,
        repository: format!("{}/{}", repository.registry, repository.name),
    }
}
