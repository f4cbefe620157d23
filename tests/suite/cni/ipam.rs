//! What we refuse in a configuration of host-local, against what host-local's own code refuses, on generated ones.
//! How to run one of them alone is said in `differential`.

use cni_keeper::cni::{Finding, Libcni, check_plugins, validate_conflist};
use serde_json::{Value, json};

use super::differential::{Counts, Run};
use super::generator;
use super::minimise::minimise;
use super::oracle::{self, Oracle, Verdict, base64};
use super::stricter::{STRICTER, STRICTER_STILL};

/// The plugins that have host-local in the generated conflists. Each hands its configuration on as it is.
pub(super) const CALLERS: [&str; 3] = ["bridge", "ptp", "macvlan"];

/// Our errors; `None` if one is not about the IPAM plugin, because other tests look at those, or if another plugin has it.
fn our_errors(text: &[u8]) -> Option<Vec<String>> {
    let conflist: Value = serde_json::from_slice(text).ok()?;
    let report = validate_conflist(text);
    let chain = &report.summary.as_ref()?.chain;
    if !chain
        .iter()
        .all(|plugin| CALLERS.contains(&plugin.as_str()))
    {
        return None;
    }
    let of_text = report.errors().cloned();
    let errors: Vec<Finding> = of_text
        .chain(
            check_plugins(&conflist)
                .into_iter()
                .filter(Finding::is_error),
        )
        .collect();
    let is_of_ipam = errors.iter().all(|error| error.at.contains(".ipam"));
    is_of_ipam.then(|| errors.iter().map(ToString::to_string).collect())
}

fn difference(oracle: &mut Oracle, text: &[u8], counts: &mut Counts) -> Option<String> {
    let ours = our_errors(text)?;
    let theirs: Verdict = oracle.ask(&json!({"ipam": base64(text)}));
    counts.count(if theirs.error.is_some() {
        "refused"
    } else {
        "accepted"
    });
    if theirs.error.is_some() {
        return ours
            .is_empty()
            .then(|| format!("host-local says '{}', we accept it", theirs.text()));
    }
    let unexplained = ours.into_iter().find(|error| {
        let reasons = STRICTER.iter().chain(STRICTER_STILL);
        !reasons.clone().any(|(part, _)| error.contains(part))
    });
    unexplained.map(|error| format!("host-local accepts it, we say '{error}'"))
}

#[test]
fn what_host_local_refuses_we_refuse_and_nothing_else() {
    if !oracle::are_built("what_host_local_refuses_we_refuse_and_nothing_else") {
        return;
    }
    let run = Run::asked(4);
    let counts = run.judge(
        || Oracle::start(Libcni::V1_3),
        |oracle, rng, counts| {
            let text = generator::with_host_local(rng);
            difference(oracle, &text, counts)?;
            let mut ignored = Counts::default();
            let text = minimise(text, |text| {
                difference(oracle, text, &mut ignored).is_some()
            });
            let said = difference(oracle, &text, &mut ignored).unwrap_or_default();
            Some(format!(
                "{said}: {}",
                String::from_utf8_lossy(&text).escape_debug()
            ))
        },
    );
    if run.is_long() {
        for kind in ["refused", "accepted"] {
            assert!(
                counts.share_of(kind, run) > 5,
                "few configurations are {kind}"
            );
        }
    }
}
