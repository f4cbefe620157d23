//! From what was seen and answered to what is true: the snapshot.

use std::ffi::OsStr;

use super::network::{NetworkSight, Rendered, Waiting};
use super::questions::{Answers, Version};
use super::{Keeper, Sight};
use crate::config::Network;
use crate::conflist::{
    Libcni, Needed, Outcome, Standing as Place, Verdict, check_name_is_free, check_plugins,
    containerd, crio, merged_drop_ins, standing,
};
use crate::model::{
    Check, Drift, Effective, FileMode, FileName, FileReport, FileState, PluginName, Sha256,
    Snapshot, Standing,
};
use crate::plan::compare;

/// Makes the snapshot of one pass.
pub(super) fn snapshot(keeper: &Keeper, sight: &Sight, answers: &Answers) -> Snapshot {
    let plugins = plugin_reports(keeper, sight);
    let mut checks = vec![binaries(keeper, sight, &plugins)];
    let mut files = plugins;
    let mut effective = None;
    if let Some((network, declared)) = sight.network.as_ref().zip(keeper.settings.network.as_ref())
    {
        let conflist = conflist_report(keeper, sight, network, declared);
        let view = View::of(network, answers);
        checks.push(conflist_check(&conflist, network));
        checks.push(view.precedence(declared, network));
        checks.push(plugins_check(sight, network, declared, answers));
        checks.push(Check {
            name: "gates",
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

fn plugin_reports(keeper: &Keeper, sight: &Sight) -> Vec<FileReport> {
    let mut reports = Vec::new();
    let bin = keeper.host.shown(&keeper.settings.paths.bin_dir);
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
    keeper: &Keeper,
    sight: &Sight,
    network: &NetworkSight,
    declared: &Network,
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
            .shown(&keeper.settings.paths.conf_dir)
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

fn binaries(keeper: &Keeper, sight: &Sight, plugins: &[FileReport]) -> Check {
    let mut failures: Vec<String> = plugins.iter().flat_map(told).collect();
    let absent = plugins.iter().all(|file| file.drifts == [Drift::Missing]);
    if absent && plugins.len() > 1 && matches!(keeper.bin_dir(), Ok(None)) {
        // One line says what eighteen would.
        let path = keeper.host.shown(&keeper.settings.paths.bin_dir);
        failures = vec![format!(
            "{} does not exist, and with it {} plugins",
            path.display(),
            plugins.len()
        )];
    }
    Check {
        name: "binaries",
        failures,
        warnings: strays(keeper, sight),
    }
}

/// What we placed and nobody declares any more. It stays, since pods that run may still need it to
/// be taken down.
fn strays(keeper: &Keeper, sight: &Sight) -> Vec<String> {
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

fn conflist_check(file: &FileReport, network: &NetworkSight) -> Check {
    let mut check = Check {
        name: "conflist",
        failures: Vec::new(),
        warnings: Vec::new(),
    };
    match &network.rendered {
        Ok(Rendered { report, .. }) => {
            check.failures.extend(told(file));
            check.warnings.extend(
                report.warnings().map(|finding| {
                    format!("{}: {}; {}", finding.at, finding.problem, finding.mend)
                }),
            );
        }
        Err(Waiting(reason)) => check
            .failures
            .push(format!("cannot be rendered yet: {reason}")),
    }
    check
}

/// Whether every plugin that the conflist needs is there and answers. What is wrong with a declared
/// plugin's file is not said again: that is the `binaries` check.
fn plugins_check(
    sight: &Sight,
    network: &NetworkSight,
    declared: &Network,
    answers: &Answers,
) -> Check {
    let mut check = Check {
        name: "plugins",
        failures: Vec::new(),
        warnings: Vec::new(),
    };
    for (plugin, version) in &answers.versions {
        match version {
            Version::Broken(reason) => check.failures.push(format!("{plugin}: {reason}")),
            Version::Unasked(reason) => check.warnings.push(format!("{plugin}: {reason}")),
            Version::Absent | Version::Distrusted | Version::Supports(_) => {}
        }
    }
    let Ok(Rendered { report, needed, .. }) = &network.rendered else {
        return check;
    };
    let Some(summary) = &report.summary else {
        return check;
    };
    let told = |plugin: &PluginName| {
        let broken = matches!(
            answers.versions.get(plugin.as_str()),
            Some(Version::Broken(_))
        );
        broken || sight.plan.concerns(plugin)
    };
    let needed: Vec<Needed> = needed
        .iter()
        .filter(|needed| !told(&needed.plugin))
        .cloned()
        .collect();
    let taken = network.with_dir(|dir| check_name_is_free(&summary.name, &declared.file_name, dir));
    let mut findings = check_plugins(&needed, summary, &|plugin| answers.supported(plugin));
    findings.extend(taken);
    for finding in findings {
        let line = format!("{}; {}", finding.problem, finding.mend);
        if !check.failures.contains(&line) {
            check.failures.push(line);
        }
    }
    check
}

/// What every supported runtime makes of the directory, with the name to tell it by.
struct View(Vec<(&'static str, Verdict)>);

impl View {
    fn of(network: &NetworkSight, answers: &Answers) -> Self {
        Self(network.with_dir(|dir| {
            vec![
                ("containerd up to 1.7", containerd(dir, Libcni::V1_1)),
                ("containerd", containerd(dir, Libcni::V1_3)),
                ("CRI-O", crio(dir, &|plugin| answers.supported(plugin))),
            ]
        }))
    }

    fn effective(&self) -> Effective {
        let picked = |runtime: &str| {
            let (_, verdict) = self.0.iter().find(|(name, _)| *name == runtime)?;
            match &verdict.outcome {
                Outcome::Picked { file, .. } => Some(file.to_string_lossy().into_owned()),
                Outcome::Aborted { .. } | Outcome::Nothing => None,
            }
        };
        Effective {
            containerd: picked("containerd"),
            crio: picked("CRI-O"),
        }
    }

    /// Whether the runtimes take ours. One that is not there, or whose plugins are not, is not said
    /// twice: other checks tell that.
    fn precedence(&self, declared: &Network, network: &NetworkSight) -> Check {
        let ours = &declared.file_name;
        let mut check = Check {
            name: "precedence",
            failures: Vec::new(),
            warnings: Vec::new(),
        };
        for (runtime, verdict) in &self.0 {
            let line = match standing(ours, verdict) {
                Place::Picked | Place::Absent => continue,
                Place::Shadowed { by, network } => format!(
                    "{} sorts before {ours}, so {runtime} takes its network '{network}'; {}",
                    by.display(),
                    MEND
                ),
                Place::Blocked { by, error } => format!(
                    "{} sorts before {ours} and does not load ({error}), so {runtime} loads nothing; {}",
                    by.display(),
                    MEND
                ),
                Place::Refused(reason) => format!("{runtime} does not take {ours}: {reason}"),
            };
            let known = check
                .failures
                .iter()
                .any(|other| same_but_runtime(other, &line));
            if !known {
                check.failures.push(line);
            }
        }
        if let Ok(Rendered { report, .. }) = &network.rendered
            && let Some(summary) = &report.summary
            && !summary.only_inlined
        {
            let merged = network.with_dir(|dir| merged_drop_ins(&summary.name, dir));
            for file in merged {
                check.failures.push(format!(
                    "{} is merged into the network (drop-in, libcni 1.3 and newer); remove it, or set \
                     loadOnlyInlinedPlugins: true in network.conflist",
                    std::path::Path::new(OsStr::new(&summary.name)).join(file).display()
                ));
            }
        }
        check
    }
}

/// What an operator can do about a rival.
const MEND: &str = "remove it, or set drift.foreignConflists: disable to have it renamed";

/// Two generations of containerd mostly say the same thing.
fn same_but_runtime(a: &str, b: &str) -> bool {
    let strip = |text: &str| text.replace(" up to 1.7", "");
    strip(a) == strip(b)
}
