//! What the runtimes make of the configuration directory, and whether ours is the one they take.

use std::path::Path;

use super::network::{NetworkSight, Rendered};
use super::questions::Answers;
use crate::cni::{
    Libcni, Outcome, PassedOver, Standing, Summary, Verdict, check_name_is_free, containerd, crio,
    merged_drop_ins, standing,
};
use crate::config::{ForeignConflists, Network};
use crate::model::{Check, CheckName, Effective, RuntimeView};

/// What every supported runtime makes of the directory, with the name to tell it by.
pub(super) struct View(Vec<(&'static str, Verdict)>);

impl View {
    /// Works out every runtime's verdict.
    pub(super) fn of(network: &NetworkSight, answers: &Answers) -> Self {
        Self(network.with_dir(|dir| {
            vec![
                ("containerd", containerd(dir, Libcni::V1_3)),
                ("containerd up to 1.7", containerd(dir, Libcni::V1_1)),
                ("CRI-O", crio(dir, &|plugin| answers.supported(plugin))),
            ]
        }))
    }

    /// What the newest containerd and CRI-O take.
    pub(super) fn effective(&self) -> Effective {
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

    /// What every runtime takes, and why no other file.
    pub(super) fn runtimes(&self) -> Vec<RuntimeView> {
        let view = |(runtime, verdict): &(&'static str, Verdict)| {
            let mut why: Vec<String> = verdict
                .passed_over
                .iter()
                .map(|(file, reason)| format!("{} is passed over: {reason}", file.display()))
                .collect();
            let (takes, network) = match &verdict.outcome {
                Outcome::Picked { file, network } => {
                    let file = file.to_string_lossy().into_owned();
                    (Some(file), Some(network.name.clone()))
                }
                Outcome::Aborted { file, error } => {
                    why.push(format!("{} stops the whole load: {error}", file.display()));
                    (None, None)
                }
                Outcome::Nothing => {
                    why.push("no file is left to load".to_owned());
                    (None, None)
                }
            };
            RuntimeView {
                runtime,
                takes,
                network,
                why,
            }
        };
        self.0.iter().map(view).collect()
    }

    /// Whether the runtimes take ours. One that is not there, or whose plugins are not, is not said
    /// twice: other checks tell that.
    pub(super) fn precedence(
        &self,
        declared: &Network,
        policy: ForeignConflists,
        network: &NetworkSight,
    ) -> Check {
        let ours = &declared.file_name;
        let mut check = Check::new(CheckName::Precedence);
        for (runtime, verdict) in &self.0 {
            let line = match standing(ours, verdict) {
                Standing::Picked | Standing::Absent => continue,
                // What is wrong with a plugin is told where plugins are.
                Standing::Refused(PassedOver::NoAnswer(_) | PassedOver::Version { .. }) => continue,
                Standing::Shadowed { by, network } => format!(
                    "{} sorts before {ours}, so {runtime} takes its network '{network}'; {}",
                    by.display(),
                    mend(policy)
                ),
                Standing::Blocked { by, error } => format!(
                    "{} sorts before {ours} and does not load ({error}), so {runtime} loads nothing; {}",
                    by.display(),
                    mend(policy)
                ),
                Standing::Refused(reason) => format!("{runtime} does not take {ours}: {reason}"),
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
        {
            check
                .failures
                .extend(neighbours(summary, declared, network));
        }
        check
    }
}

/// What an operator can do about a rival.
const fn mend(policy: ForeignConflists) -> &'static str {
    match policy {
        ForeignConflists::Report => {
            "remove it, or set drift.foreignConflists: disable to have it renamed"
        }
        // It would have been, if its name were one that we can handle.
        ForeignConflists::Disable => "remove or rename it by hand",
    }
}

/// Two generations of containerd mostly say the same thing.
fn same_but_runtime(a: &str, b: &str) -> bool {
    let strip = |text: &str| text.replace(" up to 1.7", "");
    strip(a) == strip(b)
}

/// What else in the directory changes the network: a file with the same network name, and drop-ins.
fn neighbours(summary: &Summary, declared: &Network, network: &NetworkSight) -> Vec<String> {
    let (taken, merged) = network.with_dir(|dir| {
        let taken = check_name_is_free(&summary.name, &declared.file_name, dir);
        let merged = match summary.only_inlined {
            true => Vec::new(),
            false => merged_drop_ins(&summary.name, dir),
        };
        (taken, merged)
    });
    let taken = taken
        .into_iter()
        .map(|finding| format!("{}; {}", finding.problem, finding.mend));
    let merged = merged.into_iter().map(|file| {
        format!(
            "{} is merged into the network (drop-in, libcni 1.3 and newer); remove it, or set \
             loadOnlyInlinedPlugins: true in network.conflist",
            Path::new(&summary.name).join(file).display()
        )
    });
    taken.chain(merged).collect()
}
