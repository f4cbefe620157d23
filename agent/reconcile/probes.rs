//! Asks what files do not show: whether the gates are open, and which versions the plugins support.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::context::Context;
use super::error::ReconcileError;
use super::observer::ObservedState;
use crate::cni::list_plugins_asked_by_crio;
use crate::host::{Dir, FileFingerprint, FileKind, Host, HostError};
use crate::model::{FileState, FileType, PluginName, Sha256};
use crate::probe::{VersionError, ask_version, check_gate};

/// How much of a script is read for its first line, in bytes (the kernel's `BINPRM_BUF_SIZE`).
const LONGEST_SHEBANG: u64 = 256;

/// The answers of one pass.
#[derive(Debug, Default)]
pub(super) struct ProbeAnswers {
    /// For each closed gate, why it is closed.
    pub(super) closed_gates: Vec<String>,
    /// What each plugin that matters answered to VERSION.
    pub(super) versions: BTreeMap<String, PluginVersion>,
    /// The same answers with the identity of each plugin when it was asked, so that it is not asked again.
    asked: BTreeMap<String, (PluginIdentity, PluginVersion)>,
}

/// Identifies a plugin at the time when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PluginIdentity {
    /// A declared plugin, by its content.
    Content(Sha256),
    /// A foreign plugin, which is not hashed.
    File(FileFingerprint),
}

/// The result of asking a plugin.
#[derive(Debug, Clone)]
pub(super) enum PluginVersion {
    /// It is not in the bin directory.
    Absent,
    /// It is not the declared file, so it is not run.
    NotAsDeclared,
    /// The versions that it supports.
    Supports(Vec<String>),
    /// It cannot be run in the agent's container. It may still work on the host.
    NotRunnable(String),
    /// It gave no usable answer.
    Broken(String),
}

impl ProbeAnswers {
    /// Forgets the plugins that gave no usable answer, so that they are asked again. The cause may be gone.
    pub(super) fn forget_failures(&mut self) {
        self.asked
            .retain(|_, (_, version)| matches!(version, PluginVersion::Supports(_)));
    }

    /// Whether a plugin gave no usable answer.
    pub(super) fn has_failures(&self) -> bool {
        let broken = |version: &PluginVersion| matches!(version, PluginVersion::Broken(_));
        self.versions.values().any(broken)
    }

    /// Forgets all answers, so that every plugin is asked again.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }

    /// The known answer of a plugin, if the plugin is still the same.
    fn known_answer(
        &self,
        plugin: &str,
        identity: Option<PluginIdentity>,
    ) -> Option<&PluginVersion> {
        let (asked, version) = self.asked.get(plugin)?;
        (Some(*asked) == identity).then_some(version)
    }

    /// The supported versions of a plugin, in the form that the conflist rules need. A plugin that cannot be asked here
    /// counts as supporting all versions.
    pub(super) fn supported_versions(&self, plugin: &str) -> Option<Vec<String>> {
        match self.versions.get(plugin)? {
            PluginVersion::Supports(versions) => Some(versions.clone()),
            PluginVersion::NotRunnable(_) => Some(
                crate::cni::SPEC_VERSIONS
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
            PluginVersion::Absent | PluginVersion::NotAsDeclared | PluginVersion::Broken(_) => None,
        }
    }
}

/// Asks the plugins that were not asked yet or have changed. An answer is valid until the plugin changes. A failed
/// answer is kept as well, because it explains why the conflist was not written.
///
/// # Errors
/// When a file operation fails.
pub(super) async fn ask_plugins(
    context: &Context,
    observed: &ObservedState,
    mut answers: ProbeAnswers,
) -> Result<ProbeAnswers, ReconcileError> {
    let bin = context.open_bin_dir()?;
    let mut asking = JoinSet::new();
    answers.versions.clear();
    for plugin in list_plugins_to_ask(context, observed) {
        let version = match locate_plugin(context, bin.as_ref(), observed, &plugin)? {
            PluginLocation::NotAsked(version) => version,
            PluginLocation::At(path) => {
                let identity = identify_plugin(bin.as_ref(), observed, &plugin)?;
                match answers.known_answer(&plugin, identity) {
                    Some(version) => version.clone(),
                    None => {
                        let context = context.clone();
                        asking.spawn(async move {
                            let version = ask_plugin(&context, &path).await;
                            (plugin, identity, version)
                        });
                        continue;
                    }
                }
            }
        };
        answers.versions.insert(plugin, version);
    }
    while let Some(answer) = asking.join_next().await {
        let (plugin, identity, version) = answer?;
        if let Some(identity) = identity {
            answers
                .asked
                .insert(plugin.clone(), (identity, version.clone()));
        }
        answers.versions.insert(plugin, version);
    }
    Ok(answers)
}

/// The identity of a plugin now; `None` if a change could not be noticed, as for the target of a link.
fn identify_plugin(
    bin: Option<&Dir>,
    observed: &ObservedState,
    plugin: &str,
) -> Result<Option<PluginIdentity>, HostError> {
    let (Some(bin), Ok(name)) = (bin, plugin.parse::<PluginName>()) else {
        return Ok(None);
    };
    match observed.disk.plugins.get(&name) {
        Some(FileState::Regular(file)) => Ok(Some(PluginIdentity::Content(file.sha256))),
        _ => Ok(bin.fingerprint(name.file())?.map(PluginIdentity::File)),
    }
}

fn list_plugins_to_ask(context: &Context, observed: &ObservedState) -> BTreeSet<String> {
    let mut plugins = BTreeSet::new();
    let declared = context.settings.network.as_ref();
    if let Some((network, declared)) = observed.network.as_ref().zip(declared) {
        if let Ok(rendered) = &network.rendered {
            plugins.extend(
                rendered
                    .needed
                    .iter()
                    .map(|needed| needed.plugin.to_string()),
            );
        }
        plugins.extend(
            network.with_conf_dir(|dir| list_plugins_asked_by_crio(&declared.file_name, dir)),
        );
    }
    plugins
}

/// Asks every gate that the conflist waits for. Returns a reason for each closed gate.
pub async fn ask_gates(context: &Context) -> Vec<String> {
    // They are asked at the same time, because a gate that does not answer takes seconds.
    let mut asking = JoinSet::new();
    let network = context.settings.network.iter();
    let gates = network.flat_map(|network| network.requires.clone());
    for (number, gate) in gates.enumerate() {
        let context = context.clone();
        asking.spawn(async move {
            let answer = check_gate(&gate, &context.host, &context.settings.fetch).await;
            (number, answer.err().map(|reason| reason.to_string()))
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort();
    answers
        .into_iter()
        .filter_map(|(_, reason)| reason)
        .collect()
}

/// The file of a plugin, if it may be asked.
enum PluginLocation {
    At(PathBuf),
    /// It must not be run; this is its result instead.
    NotAsked(PluginVersion),
}

/// Finds the file of a plugin and decides whether it may be asked.
fn locate_plugin(
    context: &Context,
    bin: Option<&Dir>,
    observed: &ObservedState,
    plugin: &str,
) -> Result<PluginLocation, HostError> {
    let (Some(bin), Ok(name)) = (bin, plugin.parse::<PluginName>()) else {
        return Ok(PluginLocation::NotAsked(PluginVersion::Absent));
    };
    // libcni accepts links as well (`invoke.FindInPath` calls `Stat`). It does not find a link whose target is absent.
    let path = match bin.file_metadata(name.file())?.map(|found| found.kind) {
        Some(FileKind::Regular) => bin.path_of(name.file()),
        Some(FileKind::Other(FileType::Symlink)) => {
            let link = context.settings.paths.bin_dir.join(name.as_str());
            match context.host.resolve_path(&link) {
                Ok(target) => target,
                Err(error) if error.is_absent() => {
                    return Ok(PluginLocation::NotAsked(PluginVersion::Absent));
                }
                Err(error) => {
                    return Ok(PluginLocation::NotAsked(PluginVersion::Broken(
                        error.to_string(),
                    )));
                }
            }
        }
        _ => return Ok(PluginLocation::NotAsked(PluginVersion::Absent)),
    };
    Ok(match observed.plan.is_plugin_wrong(&name) {
        true => PluginLocation::NotAsked(PluginVersion::NotAsDeclared),
        false => PluginLocation::At(path),
    })
}

async fn ask_plugin(context: &Context, plugin: &Path) -> PluginVersion {
    match ask_version(plugin).await {
        Ok(answer) => PluginVersion::Supports(answer.supported),
        Err(error @ VersionError::NoLoader) => match find_missing_interpreter(context, plugin) {
            Some(reason) => PluginVersion::Broken(reason),
            None => PluginVersion::NotRunnable(error.to_string()),
        },
        Err(error) => PluginVersion::Broken(error.to_string()),
    }
}

/// Why a plugin that cannot be run here cannot be run on the host either. `None` if that is not known, because the
/// agent's container may lack a dynamic loader that exists on the host.
fn find_missing_interpreter(context: &Context, plugin: &Path) -> Option<String> {
    if context.host.is_the_machine() {
        return Some("the interpreter or dynamic loader that it names does not exist".to_owned());
    }
    let mut head = Vec::new();
    let machine = Host::open(Path::new("/")).ok()?;
    let file = machine.open_file(plugin).ok()?;
    file.take(LONGEST_SHEBANG).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_whitespace().next()?;
    match context.host.exists(Path::new(interpreter)) {
        Ok(false) => Some(format!(
            "its interpreter {interpreter} does not exist on the host"
        )),
        _ => None,
    }
}
