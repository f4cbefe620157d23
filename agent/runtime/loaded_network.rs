//! Compares what the runtime has loaded with what is declared.

use std::path::PathBuf;

use serde_json::Value;

use super::cri_messages::{CriCondition, CriStatus, LoadedCni, LoadedNetwork};

/// What a runtime must have loaded on a node whose files are as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNetwork {
    /// The conflist's file name.
    pub file: String,
    /// The network's name.
    pub network: String,
    /// The types of its plugins, in order.
    pub chain: Vec<String>,
    /// The conflist's text.
    pub text: String,
    /// The file that sorts first and the name of its network, if it is another one. containerd takes that one.
    pub rival: Option<(String, String)>,
    /// The configuration directory, as [`super::real_dir`] gives it.
    pub conf_dir: PathBuf,
    /// The plugin directory, as [`super::real_dir`] gives it.
    pub bin_dir: PathBuf,
}

/// Why pods do not get the declared network although the files are as declared: a line for each reason, with what to
/// do. Empty if they get it.
///
/// containerd needs a few milliseconds to load a change on disk. An answer from directly after one may be outdated.
#[must_use]
pub fn compare_loaded_network(answer: &CriStatus, expected: &ExpectedNetwork) -> Vec<String> {
    let mut reasons = Vec::new();
    // Only containerd reports what it has loaded.
    let runtime = answer
        .cni
        .as_ref()
        .map_or("the container runtime", |_| "containerd");
    if !answer.runtime.ready {
        let why = format_reason(&answer.runtime);
        reasons.push(format!(
            "{runtime} says that it is not ready{why}; look at its log"
        ));
    }
    if let Some(cni) = &answer.cni {
        reasons.extend(check_bin_dir(cni, expected));
        if let Some(reason) = check_network(cni, answer, expected) {
            reasons.push(reason);
            return reasons;
        }
    }
    if !answer.network.ready {
        let why = format_reason(&answer.network);
        let file = &expected.file;
        reasons.push(match &answer.cni {
            Some(_) => format!(
                "containerd has loaded {file} and says that its network is not ready{why}; look at the plugin that it names"
            ),
            None => format!(
                "the container runtime says that its network is not ready{why} although {file} is on disk; if this lasts, restart it, running pods stay up"
            ),
        });
    }
    reasons
}

fn format_reason(condition: &CriCondition) -> String {
    match condition.why.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    }
}

/// If containerd does not find the plugins, every new pod fails while containerd reports that it is ready.
fn check_bin_dir(cni: &LoadedCni, expected: &ExpectedNetwork) -> Option<String> {
    if cni.bin_dirs.is_empty() || cni.bin_dirs.contains(&expected.bin_dir) {
        return None;
    }
    let dirs: Vec<String> = cni
        .bin_dirs
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    Some(format!(
        "containerd looks for plugins in {}, not in {}; set bin_dir in its config.toml, or paths.binDir here",
        dirs.join(" and "),
        expected.bin_dir.display()
    ))
}

/// Why pods would get another network than the declared one. If there are several networks, the first one becomes eth0.
fn check_network(
    cni: &LoadedCni,
    answer: &CriStatus,
    expected: &ExpectedNetwork,
) -> Option<String> {
    let file = &expected.file;
    let in_use = cni.networks.first();
    if in_use.is_some_and(|network| is_declared(network, expected)) {
        return None;
    }
    if cni.conf_dir != expected.conf_dir {
        return Some(format!(
            "containerd reads networks from {}, not from {}; set conf_dir in its config.toml, or paths.confDir here",
            cni.conf_dir.display(),
            expected.conf_dir.display()
        ));
    }
    let restart = "restart containerd, running pods stay up: it lost its watch, as when the directory is deleted and re-created";
    if let (Some(network), Some((rival, name))) = (in_use, &expected.rival)
        && network.name == *name
    {
        return Some(format!(
            "containerd uses the network '{name}' of {rival}, which sorts before {file}; the check precedence says what to do \
             about that file"
        ));
    }
    Some(match (in_use, &cni.failure) {
        (None, Some(failure)) if !failure.contains("no network config found") => {
            format!(
                "containerd could not load {file}: {failure}; fix or remove the file that it names"
            )
        }
        (None, _) => format!(
            "containerd has not loaded {file} although it is on disk{}; {restart}",
            format_reason(&answer.network)
        ),
        (Some(network), _) if network.name != expected.network => format!(
            "containerd uses the network '{}' and not '{}' of {file}; {restart}",
            network.name, expected.network
        ),
        (Some(network), _) if network.chain != expected.chain => format!(
            "containerd runs {} for {}, {file} declares {}; {restart}",
            network.chain.join(", "),
            network.name,
            expected.chain.join(", ")
        ),
        (Some(_), _) => {
            format!("containerd uses another version of {file} than the one on disk; {restart}")
        }
    })
}

/// Texts are compared as JSON values. A text that is not JSON is not compared.
fn is_declared(network: &LoadedNetwork, expected: &ExpectedNetwork) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let same_text = match (parsed(&network.text), parsed(&expected.text)) {
        (Some(loaded), Some(declared)) => loaded == declared,
        _ => true,
    };
    network.name == expected.network && network.chain == expected.chain && same_text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        r#"{"name":"pods","plugins":[{"type":"bridge","mtu":1450},{"type":"portmap"}]}"#;

    fn expected() -> ExpectedNetwork {
        ExpectedNetwork {
            file: "10-x.conflist".to_owned(),
            network: "pods".to_owned(),
            chain: vec!["bridge".to_owned(), "portmap".to_owned()],
            text: TEXT.to_owned(),
            rival: None,
            conf_dir: "/etc/cni/net.d".into(),
            bin_dir: "/opt/cni/bin".into(),
        }
    }

    fn ready() -> CriCondition {
        CriCondition {
            ready: true,
            why: String::new(),
        }
    }

    fn not_ready(why: &str) -> CriCondition {
        CriCondition {
            ready: false,
            why: why.to_owned(),
        }
    }

    /// containerd with everything as declared.
    fn right() -> (CriStatus, LoadedCni) {
        let cni = LoadedCni {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/usr/lib/cni".into(), "/opt/cni/bin".into()],
            networks: vec![LoadedNetwork {
                name: "pods".to_owned(),
                chain: expected().chain,
                text: TEXT.to_owned(),
            }],
            failure: None,
        };
        let answer = CriStatus {
            runtime: ready(),
            network: ready(),
            cni: None,
        };
        (answer, cni)
    }

    /// The reasons that are reported about containerd after `change`.
    fn message(change: impl FnOnce(&mut CriStatus, &mut LoadedCni)) -> Vec<String> {
        let (mut answer, mut cni) = right();
        change(&mut answer, &mut cni);
        answer.cni = Some(cni);
        compare_loaded_network(&answer, &expected())
    }

    #[test]
    fn nothing_is_reported_about_a_runtime_that_has_loaded_what_is_declared() {
        assert_eq!(message(|_, _| {}), Vec::<String>::new());
        assert_eq!(
            compare_loaded_network(&right().0, &expected()),
            Vec::<String>::new()
        );
        // Spaces and the order of keys do not matter; a runtime that reports no text does not differ.
        for text in [
            r#"{ "plugins": [{"mtu": 1450, "type": "bridge"}, {"type": "portmap"}], "name": "pods" }"#,
            "",
        ] {
            let reasons = message(|_, cni| text.clone_into(&mut cni.networks[0].text));
            assert_eq!(reasons, Vec::<String>::new(), "{text}");
        }
        // A failure to load what is loaded now is over.
        let reasons = message(|_, cni| cni.failure = Some("net.d/05-bad.conflist".to_owned()));
        assert_eq!(reasons, Vec::<String>::new());
    }

    #[test]
    fn a_blind_runtime_is_to_be_restarted() {
        let reasons = message(|answer, cni| {
            answer.network = not_ready("cni plugin not initialized");
            cni.networks.clear();
            cni.failure = Some("cni config load failed: no network config found in /x".to_owned());
        });
        assert_eq!(
            reasons,
            [
                "containerd has not loaded 10-x.conflist although it is on disk (cni plugin not initialized); restart containerd, running pods stay up: it lost its watch, as when the directory is deleted and re-created"
            ]
        );
    }

    #[test]
    fn a_load_that_failed_on_a_file_names_it() {
        let reasons = message(|answer, cni| {
            answer.network = not_ready("cni plugin not initialized");
            cni.networks.clear();
            cni.failure = Some("cannot parse /etc/cni/net.d/05-bad.conflist".to_owned());
        });
        assert_eq!(
            reasons,
            [
                "containerd could not load 10-x.conflist: cannot parse /etc/cni/net.d/05-bad.conflist; fix or remove the file that it names"
            ]
        );
    }

    #[test]
    fn another_network_is_not_the_declared_one() {
        let first = |change: fn(&mut LoadedNetwork)| message(|_, cni| change(&mut cni.networks[0]));
        for (reasons, begin) in [
            (
                first(|network| network.name = "other".to_owned()),
                "containerd uses the network 'other' and not 'pods' of 10-x.conflist; restart containerd",
            ),
            (
                first(|network| network.chain.push("tuning".to_owned())),
                "containerd runs bridge, portmap, tuning for pods, 10-x.conflist declares bridge, portmap; restart",
            ),
            (
                first(|network| network.text = TEXT.replace("1450", "1500")),
                "containerd uses another version of 10-x.conflist than the one on disk; restart containerd",
            ),
            (
                message(|_, cni| cni.networks.insert(0, LoadedNetwork::default())),
                "containerd uses the network '' and not 'pods'",
            ),
        ] {
            assert_eq!(reasons.len(), 1, "{reasons:?}");
            assert!(reasons[0].starts_with(begin), "{reasons:?}");
        }
    }

    /// What sorts first is loaded rightly, so a restart would change nothing.
    #[test]
    fn a_loaded_rival_is_no_lost_watch() {
        let (mut answer, mut cni) = right();
        cni.networks[0].name = "theirs".to_owned();
        answer.cni = Some(cni);
        let expected = |rival: &str| ExpectedNetwork {
            rival: Some(("05-y.conf".to_owned(), rival.to_owned())),
            ..expected()
        };
        let reasons = compare_loaded_network(&answer, &expected("theirs"));
        assert_eq!(
            reasons,
            [
                "containerd uses the network 'theirs' of 05-y.conf, which sorts before 10-x.conflist; the check precedence says what to do about that file"
            ]
        );
        let reasons = compare_loaded_network(&answer, &expected("another"));
        assert!(reasons[0].contains("restart containerd"), "{reasons:?}");
    }

    #[test]
    fn a_runtime_set_to_other_directories_is_distinguished_from_a_blind_one() {
        let reasons = message(|answer, cni| {
            answer.network = not_ready("cni plugin not initialized");
            cni.networks.clear();
            cni.conf_dir = "/var/lib/net.d".into();
            cni.bin_dirs = vec!["/usr/lib/cni".into()];
        });
        assert_eq!(
            reasons,
            [
                "containerd looks for plugins in /usr/lib/cni, not in /opt/cni/bin; set bin_dir in its config.toml, or paths.binDir here",
                "containerd reads networks from /var/lib/net.d, not from /etc/cni/net.d; set conf_dir in its config.toml, or paths.confDir here",
            ]
        );
        // Two ways to one directory: what is loaded is the proof.
        let reasons = message(|_, cni| cni.conf_dir = "/var/lib/net.d".into());
        assert_eq!(reasons, Vec::<String>::new());
    }

    #[test]
    fn a_runtime_that_says_no_is_believed() {
        let reasons = message(|answer, _| {
            answer.runtime = not_ready("shutting down");
            answer.network = not_ready("plugin bridge: no bridge");
        });
        assert_eq!(
            reasons,
            [
                "containerd says that it is not ready (shutting down); look at its log",
                "containerd has loaded 10-x.conflist and says that its network is not ready (plugin bridge: no bridge); look at the plugin that it names",
            ]
        );
        let (mut answer, _) = right();
        answer.network = not_ready("");
        assert_eq!(
            compare_loaded_network(&answer, &expected()),
            [
                "the container runtime says that its network is not ready although 10-x.conflist is on disk; if this lasts, restart it, running pods stay up"
            ]
        );
    }
}
