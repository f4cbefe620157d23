//! What the operator applies: the base with an image, a configuration and a mirror of the node's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::image::seeded;
use crate::archive::{current_plugins, plugins_tgz, sha256};
use crate::namespace::{find_program, run};
use crate::node::PLUGINS;

/// Where the mirror serves: on the router. Nothing else is in the network of the nodes.
const MIRROR: &str = "192.168.77.1:8800";
/// The image, as scripts/e2e-kubernetes names it.
const IMAGE: &str = "localhost/cni-keeper";

/// What is declared; changed and applied again.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// The tag of the agent's image.
    pub(crate) agent: &'static str,
    /// Where the plugins come from.
    pub(crate) plugins: Plugins,
    /// `keep` or `replace`.
    pub(crate) if_present: &'static str,
    /// Where the node's pod range is known from: an item of `network.facts`.
    pub(crate) facts: &'static str,
    /// What stands in the configuration besides, perhaps wrongly.
    pub(crate) more: &'static str,
    /// The components of the manifests that are used.
    pub(crate) components: &'static [&'static str],
}

/// A release of the plugins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plugins {
    /// From the mirror; of that version, which stands behind each program as well.
    Mirrored(&'static str),
    /// From the agent's own image: the builds as they are.
    Seeded,
}

impl Plugins {
    /// What the last bytes of `plugin` are then.
    pub(crate) fn tail(self, plugin: &str) -> Vec<u8> {
        match self {
            Self::Mirrored(version) => version.into(),
            Self::Seeded => {
                let program = fs::read(current_plugins().join(plugin)).unwrap();
                program[program.len() - 4096..].to_vec()
            }
        }
    }
}

/// The directory of the operator, with a mirror beside it.
pub(crate) struct Operator {
    dir: PathBuf,
    mirror: Option<Child>,
}

/// What is applied by `kubectl apply -k`.
pub(crate) struct Overlay<'a> {
    /// A directory of the manifests.
    pub(crate) resource: &'a str,
    /// The tag of the agent's image.
    pub(crate) agent: &'a str,
    /// The components of the manifests that are used.
    pub(crate) components: &'a [&'static str],
    /// The agent's configuration.
    pub(crate) config: &'a str,
    /// More patches: a list in YAML.
    pub(crate) patches: &'a str,
}

impl Operator {
    /// Copies the manifests to where they can be built upon, and has the mirror serve.
    pub(crate) fn new(dir: &Path) -> Self {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        run("busybox", &["cp", "-r", &text(&manifests), &text(dir)]);
        let mirror = dir.join("mirror");
        fs::create_dir(&mirror).unwrap();
        let mirror = Command::new(find_program("busybox").unwrap())
            .args(["httpd", "-f", "-p", MIRROR, "-h"])
            .arg(&mirror)
            .spawn()
            .unwrap();
        Self {
            dir: dir.to_owned(),
            mirror: Some(mirror),
        }
    }

    /// Writes down in an overlay what it leaves to be filled in with the pods' range, as its page says.
    pub(crate) fn fill_in_range(&self, overlay: &str, range: &str) {
        let file = self.dir.join(format!("manifests/{overlay}/pod-range.yaml"));
        let asks = fs::read_to_string(&file).unwrap();
        let (before, rest) = asks.split_once("\"FILL-IN: ").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        fs::write(&file, format!("{before}{range}{after}")).unwrap();
    }

    /// Has the mirror serve a file, and returns its address.
    pub(crate) fn serve(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.dir.join("mirror").join(name), content).unwrap();
        format!("http://{MIRROR}/{name}")
    }

    /// The configuration of what is declared, and its archive on the mirror.
    fn config(&self, declared: &Declared) -> String {
        let arch = cni_keeper::model::Arch::of_this_program().unwrap();
        let (version, sources, digest) = match declared.plugins {
            Plugins::Mirrored(version) => {
                let archive = plugins_tgz(&current_plugins(), &PLUGINS, version.as_bytes());
                self.serve(&format!("cni-plugins-linux-{arch}-{version}.tgz"), &archive);
                (
                    version.to_owned(),
                    format!("http://{MIRROR}"),
                    sha256(&archive),
                )
            }
            Plugins::Seeded => {
                let seed = seeded();
                let name = seed.file_stem().unwrap().to_str().unwrap();
                let (_, version) = name.rsplit_once('-').unwrap();
                let digest = sha256(&fs::read(&seed).unwrap());
                (version.to_owned(), "file:///seed".to_owned(), digest)
            }
        };

        format!(
            "apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-bridge
artifacts:
  - name: cni-plugins
    version: {version}
    sources: [\"{sources}/cni-plugins-linux-{{arch}}-{{version}}.tgz\"]
    sha256: {{{arch}: {digest}}}
    ifPresent: {if_present}
network:
  facts:
    - {facts}
{more}
",
            facts = declared.facts,
            if_present = declared.if_present,
            more = declared.more,
        )
    }

    /// Writes the values of a Helm release of what is declared, and returns their file.
    pub(crate) fn values(&self, declared: &Declared) -> String {
        let config = self.config(declared).replace('\n', "\n  ");
        let agent = declared.agent;
        let may_ask = declared.components.contains(&"kubernetes-api");
        let values = format!(
            "image: {{repository: {IMAGE}, tag: {agent}}}
kubernetesApi: {{enabled: {may_ask}}}
config:
  {config}
"
        );
        let file = self.dir.join("values.yaml");
        fs::write(&file, values).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Writes a kustomization of what is declared, and returns its directory.
    pub(crate) fn write(&self, declared: &Declared) -> String {
        self.write_overlay(&Overlay {
            resource: "base",
            agent: declared.agent,
            components: declared.components,
            config: &self.config(declared),
            patches: "[]",
        })
    }

    /// Writes a kustomization, and returns its directory.
    pub(crate) fn write_overlay(&self, overlay: &Overlay) -> String {
        let dir = self.dir.join("overlay");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.yaml"), overlay.config).unwrap();
        let components: Vec<String> = overlay
            .components
            .iter()
            .map(|component| format!("../manifests/components/{component}"))
            .collect();
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../manifests/{resource}]
components: [{components}]
configMapGenerator:
  - name: cni-keeper
    namespace: cni-keeper
    behavior: replace
    files: [config.yaml]
    options: {{disableNameSuffixHash: true}}
images:
  - {{name: cni-keeper, newName: {IMAGE}, newTag: {agent}}}
patches: {patches}
",
            patches = overlay.patches,
            resource = overlay.resource,
            components = components.join(", "),
            agent = overlay.agent,
        );
        fs::write(dir.join("kustomization.yaml"), kustomization).unwrap();
        dir.to_str().unwrap().to_owned()
    }

    /// Ends the mirror.
    pub(crate) fn end_mirror(&mut self) {
        let mut mirror = self.mirror.take().unwrap();
        mirror.kill().unwrap();
        mirror.wait().unwrap();
    }
}
