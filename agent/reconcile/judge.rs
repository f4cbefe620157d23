//! From what was seen and answered to what is true: the snapshot.

use super::error::ReconcileError;
use super::network::{NotRendered, ObservedNetwork, RenderedConflist};
use super::precedence::RuntimeVerdicts;
use super::questions::{PluginVersion, ProbeAnswers};
use super::{Context, ObservedState};
use crate::cni::{RequiredPlugin, check_plugin_versions};
use crate::config::NetworkSettings;
use crate::model::{
    Candidate, Check, CheckName, Difference, Directory, EffectiveNetwork, FileMode, FileName,
    FileReport, FileState, PluginName, Sha256, Snapshot, Standing,
};
use crate::plan::compare;
use crate::trust::describe_weakness;

/// Makes the snapshot of one pass.
pub(super) fn snapshot(
    keeper: &Context,
    sight: &ObservedState,
    answers: &ProbeAnswers,
) -> Snapshot {
    let plugins = plugin_reports(keeper, sight);
    let mut checks = vec![binaries(keeper, sight, &plugins)];
    let mut files = plugins;
    let mut effective = None;
    if let Some((network, declared)) = sight.network.as_ref().zip(keeper.settings.network.as_ref())
    {
        let conflist = conflist_report(keeper, sight, network, declared);
        let view = RuntimeVerdicts::of(network, answers);
        let policy = keeper.settings.drift.foreign_conflists;
        checks.push(conflist_check(&conflist, network));
        checks.push(view.precedence(declared, policy, network));
        checks.push(plugins_check(sight, network, answers));
        checks.push(Check {
            name: CheckName::Gates,
            failures: answers.closed_gates.clone(),
            warnings: Vec::new(),
        });
        effective = Some(view.effective());
        files.push(conflist);
    }
    Snapshot {
        files,
        checks,
        effective,
    }
}

fn plugin_reports(keeper: &Context, sight: &ObservedState) -> Vec<FileReport> {
    let mut reports = Vec::new();
    let bin = keeper.host.display_path(&keeper.settings.paths.bin_dir);
    for wanted in &sight.desired.plugins {
        let state = sight
            .observed
            .plugins
            .get(&wanted.plugin)
            .unwrap_or(&FileState::Absent);
        let kept = sight.plan.kept.contains(&wanted.plugin);
        let drifts = match kept {
            true => Vec::new(),
            false => compare(state, wanted.sha256, FileMode::PLUGIN, sight.desired.owner),
        };
        let version = keeper
            .settings
            .artifacts
            .iter()
            .find(|artifact| artifact.name == wanted.artifact)
            .map(|artifact| artifact.version.as_str());
        reports.push(FileReport {
            path: bin.join(wanted.plugin.as_str()),
            standing: match (kept, drifts.is_empty()) {
                (true, _) => Standing::Kept,
                (false, true) => Standing::Ok,
                (false, false) => Standing::Drift,
            },
            expected: wanted.sha256,
            actual: content(state),
            origin: format!("{} {}", wanted.artifact, version.unwrap_or_default()),
            drifts,
        });
    }
    reports
}

fn conflist_report(
    keeper: &Context,
    sight: &ObservedState,
    network: &ObservedNetwork,
    declared: &NetworkSettings,
) -> FileReport {
    let state = sight
        .observed
        .conflists
        .get(&declared.file_name)
        .unwrap_or(&FileState::Absent);
    let expected = network
        .rendered
        .as_ref()
        .ok()
        .map(|rendered| rendered.sha256);
    // What cannot be rendered yet cannot be compared.
    let drifts = match expected {
        Some(_) => compare(state, expected, declared.file_mode, sight.desired.owner),
        None => Vec::new(),
    };
    FileReport {
        path: keeper
            .host
            .display_path(&keeper.settings.paths.conf_dir)
            .join(declared.file_name.as_str()),
        standing: match (expected, drifts.is_empty()) {
            (None, _) => Standing::Waiting,
            (Some(_), true) => Standing::Ok,
            (Some(_), false) => Standing::Drift,
        },
        expected,
        actual: content(state),
        origin: "configuration".to_owned(),
        drifts,
    }
}

const fn content(state: &FileState) -> Option<Sha256> {
    match state {
        FileState::Regular(file) => Some(file.sha256),
        _ => None,
    }
}

fn told(file: &FileReport) -> impl Iterator<Item = String> {
    file.drifts
        .iter()
        .map(|drift| format!("{} {drift}", file.path.display()))
}

fn binaries(keeper: &Context, sight: &ObservedState, plugins: &[FileReport]) -> Check {
    let mut failures: Vec<String> = plugins.iter().flat_map(told).collect();
    let absent = plugins
        .iter()
        .all(|file| file.drifts == [Difference::Missing]);
    if absent && plugins.len() > 1 && sight.bin_is_absent {
        // One line says what eighteen would.
        let path = keeper.host.display_path(&keeper.settings.paths.bin_dir);
        failures = vec![format!(
            "{} does not exist, and with it {} plugins",
            path.display(),
            plugins.len()
        )];
    }
    // First, since it is why: a short answer tells of the first failure only.
    let dead = sight.dead.iter().map(|dir| {
        format!(
            "{} was removed on the host while it is mounted here, so nothing that is put there is seen; mount its \
             parent directory instead",
            dir.display()
        )
    });
    failures.splice(..0, dead);
    failures.extend(keeper.unknown_pins(sight.plan.fetches()));
    Check {
        name: CheckName::Binaries,
        failures,
        warnings: weaknesses(keeper).chain(strays(keeper, sight)).collect(),
    }
}

/// What is weak about where the digests come from.
fn weaknesses(keeper: &Context) -> impl Iterator<Item = String> {
    keeper
        .settings
        .artifacts
        .iter()
        .filter_map(describe_weakness)
}

/// What we placed and nobody declares any more. It stays, since pods that run may still need it to
/// be taken down.
fn strays(keeper: &Context, sight: &ObservedState) -> Vec<String> {
    let (bin, conf) = keeper.shown_dirs();
    let declared = |name: &FileName| {
        let plugins = &sight.desired.plugins;
        plugins.iter().any(|wanted| wanted.plugin.file() == name)
    };
    let placed = &sight.observed;
    let plugins = placed.placed_plugins.keys().filter(|name| !declared(name));
    let conflists = match keeper.settings.network {
        // With a network declared, an earlier conflist of ours is retired.
        Some(_) => None,
        None => Some(placed.placed_conflists.keys()),
    };
    plugins
        .map(|name| bin.join(name.as_str()))
        .chain(
            conflists
                .into_iter()
                .flatten()
                .map(|name| conf.join(name.as_str())),
        )
        .map(|path| {
            let path = path.display();
            format!("{path} was placed earlier and is no longer declared; it stays until uninstall")
        })
        .collect()
}

fn conflist_check(file: &FileReport, network: &ObservedNetwork) -> Check {
    let mut check = Check::new(CheckName::Conflist);
    match &network.rendered {
        Ok(RenderedConflist { report, .. }) => {
            check.failures.extend(told(file));
            check.warnings.extend(
                report
                    .warnings()
                    .map(|finding| format!("{}: {}; {}", finding.at, finding.problem, finding.fix)),
            );
        }
        Err(NotRendered::Wrong(ReconcileError::Conflist(findings))) => {
            let lines = findings
                .iter()
                .map(|finding| format!("{}: {}; {}", finding.at, finding.problem, finding.fix));
            check.failures.extend(lines);
        }
        Err(unrendered) => check.failures.push(unrendered.to_string()),
    }
    check
}

/// Whether every plugin that the conflist needs is there and answers. What is wrong with a declared
/// plugin's file is not said again: that is the `binaries` check.
fn plugins_check(
    sight: &ObservedState,
    network: &ObservedNetwork,
    answers: &ProbeAnswers,
) -> Check {
    let mut check = Check::new(CheckName::Plugins);
    for (plugin, version) in &answers.versions {
        match version {
            PluginVersion::Broken(reason) => check.failures.push(format!("{plugin}: {reason}")),
            PluginVersion::Unasked(reason) => check.warnings.push(format!("{plugin}: {reason}")),
            PluginVersion::Absent | PluginVersion::Distrusted | PluginVersion::Supports(_) => {}
        }
    }
    let Ok(RenderedConflist { report, needed, .. }) = &network.rendered else {
        return check;
    };
    let Some(summary) = &report.summary else {
        return check;
    };
    let told = |plugin: &PluginName| {
        let broken = matches!(
            answers.versions.get(plugin.as_str()),
            Some(PluginVersion::Broken(_))
        );
        broken || sight.plan.concerns(plugin)
    };
    let needed: Vec<RequiredPlugin> = needed
        .iter()
        .filter(|needed| !told(&needed.plugin))
        .cloned()
        .collect();
    for finding in check_plugin_versions(&needed, summary, &|plugin| answers.supported(plugin)) {
        let line = format!("{}; {}", finding.problem, finding.fix);
        if !check.failures.contains(&line) {
            check.failures.push(line);
        }
    }
    check
}

/// The configuration directory as the runtimes see it.
pub(super) fn directory(
    keeper: &Context,
    sight: &ObservedState,
    answers: &ProbeAnswers,
) -> Option<Directory> {
    let (network, declared) = sight
        .network
        .as_ref()
        .zip(keeper.settings.network.as_ref())?;
    let loaded = network.load_candidates();
    let runtimes = RuntimeVerdicts::of(network, answers).runtimes();
    let effective = loaded.first().and_then(|(file, loaded)| {
        let loaded = loaded.as_ref().ok()?;
        Some(EffectiveNetwork {
            file: file.clone(),
            name: loaded.name.clone(),
            cni_version: loaded.version.clone(),
            chain: loaded.chain.clone(),
            text: network.content(&file.parse().ok()?).unwrap_or_default(),
        })
    });
    let candidates = loaded.into_iter().map(|(name, loaded)| {
        let (network, error) = match loaded {
            Ok(network) => (Some(network.name), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Candidate {
            ours: name == declared.file_name.as_str(),
            name,
            network,
            error,
        }
    });
    Some(Directory {
        path: keeper.host.display_path(&keeper.settings.paths.conf_dir),
        runtimes,
        candidates: candidates.collect(),
        effective,
    })
}
