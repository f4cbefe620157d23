//! Mistakes are reported before anything is touched: exit 64, and a line with file, line and key.

use std::fs;
use std::path::Path;

use crate::support::node::{BIN, CONF, CONFLIST, Node, Outcome, STATE, start};
use crate::support::release::{NETWORK, RELEASE, unreachable_url};

/// Every command that reads a declaration refuses it, with the same lines, and the disk stays as it is.
fn refused(node: &Node, lines: &[String]) {
    let before = node.whole_tree();
    for command in ["install", "plan", "verify", "render", "validate"] {
        let outcome = node.run(command);
        assert_eq!(outcome.exits(64).errors(), lines, "{command}");
    }
    assert_eq!(before, node.whole_tree());
}

/// Fault 55, for one command: an invalid new configuration changes nothing, and says why.
#[test]
fn fault_55_mistakes_are_named_by_line_and_key() {
    let node = Node::installed();
    let config = node.config();
    let config = config.display();
    node.declare_text("profile: reference-bridge\nartefacts: []\ndrift: {policy: fix}\n");
    refused(
        &node,
        &[
            format!("{config}:4: artefacts: unknown key; did you mean 'artifacts'?"),
            format!("{config}:5: drift.policy: 'fix' is not a known value; write heal or report"),
        ],
    );
    node.run("uninstall").exits(64);
    for command in ["install", "plan", "verify", "uninstall"] {
        let json = node.run(&format!("{command} -o json")).exits(64).json();
        assert_eq!(json["errors"].as_array().unwrap().len(), 2, "{command}");
    }
    let json = node.run("validate -o json").exits(64).json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["errors"].as_array().unwrap().len(), 2);
}

#[test]
fn a_file_that_is_no_yaml_or_not_there() {
    let node = Node::empty();
    node.declare_text("artifacts: [\n");
    let outcome = node.run("install");
    let begin = format!("{}:", node.config().display());
    assert!(
        outcome.exits(64).errors()[0].starts_with(&begin),
        "{outcome}"
    );

    fs::write(node.config(), b"\xff\xfe").unwrap();
    node.run("install")
        .exits(64)
        .says("config.yaml is not UTF-8 text; save it as UTF-8\n");

    fs::remove_file(node.config()).unwrap();
    let reported = format!(
        "error: cannot find {}: No such file or directory; name a configuration with --config FILE\n",
        node.config().display()
    );
    for command in [
        "install",
        "plan",
        "verify",
        "render",
        "validate",
        "uninstall",
    ] {
        node.run(command).exits(64).says(&reported);
    }
    assert_eq!(node.whole_tree().paths(), [""; 0]);
}

#[test]
fn bad_usage() {
    let node = Node::declared();
    for (arguments, reported) in [
        ("install --ofline", "--offline"),
        ("instal", "install"),
        ("", "Usage: cni-keeper"),
        ("verify --output yaml", "possible values"),
        ("install --log-level loud", "--log-level"),
    ] {
        node.run(arguments).exits(64).says(reported);
    }
    node.run("--help").exits(0).says("uninstall");
    node.run("--version").exits(0).says("cni-keeper ");
    assert_eq!(node.whole_tree().paths(), [""; 0]);
}

/// A conflist that no runtime would take is a mistake of the file, and reported with its line.
#[test]
fn a_conflist_mistake_is_located_in_the_file() {
    let node = Node::empty();
    let network = NETWORK.replace("name: pod-network", "name: pod network");
    node.declare(&RELEASE.artifact(&unreachable_url()), &network);
    let text = fs::read_to_string(node.config()).unwrap();
    let line = 1 + text
        .lines()
        .position(|line| line.contains("pod network"))
        .unwrap();
    let begin = format!(
        "{}:{line}: network.conflist.name: ",
        node.config().display()
    );
    for command in ["install", "plan", "verify", "render", "validate"] {
        let outcome = node.run(command);
        let errors = outcome.exits(64).errors();
        assert!(errors[0].starts_with(&begin), "{outcome}");
        assert_eq!(errors.len(), 1, "{outcome}");
    }
    assert_eq!(node.whole_tree().paths(), [""; 0]);
}

/// Only the node shows these mistakes; nothing is touched before they are reported.
#[test]
fn an_unknown_fact_is_named_with_its_line() {
    let node = Node::empty();
    let network = NETWORK.replace("bridge: cni0", "bridge: \"${node.podCIDRR}\"");
    node.declare(&RELEASE.artifact(&unreachable_url()), &network);
    let text = fs::read_to_string(node.config()).unwrap();
    let line = 1 + text
        .lines()
        .position(|line| line.contains("podCIDRR"))
        .unwrap();
    let begin = format!(
        "{}:{line}: network.conflist.plugins[0].bridge: ",
        node.config().display()
    );
    for command in ["install", "plan", "verify", "render"] {
        let outcome = node.run(command);
        let errors = outcome.exits(64).errors();
        assert!(errors[0].starts_with(&begin), "{outcome}");
        assert!(errors[0].contains("node.podCIDRR"), "{outcome}");
    }
    assert_eq!(node.whole_tree().paths(), [""; 0]);
}

#[test]
fn a_host_root_that_is_not_there() {
    let node = Node::declared();
    for (root, reported) in [
        ("/no/such/root", "No such file or directory"),
        ("/dev/null", "Not a directory"),
    ] {
        node.run(&format!("install --host-root {root}"))
            .exits(64)
            .says(&format!(
                "error: cannot open the host root {root}: {reported}"
            ))
            .says("; check --host-root\n");
    }
}

/// Flags before the environment, the environment before the file.
#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let node = Node::declared();
    let with = |arguments: &str| -> Outcome {
        let mut command = node.command(arguments);
        command
            .env("CNI_KEEPER_BIN_DIR", "/env/bin")
            .env("CNI_KEEPER_CONF_DIR", "/env/net.d")
            .env("CNI_KEEPER_STATE_DIR", "/env/state");
        start(&mut command).end()
    };
    with("install").exits(0);
    assert_eq!(node.names("env"), ["bin", "net.d", "state"]);
    assert!(!node.has(BIN) && !node.has(CONF) && !node.has(STATE));
    with("install --bin-dir /flag/bin --conf-dir /flag/net.d --state-dir /flag/state").exits(0);
    assert_eq!(node.names("flag"), ["bin", "net.d", "state"]);
    assert_eq!(node.names("flag/net.d"), ["10-pods.conflist"]);
    with("install --bin-dir relative")
        .exits(64)
        .says("--bin-dir");

    let mut command = node.command("install");
    command
        .env("CNI_KEEPER_OFFLINE", "true")
        .env("CNI_KEEPER_LOG_LEVEL", "error");
    node.declare(&RELEASE.artifact(&unreachable_url()), NETWORK);
    start(&mut command)
        .end()
        .exits(2)
        .says("--offline leaves no source");

    let other = Node::declared();
    let root = other.root();
    node.run(&format!(
        "install --config {} --host-root {}",
        other.config().display(),
        root.display()
    ))
    .exits(0);
    assert!(other.has(CONFLIST) && !node.has(CONFLIST));
}

/// The paths of the file are used, and the state directory may be anywhere.
#[test]
fn paths_of_the_file() {
    let node = Node::empty();
    let paths = "paths: {binDir: /var/lib/cni/bin, confDir: /etc/kubernetes/cni, stateDir: /var/lib/keeper}\n";
    let source = node.mirror("p.tgz", &RELEASE.bytes);
    node.declare(&RELEASE.artifact(&source), &format!("{paths}{NETWORK}"));
    node.run("install").exits(0);
    assert_eq!(node.names(""), ["etc", "var"]);
    assert_eq!(node.names("etc/kubernetes/cni"), ["10-pods.conflist"]);
    assert_eq!(
        node.names("var/lib/keeper"),
        ["ledger.json", "lock", "spare", "store", "tmp"]
    );
    assert_eq!(node.tree().get("var/lib").mode, 0o755);
    node.run("uninstall").exits(0);
    assert_eq!(node.names("var/lib/cni/bin"), [""; 0]);
}

/// `drift.policy: report` observes and reports, and does not even make a state directory.
#[test]
fn report_writes_nothing() {
    let node = Node::declared();
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), format!("{text}drift: {{policy: report}}\n")).unwrap();
    node.run("install")
        .exits(1)
        .says("drift.policy is report: nothing is changed, this is only the plan")
        .row("fetch", "cni-plugins", "")
        .row("write", &node.shown(CONFLIST), "is missing");
    assert_eq!(node.whole_tree().paths(), [""; 0]);

    let node = Node::installed();
    let text = fs::read_to_string(node.config()).unwrap();
    fs::write(node.config(), format!("{text}drift: {{policy: report}}\n")).unwrap();
    node.run("install").exits(0);
    fs::remove_file(node.path(CONFLIST)).unwrap();
    let before = node.whole_tree();
    let json = node.run("install -o json").exits(1).json();
    assert_eq!(json["steps"][0]["step"], "write-conflist");
    assert_eq!(before, node.whole_tree());
}

#[test]
fn the_mode_of_the_conflist_is_a_setting() {
    let node = Node::declared();
    let text = fs::read_to_string(node.config()).unwrap();
    let text = text.replace("network:\n", "network:\n  fileMode: \"0644\"\n");
    fs::write(node.config(), text).unwrap();
    node.run("install").exits(0);
    assert_eq!(node.tree().get(CONFLIST).mode, 0o644);
}

/// The reference profiles lack the one value that only an operator knows. A file named by a flag is used before the one
/// of the environment.
#[test]
fn reference_profiles_are_valid_with_a_range() {
    let node = Node::empty();
    for name in ["reference-bridge", "reference-ptp"] {
        node.declare_text(&format!("profile: {name}\n"));
        node.run("validate").exits(64).says(
            "no declared source provides the fact 'node.podCIDRs'; give it under network.facts: - values: {node.podCIDRs: …}",
        );
        node.declare_text(&format!(
            "profile: {name}\nnetwork: {{facts: [{{values: {{node.podCIDR: 10.1.0.0/24}}}}]}}\n"
        ));
        node.run("validate").exits(0).says("config.yaml: valid\n");
        let other = Path::new(env!("CARGO_TARGET_TMPDIR")).join("none.yaml");
        let mut command = node.command("validate");
        start(command.arg(node.config()).env("CNI_KEEPER_CONFIG", other))
            .end()
            .exits(0);
    }
}

/// A command may read its configuration from a pipe: stdin by each of its names, and the shell's `<(…)`.
#[test]
fn a_configuration_may_come_through_a_pipe() {
    let node = Node::empty();
    node.declare_text("profile: reference-bridge\nartefacts: []\n");
    let keeper = |arguments: &str| {
        let mut bash = std::process::Command::new("bash");
        let script = format!("{} {arguments}", env!("CARGO_BIN_EXE_cni-keeper"));
        bash.args(["-c", &script]).env("CONFIG", node.config());
        start(&mut bash).end()
    };
    for (arguments, name) in [
        ("validate - < \"$CONFIG\"", "stdin"),
        ("validate - < <(cat \"$CONFIG\")", "stdin"),
        ("validate /dev/stdin < <(cat \"$CONFIG\")", "stdin"),
        ("--config - plan < <(cat \"$CONFIG\")", "stdin"),
        ("validate <(cat \"$CONFIG\")", "/dev/fd/"),
        (
            "validate /proc/self/fd/5 5< <(cat \"$CONFIG\")",
            "/dev/fd/5",
        ),
    ] {
        let outcome = keeper(arguments);
        let lines = outcome.exits(64).errors();
        let line = &lines[0];
        assert!(line.starts_with(name), "{arguments}: {outcome}");
        assert!(
            line.contains(":4: artefacts: unknown key"),
            "{arguments}: {outcome}"
        );
    }
    keeper("validate - < /dev/null")
        .exits(64)
        .says("stdin:1: the file is empty");
    keeper("validate - < /dev/zero")
        .exits(64)
        .says("is larger than the 1048576 bytes allowed");
    keeper("run --config - < /dev/null")
        .exits(64)
        .says("name a file with --config");
}
