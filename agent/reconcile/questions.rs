//! What cannot be seen and has to be asked: whether the gates hold, and what the plugins say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::error::ReconcileError;
use super::{Keeper, Sight};
use crate::conflist::chains_up_to;
use crate::host::{Dir, HostError, Kind};
use crate::model::{FileType, PluginName};
use crate::probe::{VersionError, ask_version, check_gate};

/// The answers of one pass.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Why a gate does not hold, a line each.
    pub(super) closed_gates: Vec<String>,
    /// What every plugin that matters answered to VERSION.
    pub(super) versions: BTreeMap<String, Version>,
}

/// What came of asking a plugin.
#[derive(Debug)]
pub(super) enum Version {
    /// It is not in the bin directory.
    Absent,
    /// It is not what was declared, so it is not run.
    Distrusted,
    /// The versions that it supports.
    Supports(Vec<String>),
    /// It cannot be asked from here, which says nothing against it on the host.
    Unasked(String),
    /// It gave no usable answer.
    Broken(String),
}

impl Answers {
    fn was_asked(&self, plugin: &str) -> bool {
        let answer = self.versions.get(plugin);
        answer.is_some_and(|version| !matches!(version, Version::Absent | Version::Distrusted))
    }

    /// The supported versions of a plugin, in the form that the conflist rules ask for them: one that
    /// cannot be asked from here is given the benefit of the doubt.
    pub(super) fn supported(&self, plugin: &str) -> Option<Vec<String>> {
        match self.versions.get(plugin)? {
            Version::Supports(versions) => Some(versions.clone()),
            Version::Unasked(_) => Some(
                crate::conflist::SPEC_VERSIONS
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
            Version::Absent | Version::Distrusted | Version::Broken(_) => None,
        }
    }
}

/// Asks every gate, and every plugin of ours and of the configurations that sort before ours.
///
/// # Errors
/// When the disk refuses.
pub(super) async fn ask(keeper: &Keeper, sight: &Sight) -> Result<Answers, ReconcileError> {
    let answers = Answers {
        closed_gates: closed_gates(keeper).await,
        versions: BTreeMap::new(),
    };
    ask_rest(keeper, sight, answers).await
}

/// Asks the plugins that were not asked yet. An answer holds as long as the plugin is what it was, and
/// so does the lack of one: it is why the conflist was not written.
///
/// # Errors
/// When the disk refuses.
pub(super) async fn ask_rest(
    keeper: &Keeper,
    sight: &Sight,
    mut answers: Answers,
) -> Result<Answers, ReconcileError> {
    let bin = keeper.bin_dir()?;
    let mut asked = JoinSet::new();
    for plugin in plugins_that_matter(keeper, sight) {
        let version = match place(keeper, bin.as_ref(), sight, &plugin)? {
            Err(version) => version,
            Ok(_) if answers.was_asked(&plugin) => continue,
            Ok(path) => {
                asked.spawn(async move { (plugin, version(&path).await) });
                continue;
            }
        };
        answers.versions.insert(plugin, version);
    }
    while let Some(answer) = asked.join_next().await {
        let (plugin, version) = answer?;
        answers.versions.insert(plugin, version);
    }
    Ok(answers)
}

fn plugins_that_matter(keeper: &Keeper, sight: &Sight) -> BTreeSet<String> {
    let mut plugins = BTreeSet::new();
    let declared = keeper.settings.network.as_ref();
    if let Some((network, declared)) = sight.network.as_ref().zip(declared) {
        if let Ok(rendered) = &network.rendered {
            plugins.extend(
                rendered
                    .needed
                    .iter()
                    .map(|needed| needed.plugin.to_string()),
            );
        }
        plugins.extend(network.with_dir(|dir| chains_up_to(&declared.file_name, dir)));
    }
    plugins
}

/// Why each gate that does not hold does not, a line each.
pub(super) async fn closed_gates(keeper: &Keeper) -> Vec<String> {
    let mut closed = Vec::new();
    for gate in keeper
        .settings
        .network
        .iter()
        .flat_map(|network| &network.requires)
    {
        if let Err(reason) = check_gate(gate, &keeper.host, &keeper.settings.fetch).await {
            closed.push(reason.to_string());
        }
    }
    closed
}

/// Where a plugin is that may be asked, or why there is none.
fn place(
    keeper: &Keeper,
    bin: Option<&Dir>,
    sight: &Sight,
    plugin: &str,
) -> Result<Result<PathBuf, Version>, HostError> {
    let (Some(bin), Ok(name)) = (bin, plugin.parse::<PluginName>()) else {
        return Ok(Err(Version::Absent));
    };
    // libcni takes links too (`invoke.FindInPath` asks `Stat`), and finds nothing where one leads nowhere.
    let path = match bin.metadata(name.file())?.map(|found| found.kind) {
        Some(Kind::Regular) => bin.file(name.file()),
        Some(Kind::Other(FileType::Symlink)) => {
            let link = keeper.settings.paths.bin_dir.join(name.as_str());
            match keeper.host.locate(&link) {
                Ok(target) => target,
                Err(error) if error.is_absent() => return Ok(Err(Version::Absent)),
                Err(error) => return Ok(Err(Version::Broken(error.to_string()))),
            }
        }
        _ => return Ok(Err(Version::Absent)),
    };
    Ok(match sight.plan.concerns(&name) {
        true => Err(Version::Distrusted),
        false => Ok(path),
    })
}

async fn version(plugin: &Path) -> Version {
    match ask_version(plugin).await {
        Ok(answer) => Version::Supports(answer.supported),
        Err(error @ VersionError::NoLoader) => Version::Unasked(error.to_string()),
        Err(error) => Version::Broken(error.to_string()),
    }
}
