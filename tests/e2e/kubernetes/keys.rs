//! Who may ask the API server for what: certificates, tokens and kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

use super::cluster::{API, API_SERVICE};
use super::machine::ROUTER;

/// Where they lie, below the directory of the test.
pub(crate) struct Keys {
    dir: PathBuf,
}

/// Who asks the API server, in which group. The name is the secret as well, because nobody else can ask.
const USERS: [(&str, &str); 4] = [
    ("admin", "system:masters"),
    ("system:kube-controller-manager", ""),
    ("system:kube-scheduler", ""),
    ("system:kube-proxy", ""),
];

impl Keys {
    /// Makes them for a cluster of so many nodes.
    pub(crate) fn make(dir: &Path, nodes: u8) -> Self {
        let keys = Self {
            dir: dir.join("keys"),
        };
        fs::create_dir(&keys.dir).unwrap();
        keys.write_certificates();
        keys.write_key_of_accounts();
        let of_nodes = (1..=nodes).map(|number| (user_of(number), "system:nodes"));
        let others = USERS.map(|(user, group)| (user.to_owned(), group));
        let users: Vec<_> = others.into_iter().chain(of_nodes).collect();
        let tokens = users
            .iter()
            .map(|(user, group)| format!("{user},{user},{user},{group}\n"));
        fs::write(keys.path("tokens.csv"), tokens.collect::<String>()).unwrap();
        users
            .iter()
            .for_each(|(user, _)| keys.write_kubeconfig(user));
        keys
    }

    /// One of the files: `authority.pem`, `server.pem`, `server.key`, `accounts.pem`, `accounts.pub` or `tokens.csv`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The kubeconfig of a user.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir
            .join(format!("{}.kubeconfig", user.replace(':', "-")))
    }

    /// A certificate of an authority, because clients refuse a server's certificate that signed itself.
    fn write_certificates(&self) {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority
            .distinguished_name
            .push(DnType::CommonName, "authority of the test");
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
        let names = ["127.0.0.1", ROUTER, API_SERVICE, "kubernetes.default.svc"];
        let server = CertificateParams::new(names.map(str::to_owned)).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = server.signed_by(&key, &authority).unwrap();
        fs::write(self.path("authority.pem"), authority.pem()).unwrap();
        fs::write(self.path("server.pem"), server.pem()).unwrap();
        fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
    }

    /// For the tokens of service accounts.
    fn write_key_of_accounts(&self) {
        let key = KeyPair::generate().unwrap();
        fs::write(self.path("accounts.pem"), key.serialize_pem()).unwrap();
        fs::write(self.path("accounts.pub"), key.public_key_pem()).unwrap();
    }

    fn write_kubeconfig(&self, user: &str) {
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {
                "server": API,
                "certificate-authority": self.path("authority.pem"),
            }}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "current-context": "here",
        });
        fs::write(self.kubeconfig(user), content.to_string()).unwrap();
    }
}

/// Who the kubelet of a machine is.
pub(crate) fn user_of(number: u8) -> String {
    format!("system:node:node-{number}")
}
