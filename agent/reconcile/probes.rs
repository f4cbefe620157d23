//! Asks what files do not show: whether the gates are open, and which versions the plugins support.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::JoinSet;

use super::context::Context;
use super::error::{ReconcileError, run_blocking};
use super::file_cache::FileStateCache;
use super::observer::{ObservedState, Observer};
use super::plugin_answers::{AskedContent, PluginAnswers, PluginVersion};
use crate::cni::list_plugins_asked_by_crio;
use crate::host::{Dir, FileKind, HashedFile, Host, check_executable};
use crate::model::{FileState, FileType, LARGEST_PLUGIN, PluginName};
use crate::probe::{VERSION_TIMEOUT, VersionError, ask_version, check_gate};

/// How much of a script is read for its first line, in bytes (the kernel's `BINPRM_BUF_SIZE`).
const LONGEST_SHEBANG: u64 = 256;

/// The answers of one pass.
#[derive(Debug, Default)]
pub(super) struct ProbeAnswers {
    /// For each closed gate, why it is closed.
    pub(super) closed_gates: Vec<String>,
    /// What each plugin that matters answered to VERSION.
    pub(super) versions: BTreeMap<String, PluginVersion>,
    /// Everything that was ever answered.
    remembered: PluginAnswers,
    /// The contents of the plugins that matter.
    in_use: Vec<AskedContent>,
    /// The files to which links lead, as they were when they were last read.
    linked: LinkedFiles,
    /// Whether there was no time left in the last pass to ask every plugin.
    is_unfinished: bool,
}

/// The file to which each link leads, by the name of the link.
type LinkedFiles = BTreeMap<String, HashedFile>;

impl ProbeAnswers {
    /// Forgets the plugins that gave no usable answer, so that they are asked again. The cause may be gone.
    pub(super) fn forget_failures(&mut self) {
        self.remembered.forget_failures();
    }

    /// Takes over what plugins have answered to another reconciler.
    pub(super) fn take_answers_from(&mut self, other: &mut Self) {
        self.remembered = std::mem::take(&mut other.remembered);
    }

    /// Whether a plugin gave no usable answer, or was not asked because there was no time left.
    pub(super) fn has_failures(&self) -> bool {
        let broken = |version: &PluginVersion| matches!(version, PluginVersion::Broken(_));
        self.is_unfinished || self.versions.values().any(broken)
    }

    /// When a plugin is to be asked again whose answer could not be had.
    pub(super) fn next_question(&self) -> Option<Instant> {
        self.remembered.next_question(&self.in_use)
    }

    /// The supported versions of a plugin, in the form that the conflist rules need. A plugin that cannot be asked here
    /// counts as supporting all versions.
    pub(super) fn supported_versions(&self, plugin: &str) -> Option<Vec<String>> {
        self.versions.get(plugin)?.supported()
    }
}

/// Asks the plugins whose content was not asked yet, one after the other. A failed answer is kept as well, because it
/// explains why the conflist was not written.
///
/// # Errors
/// When the work on a plugin ends early.
pub(super) async fn ask_plugins(
    observer: &Observer,
    observed: &ObservedState,
    mut answers: ProbeAnswers,
) -> Result<ProbeAnswers, ReconcileError> {
    let context = &observer.context;
    let wanted = list_plugins_to_ask(context, observed);
    let wanted = wanted
        .into_iter()
        .map(|name| WantedPlugin::of(name, observed));
    let (wanted, files): (Vec<_>, _) = (wanted.collect(), observer.files.clone());
    let (reader, mut linked) = (context.clone(), std::mem::take(&mut answers.linked));
    let (located, linked) = run_blocking(move || {
        // Where it cannot be opened, the check `binaries` says so.
        let bin = reader.open_bin_dir().ok().flatten();
        linked.retain(|name, _| wanted.iter().any(|plugin| plugin.name == *name));
        let locate = |plugin: WantedPlugin| {
            let at = locate_plugin(&reader, bin.as_ref(), &plugin, &files, &mut linked);
            (plugin.name, at)
        };
        let located: Vec<_> = wanted.into_iter().map(locate).collect();
        Ok((located, linked))
    })
    .await?;
    answers.linked = linked;
    answers.versions.clear();
    answers.in_use.clear();
    answers.is_unfinished = false;
    let began = Instant::now();
    for (name, location) in located {
        let version = match location {
            PluginLocation::NotAsked(version) => version,
            PluginLocation::At { path, content } => {
                answers.in_use.extend(content.clone());
                let known = content.as_ref();
                let known = known.and_then(|it| answers.remembered.recall(it, Instant::now()));
                match known {
                    Some(version) => still_true(version, &path),
                    // Several plugins that hang must not keep a pass for minutes.
                    None if began.elapsed() >= VERSION_TIMEOUT => {
                        answers.is_unfinished = true;
                        PluginVersion::Unknown(
                            "which CNI versions it supports is unknown: the plugins before it took all the time to \
                             answer, and it is asked next"
                                .to_owned(),
                        )
                    }
                    None => {
                        let version = ask_plugin(context, &path, &name).await;
                        if let Some(content) = content {
                            let now = Instant::now();
                            answers.remembered.record(content, version.clone(), now);
                        }
                        version
                    }
                }
            }
        };
        answers.versions.insert(name, version);
    }
    answers.remembered.forget_unused(&answers.in_use);
    Ok(answers)
}

/// A known answer, unless the kernel would not run the plugin any more: its directory may be mounted noexec by now.
fn still_true(version: &PluginVersion, plugin: &Path) -> PluginVersion {
    match (version, check_executable(plugin)) {
        (PluginVersion::Supports(_), Err(source)) => {
            PluginVersion::Broken(VersionError::Exec { source }.to_string())
        }
        _ => version.clone(),
    }
}

/// A plugin that is to be asked, and what the observation says about it.
struct WantedPlugin {
    name: String,
    /// The state of its file, if it is a declared one.
    state: Option<FileState>,
    is_wrong: bool,
}

impl WantedPlugin {
    fn of(name: String, observed: &ObservedState) -> Self {
        let plugin = name.parse::<PluginName>().ok();
        let plugin = plugin.as_ref();
        Self {
            state: plugin.and_then(|plugin| observed.disk.plugins.get(plugin).cloned()),
            is_wrong: plugin.is_some_and(|plugin| observed.plan.is_plugin_wrong(plugin)),
            name,
        }
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
    At {
        path: PathBuf,
        /// `None` where it cannot be read.
        content: Option<AskedContent>,
    },
    /// It must not be run; this is its result instead.
    NotAsked(PluginVersion),
}

/// Finds the file of a plugin, decides whether it may be asked, and reads it if its content is not known.
fn locate_plugin(
    context: &Context,
    bin: Option<&Dir>,
    plugin: &WantedPlugin,
    files: &FileStateCache,
    linked: &mut LinkedFiles,
) -> PluginLocation {
    let not_asked = PluginLocation::NotAsked;
    let (Some(bin), Ok(name)) = (bin, plugin.name.parse::<PluginName>()) else {
        return not_asked(PluginVersion::Absent);
    };
    // libcni accepts links as well (`invoke.FindInPath` calls `Stat`). It does not find a link whose target is absent.
    let found = match bin.file_metadata(name.file()) {
        Ok(found) => found.map(|found| found.kind),
        Err(error) => return not_asked(PluginVersion::Broken(error.to_string())),
    };
    let found = match found {
        Some(FileKind::Regular) => (bin.path_of(name.file()), None),
        Some(FileKind::Other(FileType::Symlink)) => {
            let link = context.settings.paths.bin_dir.join(name.as_str());
            match context.host.resolve_path(&link) {
                Ok(target) => (target, Some(link)),
                Err(error) if error.is_absent() => return not_asked(PluginVersion::Absent),
                Err(error) => return not_asked(PluginVersion::Broken(error.to_string())),
            }
        }
        _ => return not_asked(PluginVersion::Absent),
    };
    if plugin.is_wrong {
        return not_asked(PluginVersion::NotAsDeclared);
    }
    let (path, link) = found;
    let content = match &link {
        None => {
            let state = match &plugin.state {
                Some(state @ FileState::Regular(_)) => state.clone(),
                _ => files.observe(bin, name.file(), LARGEST_PLUGIN),
            };
            state
                .digest()
                .map(|sha256| AskedContent { sha256, link: None })
        }
        Some(link) => {
            let mut seen = linked.remove(&plugin.name);
            let state = context
                .host
                .observe_linked(link, LARGEST_PLUGIN, &mut seen)
                .unwrap_or(FileState::Absent);
            if let Some(seen) = seen {
                linked.insert(plugin.name.clone(), seen);
            }
            state.digest().map(|sha256| AskedContent {
                sha256,
                link: Some(plugin.name.clone()),
            })
        }
    };
    PluginLocation::At { path, content }
}

async fn ask_plugin(context: &Context, plugin: &Path, name: &str) -> PluginVersion {
    match ask_version(plugin, name).await {
        Ok(answer) => PluginVersion::Supports(answer.supported),
        Err(error @ VersionError::Unknown(_)) => PluginVersion::Unknown(error.to_string()),
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
