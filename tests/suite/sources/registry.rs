//! Blobs and manifests from Debian's docker-registry, by every way in that it has, and from servers that only claim to
//! be a registry.

mod hostile;

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cni_keeper::fetch::DownloadProgress;
use serde_json::json;
use tempfile::TempDir;

use crate::fetch::{Case, TempSpool};
use crate::support::registry::{
    Access, Registry, RegistryStorage, Setup, StoredContent, has_tools,
};
use crate::support::server::Server;
use crate::support::tls::Authority;
use crate::support::tokens::{IDENTITY, Issuer, PASSWORD, TokenLifetime, USER};

/// A file with credentials.
pub(super) struct Config {
    dir: TempDir,
}

impl Config {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { dir }
    }

    /// `USER` and a password, for a registry or a part of one.
    pub(super) fn password(key: &str, password: &str) -> Self {
        let config = Self::new();
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        config.write(&json!({"auths": {key: {"auth": auth}}}).to_string());
        config
    }

    pub(super) fn identity(key: &str) -> Self {
        let config = Self::new();
        let entry = json!({"auths": {key: {"identitytoken": IDENTITY}}});
        config.write(&entry.to_string());
        config
    }

    fn write(&self, content: &str) {
        fs::write(self.path(), content).unwrap();
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("config.json")
    }
}

/// A download with credentials.
trait WithConfig {
    fn with(self, config: &Config) -> Self;
}

impl WithConfig for Case {
    fn with(mut self, config: &Config) -> Self {
        self.settings.registry_config = Some(config.path());
        self
    }
}

/// A server as messages and credentials name it.
fn by(address: SocketAddr) -> String {
    address.to_string()
}

/// The reason of a case of one source, which was asked once.
async fn reason(case: &Case) -> (&'static str, String) {
    let tried = case.fails_once().await;
    assert_eq!(tried.attempts, 1, "{}", tried.reason);
    let text = tried.reason.to_string();
    for secret in [
        PASSWORD,
        IDENTITY,
        &STANDARD.encode(format!("{USER}:{PASSWORD}")),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    (tried.reason.kind().as_str(), text)
}

/// Proves that a registry gives these things.
async fn pulls(registry: &Registry, things: &[&StoredContent], dress: impl Fn(Case) -> Case) {
    for thing in things {
        let url = registry.url(thing);
        let case = dress(Case::one(&thing.content, &url).attempts(3));
        let got = case.run().await;
        let (_, receipt) = got.unwrap_or_else(|error| panic!("{error}\n{}", registry.log()));
        assert_eq!(receipt.bytes, thing.content.len() as u64, "{url}");
        assert_eq!(receipt.source, url);
    }
}

#[tokio::test]
async fn an_open_registry_gives_index_manifest_and_layer() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::of(&["loopback"]);
    let registry = Registry::start(&stock, &Setup::default());
    let all = [&stock.index, &stock.manifest, &stock.layer];
    pulls(&registry, &all, |case| case).await;

    let mut gone = stock.layer.clone();
    gone.digest = format!("sha256:{}", "0".repeat(64));
    let (kind, text) = reason(&Case::one(b"", &registry.url(&gone)).attempts(3)).await;
    assert_eq!(kind, "http-status");
    assert!(text.contains("it may have been pruned"), "{text}");
}

#[tokio::test]
async fn a_password_opens_what_is_closed_without() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::of(&["loopback"]);
    let authority = Authority::new();
    let setup = Setup {
        tls: Some((&authority, &["127.0.0.1"])),
        guard: Access::Password,
        at: None,
    };
    let registry = Registry::start(&stock, &setup);
    let address = by(registry.address());
    let good = Config::password(&format!("{address}/team"), PASSWORD);
    let all = [&stock.index, &stock.manifest, &stock.layer];
    pulls(&registry, &all, |case| {
        case.trusting(&authority).with(&good)
    })
    .await;

    let case = || {
        Case::one(b"", &registry.url(&stock.index))
            .trusting(&authority)
            .attempts(3)
    };
    let wrong = Config::password(&address, "battery staple");
    for (case, message) in [
        (case(), "name a docker config.json"),
        (
            case().with(&wrong),
            "refuses what fetch.registryConfig holds",
        ),
        (
            case().with(&Config::password("other.example", PASSWORD)),
            "has none for",
        ),
        (case().with(&Config::new()), "cannot be read"),
    ] {
        let (kind, text) = reason(&case).await;
        assert_eq!(kind, "auth", "{text}");
        assert!(text.contains(message), "{text}");
    }
    wrong.write("{\"auths\": {\"hidden");
    let (_, text) = reason(&case().with(&wrong)).await;
    assert!(
        text.contains("line 1, column 18 is its end") && !text.contains("hidden"),
        "{text}"
    );
}

/// A registry with tokens and the server that gives them.
pub(super) struct Guarded {
    pub(super) authority: Authority,
    pub(super) tokens: Server,
    issuer: Arc<Issuer>,
    realm: String,
}

impl Guarded {
    pub(super) fn new(lives: &[TokenLifetime]) -> Self {
        let authority = Authority::new();
        let issuer = Arc::new(Issuer::of(&authority).live(lives));
        let tokens = Server::https(authority.server(&["127.0.0.1"]));
        let theirs = Arc::clone(&issuer);
        tokens.otherwise(move |request| theirs.answer(request));
        let realm = tokens.url("/token");
        Self {
            authority,
            tokens,
            issuer,
            realm,
        }
    }

    pub(super) fn start(
        &self,
        stock: &impl AsRef<Path>,
        issuers: &Authority,
        at: Option<SocketAddr>,
    ) -> Registry {
        let setup = Setup {
            tls: Some((&self.authority, &["127.0.0.1"])),
            guard: Access::Token(&self.realm, issuers),
            at,
        };
        Registry::start(stock, &setup)
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_a_password_or_an_identity_token() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::of(&["loopback"]);
    let guarded = Guarded::new(&[]);
    let registry = guarded.start(&stock, &guarded.authority, None);
    let address = by(registry.address());
    let all = [&stock.index, &stock.layer];
    for config in [
        Config::password(&address, PASSWORD),
        Config::identity(&format!("https://{address}/v1/")),
    ] {
        pulls(&registry, &all, |case| {
            case.trusting(&guarded.authority).with(&config)
        })
        .await;
    }
    let methods: Vec<String> = guarded
        .tokens
        .requests()
        .iter()
        .map(|r| r.method.clone())
        .collect();
    assert_eq!(methods, ["GET", "GET", "POST", "POST"]);

    let token = guarded.issuer.token("repository:team/cni:pull", 60);
    let ready = Config::new();
    ready.write(&json!({"auths": {&address: {"registrytoken": token}}}).to_string());
    pulls(&registry, &all, |case| {
        case.trusting(&guarded.authority).with(&ready)
    })
    .await;
    assert_eq!(
        guarded.tokens.requests().len(),
        4,
        "it needs no other token"
    );

    let case = || {
        Case::one(b"", &registry.url(&stock.index))
            .trusting(&guarded.authority)
            .attempts(3)
    };
    let (kind, text) = reason(&case()).await;
    assert_eq!(kind, "auth", "{text}");
    assert!(text.contains("name a docker config.json"), "{text}");
    let (kind, text) = reason(&case().with(&Config::password(&address, "wrong"))).await;
    assert_eq!(kind, "auth", "{text}");
    assert!(
        text.contains(&by(guarded.tokens.address())),
        "the token server says no: {text}"
    );
}

/// A token that is expired from the start does not lead to request after request for tokens.
#[tokio::test]
async fn a_token_that_is_never_accepted_is_reported_after_one() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::of(&["loopback"]);
    let stale = TokenLifetime {
        message: 3600,
        real: -3600,
    };
    let guarded = Guarded::new(&[stale]);
    let registry = guarded.start(&stock, &guarded.authority, None);
    let config = Config::password(&by(registry.address()), PASSWORD);
    let case = Case::one(b"", &registry.url(&stock.index)).attempts(3);
    let (kind, text) = reason(&case.trusting(&guarded.authority).with(&config)).await;
    assert_eq!(kind, "auth", "{text}");
    assert!(text.contains("refuses what"), "{text}");
    assert_eq!(guarded.tokens.requests().len(), 1);
}

/// Does something once, as soon as the first bytes are here.
struct Meanwhile<'a>(RefCell<Option<Box<dyn FnOnce() + 'a>>>);

impl<'a> Meanwhile<'a> {
    fn new(deed: impl FnOnce() + 'a) -> Self {
        Self(RefCell::new(Some(Box::new(deed))))
    }
}

impl DownloadProgress for Meanwhile<'_> {
    fn moved(&self, position: u64, _total: Option<u64>) {
        if position > 0
            && let Some(deed) = self.0.take()
        {
            deed();
        }
    }
}

/// More than all the buffers on the way, and nothing that packs.
fn large() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    (0..6 << 20).flat_map(|_| next()).collect()
}

/// Fault 40: the registry stops in the middle of a layer and comes back with other keys. Only the rest is requested,
/// with a new token.
#[tokio::test]
async fn fault_40_a_restart_in_the_middle_is_survived_and_the_token_renewed() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::holding(&[("blob", large())]);
    let guarded = Guarded::new(&[]);
    let others = Authority::new();
    let first = guarded.start(&stock, &guarded.authority, None);
    let address = first.address();
    let config = Config::password(&by(address), PASSWORD);
    let source = first.url(&stock.layer);
    let case = Case::one(&stock.layer.content, &source)
        .attempts(3)
        .trusting(&guarded.authority)
        .with(&config);

    let issuer = Arc::new(Issuer::of(&others));
    let running = RefCell::new(first);
    let restart = Meanwhile::new(|| {
        running.borrow_mut().kill();
        guarded
            .tokens
            .otherwise(move |request| issuer.answer(request));
        *running.borrow_mut() = guarded.start(&stock, &others, Some(address));
    });
    let got = case.run_into(&|| Ok(TempSpool::new()), &restart).await;
    let log = running.borrow().log();
    let (_, receipt) = got.unwrap_or_else(|error| panic!("{error}\n{log}"));
    assert_eq!(receipt.bytes, stock.layer.content.len() as u64);
    assert_eq!(guarded.tokens.requests().len(), 2, "one token each");
    assert!(log.contains(" 401 "), "{log}");
    assert!(log.contains(" 206 "), "{log}");
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_distinguished_and_a_mirror_helps() {
    if !has_tools() {
        return;
    }
    let stock = RegistryStorage::of(&["loopback"]);
    let authority = Authority::new();
    let setup = Setup {
        tls: Some((&authority, &["mirror.example"])),
        ..Setup::default()
    };
    let misnamed = Registry::start(&stock, &setup);
    let mirror = Registry::start(
        &stock,
        &Setup {
            tls: Some((&authority, &["localhost"])),
            ..Setup::default()
        },
    );
    let (wrong, good) = (
        misnamed.url(&stock.manifest),
        mirror.url_as("localhost", &stock.manifest),
    );
    let content = &stock.manifest.content;
    let (kind, _) = reason(&Case::one(content, &good)).await;
    assert_eq!(kind, "tls-unknown-ca");
    let (kind, _) = reason(&Case::one(content, &wrong).trusting(&authority)).await;
    assert_eq!(kind, "tls-name");
    let both = Case::new(content, &[wrong, good.clone()]).trusting(&authority);
    let (_, receipt) = both.run().await.unwrap();
    assert_eq!(receipt.source, good);
}
