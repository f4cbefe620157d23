//! Mistakes, and the exact error line of each.

use std::path::Path;

use cni_keeper::config::{Overrides, load};
use cni_keeper::model::Arch;

use super::mistakes::MISTAKES;
use super::{WHOLE, load_text, whole_with};

#[test]
fn each_mistake_is_reported_on_one_exact_line() {
    let mut wrong = String::new();
    for (from, to, expected) in MISTAKES {
        let message = match load_text(&whole_with(from, to)) {
            Ok(_) => "(accepted)".to_owned(),
            Err(errors) => errors.to_string(),
        };
        if message != *expected {
            wrong.push_str(&format!(
                "{from:?} -> {to:?}\n  message  {message:?}\n  expected {expected:?}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(load_text(WHOLE).is_ok());
}

/// Loads a whole text and returns the messages about it.
fn messages_for(text: &str, overrides: &Overrides) -> String {
    let loaded = load(text, Path::new("config.yaml"), overrides);
    loaded.map_or_else(|errors| errors.to_string(), |_| "(accepted)".to_owned())
}

/// A message names what is wrong and how to fix it, whatever the length of the value.
#[test]
fn a_long_value_is_not_repeated_whole() {
    let long = "y".repeat(500_000);
    for (from, end) in [
        ("binDir: /opt/cni/bin", "begin it with /"),
        ("policy: report", "write heal or report"),
        ("resync: 10m", "such as 30s"),
        (
            "endpoint: unix:///run/containerd/containerd.sock",
            "containerd.sock",
        ),
    ] {
        let key = from.split(' ').next().unwrap();
        let text = whole_with(from, &format!("{key} {long}"));
        let message = load_text(&text).unwrap_err().to_string();
        assert!(message.len() < 1000, "{from}: {} bytes", message.len());
        assert!(
            message.contains("'yyy") && message.ends_with(end),
            "{from}: {message}"
        );
    }
    // YAML itself allows no more than 1,024 bytes.
    let key = whole_with("policy: report", &format!("{}: report", &long[..1000]));
    let message = load_text(&key).unwrap_err().to_string();
    assert!(
        message.len() < 1000 && message.contains("unknown key"),
        "{message}"
    );
}

#[test]
fn mistakes_beyond_a_hundred_are_counted() {
    let keys: String = (0..5000)
        .map(|number| format!("  x{number}: 1\n"))
        .collect();
    let text = whole_with("drift:\n", &format!("drift:\n{keys}"));
    let errors = load_text(&text).unwrap_err();
    assert_eq!(errors.all().len(), 101);
    let last = errors.all().last().unwrap();
    assert!(last.message.starts_with("4900 more mistakes"), "{last}");
}

/// A key that stands in the configuration by mistake is not repeated.
#[test]
fn a_private_key_is_not_repeated() {
    let key = "-----BEGIN PRIVATE KEY-----\\nHUSH\\n-----END PRIVATE KEY-----\\n";
    for from in [
        "binDir: /opt/cni/bin",
        "policy: report",
        "resync: 10m",
        "kind: NodeNetwork",
    ] {
        let name = from.split(' ').next().unwrap();
        let text = whole_with(from, &format!("{name} \"{key}\""));
        let message = load_text(&text).unwrap_err().to_string();
        assert!(!message.contains("HUSH"), "{message}");
    }
}

#[test]
fn all_mistakes_are_reported_in_the_order_of_the_file() {
    let text = WHOLE
        .replace("binDir: /opt", "binDir: opt")
        .replace("1db1c76b303", "1db1c76b30")
        .replace("policy: report", "policy: fix");
    let errors = load_text(&text).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "\
config.yaml:4: paths.binDir: 'opt/cni/bin' is not an absolute path; begin it with /
config.yaml:14: artifacts[0].sha256.amd64: a sha256 digest has 64 hexadecimal digits, this has 63; copy it again from the release's .sha256 file
config.yaml:48: drift.policy: 'fix' is not a known value; write heal or report"
    );
    let first = &errors.all()[0];
    assert_eq!(first.line, Some(4));
    assert_eq!(first.key, "paths.binDir");
    assert_eq!(first.profile, None);
}

#[test]
fn a_text_that_is_no_configuration_is_refused() {
    let empty = "config.yaml:1: the file is empty; begin with apiVersion: cni-keeper/v1alpha1 and kind: NodeNetwork";
    let deep = format!("a: {}1{}", "[".repeat(70), "]".repeat(70));
    for (text, expected) in [
        ("", empty),
        ("---\n", empty),
        (
            "- a\n",
            "config.yaml:1: expected a mapping of keys, found a list",
        ),
        (
            "text",
            "config.yaml:1: expected a mapping of keys, found text",
        ),
        (
            "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\n",
            "config.yaml:1: there is nothing to install; name a profile, or write artifacts or network",
        ),
        (
            "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\nnetwork: {}\n",
            "config.yaml:3: network.conflist: missing; write the network configuration list to install, or leave 'network' out to install plugins only",
        ),
        (
            "a: [*b]\n",
            "config.yaml:1:5: anchors and aliases are not supported; write the value itself, or put it in quotes if it is text",
        ),
        (
            &deep,
            "config.yaml:1:27: nested too deeply; at most 24 levels are read",
        ),
        (
            "{\"kind\": \"NodeNetwork\",\n\"kind\": \"NodeNetwork\"}",
            "config.yaml:2: kind: given twice, first on line 1; remove one of them",
        ),
    ] {
        assert_eq!(
            messages_for(text, &Overrides::default()),
            expected,
            "{text:?}"
        );
    }
}

/// The deepest text that is read, and one deeper, both fit into half the stack of a tokio thread.
#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let in_small_thread = |levels: usize| {
        let text = format!("a: {}1{}", "[".repeat(levels), "]".repeat(levels));
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        let message = move || messages_for(&text, &Overrides::default());
        thread.spawn(message).unwrap().join().unwrap()
    };
    assert!(in_small_thread(23).contains("a: unknown key"));
    for (levels, expected) in [
        (24, "nested too deeply"),
        (10_000, "recursion limit exceeded"),
    ] {
        let message = in_small_thread(levels);
        assert!(message.contains(expected), "{message}");
    }
}

/// A small file that would expand into billions of values is refused at its first anchor.
#[test]
fn an_anchor_bomb_does_not_go_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = level - 1;
        let row = vec![format!("*a{below}"); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    assert_eq!(
        messages_for(&bomb, &Overrides::default()),
        "config.yaml:1:9: anchors and aliases are not supported; write the value itself, or put it in quotes if it is text"
    );
}

#[test]
fn a_node_without_a_pin_is_reported_which_architectures_have_one() {
    let text = "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\nprofile: reference-ptp\n";
    let overrides = Overrides {
        arch: Some(Arch::S390x),
        ..Overrides::default()
    };
    assert_eq!(
        messages_for(text, &overrides),
        "config.yaml:3: profile reference-ptp: artifacts[0].sha256: no digest for s390x, only for amd64, arm, arm64, ppc64le, riscv64; add the one of the s390x asset"
    );
}

#[test]
fn another_version_of_a_profiles_artifact_needs_pins_of_its_own() {
    let text = "\
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-bridge
artifacts:
  - name: cni-plugins
    version: v1.8.0
";
    assert_eq!(
        messages_for(text, &Overrides::default()),
        format!(
            "config.yaml:5: artifacts[0].sha256: missing; an artifact without a digest is never installed: write sha256: {{{}: <digest>}}",
            Arch::of_this_program().unwrap()
        )
    );
}

#[test]
fn the_profile_cannot_say_what_schema_the_file_is_written_in() {
    assert_eq!(
        messages_for("profile: flannel\n", &Overrides::default()),
        "\
config.yaml:1: apiVersion: missing; write apiVersion: cni-keeper/v1alpha1
config.yaml:1: kind: missing; write kind: NodeNetwork"
    );
}

#[test]
fn a_mistake_in_a_flag_names_the_flag() {
    for (bin_dir, expected) in [
        (
            "cni",
            "config.yaml: --bin-dir: 'cni' is not an absolute path; begin it with /",
        ),
        (
            "/etc/cni",
            "config.yaml:5: paths.confDir: confDir /etc/cni/net.d lies inside binDir /etc/cni; choose three directories, none of which lies inside another",
        ),
    ] {
        let overrides = Overrides {
            bin_dir: Some(bin_dir.into()),
            arch: Some(Arch::Amd64),
            ..Overrides::default()
        };
        assert_eq!(messages_for(WHOLE, &overrides), expected);
    }
}

/// An overlay as it is delivered: the operator learns of everything that is missing at once.
#[test]
fn all_that_is_to_be_filled_in_is_reported_with_line_key_and_hint_and_nothing_else() {
    let text = "\
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-brige
network:
  podRanges: [\"FILL-IN: the cluster's pod range\"]
  facts:
    - values: {node.podCIDR: \"FILL-IN: this node's part of it\"}
drift:
  policy: nonsense
artifacts:
  - name: cni-plugins
    sources:
      - \"FILL-IN: a mirror that the nodes can reach\"
";
    let expected = "\
config.yaml:5: network.podRanges[0]: FILL-IN: the cluster's pod range
config.yaml:7: network.facts[0].values.node.podCIDR: FILL-IN: this node's part of it
config.yaml:13: artifacts[0].sources[0]: FILL-IN: a mirror that the nodes can reach";
    assert_eq!(messages_for(text, &Overrides::default()), expected);
    let known_profile = text.replace("reference-brige", "reference-bridge");
    assert_eq!(
        messages_for(&known_profile, &Overrides::default()),
        expected
    );
}
