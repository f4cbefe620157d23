//! A node that has a wrong file in one place, and what a message about it may not say.

use std::path::PathBuf;

use serde_json::Value;

use crate::sources::secret;
use crate::support::image_parts::{image_of, in_image};
use crate::support::node::Node;
use crate::support::release::{NETWORK, PLUGINS, RELEASE};
use crate::support::server::{Reply, Server};
use crate::support::tls::Authority;

/// The secret in each file, and what a list of decimal bytes makes of it.
const MARKS: [&str; 3] = ["HUSH", "hush", "72, 85, 83, 72"];

/// The longest line of stderr, and the longest text in a document, in bytes.
pub(super) const LONGEST: usize = 2 << 10;

/// A file that the configuration or the environment names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Named {
    CaFile,
    SystemAuthorities,
    Headers,
    Certificate,
    Key,
    Registries,
    EnvFile,
    ApiCaFile,
    ApiToken,
    ListKey,
    SignatureKey,
    Signature,
    List,
    Checksum,
    Configuration,
}

pub(super) const NAMED: [Named; 15] = [
    Named::CaFile,
    Named::SystemAuthorities,
    Named::Headers,
    Named::Certificate,
    Named::Key,
    Named::Registries,
    Named::EnvFile,
    Named::ApiCaFile,
    Named::ApiToken,
    Named::ListKey,
    Named::SignatureKey,
    Named::Signature,
    Named::List,
    Named::Checksum,
    Named::Configuration,
];

impl Named {
    /// What the message about the file says.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::CaFile => "fetch.caFile",
            Self::Headers => "headersFile",
            Self::Certificate => "certFile",
            Self::Key => "keyFile",
            Self::Registries => "fetch.registryConfig",
            Self::EnvFile => "run/named",
            Self::ApiCaFile => "kubernetes.caFile",
            Self::ListKey => "not a minisign public key",
            Self::SignatureKey => "not a public key in PEM",
            Self::Signature => "not a signature",
            Self::List => "not a minisign signature",
            Self::Checksum => "not a checksum",
            Self::Configuration => "expected a mapping",
            // A token is any text, and one bad authority among many is passed over.
            Self::ApiToken | Self::SystemAuthorities => "",
        }
    }
}

/// Contents that are wrong for each of them, each with the secret.
pub(super) fn contents() -> Vec<String> {
    let long = "HUSH+/".repeat(40_000);
    let lines = long.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
    let lines = lines.join("\n");
    let block = |label: &str, body: &str| {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let mut contents = vec![
        "HUSH".to_owned(),
        long.clone(),
        lines.clone(),
        format!("-----BEGIN CERTIFICATE-----{long}-----END CERTIFICATE-----"),
        format!("-----BEGIN CERTIFICATE-----\n{lines}\n"),
        "-----BEGIN PRIVATE KEY-----HUSH-----END PRIVATE KEY-----".to_owned(),
        "-----BEGIN HUSH-----\nHUSH\n-----END hush-----\n".to_owned(),
        "-----BEGIN HUSH".to_owned(),
        "{\"auths\": \"HUSH\"}".to_owned(),
        "{\"auths\": {\"HUSH\": {\"auth\": [\"HUSH\"]}, \"credsStore\": 5".to_owned(),
        format!("{{\"auths\": {{\"127.0.0.1\": \"{long}\"}}}}"),
        "[HUSH".to_owned(),
        "a: {b: *HUSH".to_owned(),
        "!HUSH [HUSH]".to_owned(),
        "%HUSH\n---\n&HUSH HUSH".to_owned(),
        "HUSH: 'HUSH\nHUSH".to_owned(),
        "a: \"\\HUSH\"".to_owned(),
        "HUSH=\"HUSH\nHUSH".to_owned(),
        "a b: HUSH".to_owned(),
        "A: HUSH\u{1}\nB HUSH\n".to_owned(),
        "untrusted comment: HUSH\nRWHUSH\ntrusted comment: HUSH\nHUSH\n".to_owned(),
        "HUSH  p.tgz\nHUSH *p.tgz\n".to_owned(),
        format!("{long}  p.tgz\n"),
        "https://HUSH:HUSH@127.0.0.1:x/?HUSH".to_owned(),
    ];
    for label in ["CERTIFICATE", "PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY"] {
        contents.push(block(label, "HUSH"));
        contents.push(block(label, &lines));
        contents.push(block(label, "HUSH!HUSH"));
    }
    contents
}

/// A node on which one file has this content, and everything before that file is right.
pub(super) struct Scene {
    pub(super) node: Node,
    server: Server,
    named: Named,
}

impl Scene {
    pub(super) fn new(named: Named, content: &str) -> Self {
        let server = Server::http();
        server.otherwise(|_| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"a\""));
        for path in ["/named", "/named.minisig"] {
            server.on(path, [Reply::ok(content.as_bytes())]);
        }
        let scene = Self {
            node: Node::empty(),
            server,
            named,
        };
        let file = secret(&scene.node, "named", content);
        scene.declare(&file, content);
        scene
    }

    fn declare(&self, file: &str, content: &str) {
        let (node, server) = (&self.node, &self.server);
        let mut artifact = RELEASE.artifact(&server.url("/p.tgz"));
        let web = server.url("/named");
        let tls = server.url("/").replace("http:", "https:");
        let access = |key: &str| {
            let pair = match key {
                "certFile" => format!(", keyFile: {file}"),
                "keyFile" => format!(", certFile: {}", certificate(node)),
                _ => String::new(),
            };
            format!("fetch: {{access: [{{prefix: \"{tls}\", {key}: {file}{pair}}}]}}\n")
        };
        let quoted = Value::from(content).to_string();
        if matches!(self.named, Named::Headers | Named::Certificate | Named::Key) {
            artifact.sources = vec![format!("{tls}p.tgz")];
        }
        if matches!(
            self.named,
            Named::EnvFile | Named::ApiCaFile | Named::ApiToken
        ) {
            artifact.sources = vec![node.mirror("plugins.tgz", &RELEASE.bytes)];
        }
        let mut rest = match self.named {
            Named::CaFile => format!("fetch: {{caFile: {file}}}\n"),
            Named::Headers => access("headersFile"),
            Named::Certificate => access("certFile"),
            Named::Key => access("keyFile"),
            Named::Registries => {
                let address = server.address();
                let image = format!("oci://{address}/a/b@sha256:{}", "1".repeat(64));
                artifact = image_of("v1", vec![image], &in_image(&PLUGINS));
                format!(
                    "fetch: {{registryConfig: {file}, access: [{{prefix: \"oci://{address}/\", plainHttp: true}}]}}\n"
                )
            }
            Named::ApiCaFile => api(file, &certificate(node)),
            Named::ApiToken => api(&certificate(node), file),
            Named::List | Named::ListKey => {
                artifact.pin = String::new();
                let key = match self.named {
                    Named::ListKey => &quoted,
                    _ => "RWRE04opxnJydroYAtHyxBfvAYHbAspattvwHiAiqQvrYWgxkGIC5QOq",
                };
                format!("trust: {{pinList: {{sources: [\"{web}\"], publicKey: {key}}}}}\n")
            }
            Named::Checksum => {
                artifact.pin = format!("checksumUrl: {web}");
                String::new()
            }
            Named::Signature | Named::SignatureKey => {
                let key = match self.named {
                    Named::SignatureKey => quoted,
                    _ => Value::from(PUBLIC_KEY).to_string(),
                };
                artifact.more = format!("signature: {{url: \"{web}\", publicKey: {key}}}");
                String::new()
            }
            Named::EnvFile | Named::SystemAuthorities | Named::Configuration => String::new(),
        };
        match self.named {
            Named::ApiCaFile | Named::ApiToken => {
                rest.push_str(&needing("kubernetes: node", "node.podCIDR"));
            }
            Named::EnvFile => {
                let inside = "run/named";
                node.write(inside, content.as_bytes(), 0o644);
                rest.push_str(&needing(&format!("envFile: /{inside}"), "RANGE"));
            }
            _ => rest.push_str(NETWORK),
        }
        let rest = match rest.starts_with("fetch: {") {
            true => rest.replacen("fetch: {", "fetch: {attempts: 1, ", 1),
            false => format!("fetch: {{attempts: 1}}\n{rest}"),
        };
        node.declare(&artifact, &rest);
        if self.named == Named::Configuration {
            node.redeclare(content);
        }
    }

    pub(super) fn variables(&self) -> Vec<(&str, PathBuf)> {
        match self.named {
            Named::SystemAuthorities => {
                vec![("SSL_CERT_FILE", self.node.config().with_file_name("named"))]
            }
            // The system's own take time to read.
            _ => vec![("SSL_CERT_FILE", PathBuf::from(certificate(&self.node)))],
        }
    }

    /// What is wrong with a text: it has the secret, or a long line.
    pub(super) fn faults(&self, what: &str, content: &str, text: &str) -> Vec<String> {
        let short = |text: &str| text.chars().take(400).collect::<String>();
        let mut faults = Vec::new();
        let mut fault = |why: &str, line: &str| {
            let (named, content) = (self.named, short(content));
            faults.push(format!(
                "{named:?} with {content:.40?}, {what}: {why}: {}",
                short(line)
            ));
        };
        for line in text.lines() {
            if MARKS.iter().any(|mark| line.contains(mark)) {
                fault("shown", line);
            }
            if line.len() > LONGEST && !line.starts_with(['{', '<']) {
                fault("long", line);
            }
        }
        if let Ok(document) = serde_json::from_str(text)
            && let Some(long) = long_text(&document)
        {
            fault("long", long);
        }
        faults
    }
}

/// A text in a document that is too long.
fn long_text(document: &Value) -> Option<&str> {
    match document {
        Value::String(text) => (text.len() > LONGEST).then_some(text),
        Value::Array(items) => items.iter().find_map(long_text),
        Value::Object(members) => members.values().find_map(long_text),
        _ => None,
    }
}

const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEoZbHNyB1nf5eSD+WJyVDdY50W8VM
PfTDg+tVdKbQ/qU0dtpa2WuiPk5FUQuupgL5rCTeR4VcupdqtjAddQQQ0Q==
-----END PUBLIC KEY-----
";

/// A certificate beside the configuration.
fn certificate(node: &Node) -> String {
    secret(node, "good.pem", &Authority::new().pem())
}

/// An API server that is not there.
fn api(ca_file: &str, token_file: &str) -> String {
    format!(
        "kubernetes: {{server: \"https://127.0.0.1:1\", caFile: {ca_file}, tokenFile: {token_file}}}\n"
    )
}

/// A network that needs a fact of this source.
fn needing(source: &str, fact: &str) -> String {
    format!(
        "network:
  fileName: 10-pods.conflist
  facts: [{{{source}}}]
  conflist:
    cniVersion: 1.0.0
    name: pods
    plugins: [{{type: bridge, ipam: {{type: host-local, ranges: [[{{subnet: \"${{{fact}}}\"}}]]}}}}]
"
    )
}
