//! What cannot be seen and has to be asked: whether the gates hold, and what the plugins say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ReconcileError;
use super::{Keeper, Sight};
use crate::conflist::chains_up_to;
use crate::host::Kind;
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
    let mut answers = Answers {
        closed_gates: closed_gates(keeper).await,
        versions: BTreeMap::new(),
    };
    let Some(network) = &sight.network else {
        return Ok(answers);
    };
    let mut plugins: BTreeSet<String> = BTreeSet::new();
    if let Ok(rendered) = &network.rendered {
        plugins.extend(
            rendered
                .needed
                .iter()
                .map(|needed| needed.plugin.to_string()),
        );
    }
    if let Some(declared) = &keeper.settings.network {
        plugins.extend(network.with_dir(|dir| chains_up_to(&declared.file_name, dir)));
    }
    for plugin in plugins {
        let version = version(keeper, sight, &plugin).await?;
        answers.versions.insert(plugin, version);
    }
    Ok(answers)
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

async fn version(keeper: &Keeper, sight: &Sight, plugin: &str) -> Result<Version, ReconcileError> {
    let (Some(bin), Ok(name)) = (keeper.bin_dir()?, plugin.parse::<PluginName>()) else {
        return Ok(Version::Absent);
    };
    // libcni takes links too (`invoke.FindInPath` asks `Stat`); what a link leads to is the kernel's to run.
    let there = bin.metadata(name.file())?.is_some_and(|metadata| {
        matches!(
            metadata.kind,
            Kind::Regular | Kind::Other(FileType::Symlink)
        )
    });
    if !there {
        return Ok(Version::Absent);
    }
    if sight.plan.concerns(&name) {
        return Ok(Version::Distrusted);
    }
    Ok(match ask_version(&bin.file(name.file())).await {
        Ok(answer) => Version::Supports(answer.supported),
        Err(error @ VersionError::NoLoader) => Version::Unasked(error.to_string()),
        Err(error) => Version::Broken(error.to_string()),
    })
}
