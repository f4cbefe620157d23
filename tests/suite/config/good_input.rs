//! The settings that valid files become.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni_keeper::config::{
    DriftPolicy, FactSource, FetchSettings, ForeignConflists, Gate, KubernetesSettings, Overrides,
    load,
};
use cni_keeper::model::{Arch, Format, IfPresent, Pin};
use serde_json::json;

use super::{WHOLE, load_for, load_text, whole_with};

/// The least that an operator writes.
const LEAST: &str = "\
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-bridge
network:
  facts:
    - values: {node.podCIDR: 10.244.1.0/24}
";

#[test]
fn every_section_arrives_as_written() {
    let settings = load_text(WHOLE).unwrap().settings;
    assert_eq!(settings.profile, None);
    assert_eq!(settings.paths.state_dir, Path::new("/opt/cni/.state"));
    let [plugins, flannel] = settings.artifacts.as_slice() else {
        panic!("two artifacts")
    };
    assert_eq!(
        plugins.sources,
        [
            "https://mirror.example/v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz",
            "file:///srv/mirror/cni-plugins-amd64.tar.gz"
        ]
    );
    assert_eq!(plugins.format, Format::TarGz);
    assert_eq!(plugins.if_present, IfPresent::Keep);
    assert_eq!(plugins.members[0].path, "bridge");
    assert_eq!(plugins.members[1].path, "bin/host-local-amd64");
    assert_eq!(plugins.members[1].plugin.as_str(), "host-local");
    assert!(matches!(plugins.pin.known_pin(), Some(Pin::Sha256(_))));
    assert_eq!(flannel.format, Format::Raw);
    assert_eq!(flannel.if_present, IfPresent::Replace);
    assert!(matches!(flannel.pin.known_pin(), Some(Pin::Sha512(_))));

    let network = settings.network.unwrap();
    assert_eq!(network.file_name.as_str(), "10-pods.conflist");
    assert_eq!(network.file_mode.to_string(), "0644");
    assert_eq!(
        network.requires,
        [
            Gate::File("/run/flannel/subnet.env".into()),
            Gate::Tcp("127.0.0.1:6784".to_owned()),
            Gate::Unix("/run/agent.sock".into()),
            Gate::Http("http://127.0.0.1:6784/status".to_owned()),
        ]
    );
    let values = [
        ("node.podCIDR".to_owned(), json!("10.244.1.0/24")),
        ("mtu".to_owned(), json!(1450)),
    ];
    assert_eq!(
        network.facts,
        [
            FactSource::EnvFile("/run/flannel/subnet.env".into()),
            FactSource::Values(values.into()),
        ]
    );
    assert_eq!(
        network.conflist.to_string(),
        r#"{"cniVersion":"1.0.0","name":"pod-network","plugins":[{"type":"bridge","mtu":"${mtu}","isGateway":true,"ipam":{"type":"host-local"}}]}"#,
        "the order of keys is the operator's"
    );

    assert_eq!(settings.drift.policy, DriftPolicy::Report);
    assert_eq!(settings.drift.resync, Duration::from_secs(600));
    assert_eq!(settings.drift.foreign_conflists, ForeignConflists::Disable);
    assert_eq!(settings.fetch.connect_timeout, Duration::from_millis(500));
    assert_eq!(settings.fetch.total_timeout, Duration::from_secs(3600));
    assert_eq!(settings.fetch.min_rate, 2048);
    assert_eq!(settings.fetch.attempts.get(), 3);
    assert_eq!(settings.fetch.max_size, 256 << 20);
    assert_eq!(settings.fetch.ca_file, Some("/etc/ssl/mirror.pem".into()));
    assert_eq!(
        settings.http.listen,
        SocketAddr::from(([127, 0, 0, 1], 9000))
    );
    assert_eq!(
        settings.http.metrics_listen,
        Some(SocketAddr::from(([0, 0, 0, 0], 9001)))
    );
    let socket = settings.runtime.map(|runtime| runtime.socket);
    assert_eq!(socket, Some("/run/containerd/containerd.sock".into()));
}

/// The longest prefix of a request decides, also on whether a registry is asked by http.
#[test]
fn what_is_shown_to_whom_is_read_and_found_again() {
    let text = format!(
        "{LEAST}fetch:
  registryConfig: /run/config.json
  access:
    - {{prefix: \"https://mirror.example\", headersFile: /run/all}}
    - {{prefix: \"https://mirror.example/cni/\", certFile: /run/tls.pem, keyFile: /run/tls.pem}}
    - {{prefix: \"oci://registry.example:5000\", plainHttp: true}}
    - {{prefix: \"oci://registry.example:5000/safe\", headersFile: /run/safe}}
"
    );
    let fetch = load_text(&text).unwrap().settings.fetch;
    assert_eq!(fetch.registry_config, Some("/run/config.json".into()));
    assert_eq!(fetch.access[0].headers_file, Some("/run/all".into()));
    let certificate = fetch.access[1].certificate.as_ref().unwrap();
    assert_eq!(certificate.cert_file, certificate.key_file);
    for (url, rule) in [
        ("https://mirror.example/a", Some(0)),
        ("https://mirror.example/cni", Some(1)),
        ("https://mirror.example/cnis", Some(0)),
        ("https://mirror.example:8443/cni", None),
        ("http://registry.example:5000/v2/a/blobs/x", Some(2)),
        ("https://registry.example:5000/v2/safe/a/blobs/x", Some(3)),
        ("https://registry.example:5000/v2/a/blobs/x", None),
    ] {
        assert_eq!(fetch.find_access_rule(&url.parse().unwrap()), rule, "{url}");
    }
    for (registry, repository, scheme) in [
        ("registry.example:5000", "a/b", "http"),
        ("registry.example:5000", "safe/b", "https"),
        ("registry.example", "a/b", "https"),
        ("mirror.example", "cni/b", "https"),
    ] {
        let found = fetch.registry_scheme(registry, repository);
        assert_eq!(found, scheme, "{registry}/{repository}");
    }
}

#[test]
fn one_port_of_two_addresses_is_no_clash() {
    for metrics in ["127.0.0.2:9742", "[::1]:9742", "0.0.0.0:9743"] {
        let text = format!("{LEAST}http: {{metricsListen: \"{metrics}\"}}\n");
        assert!(load_text(&text).is_ok(), "{metrics}");
    }
}

#[test]
fn a_profile_and_a_pod_cidr_are_enough() {
    let settings = load_text(LEAST).unwrap().settings;
    assert_eq!(settings.profile.as_deref(), Some("reference-bridge"));
    assert_eq!(settings.paths.bin_dir, Path::new("/opt/cni/bin"));
    assert_eq!(settings.paths.conf_dir, Path::new("/etc/cni/net.d"));
    assert_eq!(settings.paths.state_dir, Path::new("/opt/cni/.cni-keeper"));
    assert_eq!(settings.drift.policy, DriftPolicy::Heal);
    assert_eq!(
        settings.http.listen,
        SocketAddr::from(([127, 0, 0, 1], 9742))
    );
    assert_eq!(settings.http.metrics_listen, None);
    assert_eq!(settings.runtime, None);
    assert!(
        !settings.kubernetes.reports_anything(),
        "nothing is reported to the API"
    );
    assert_eq!(settings.kubernetes.server, None);
    let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(settings.kubernetes.ca_file, account.join("ca.crt"));
    assert_eq!(settings.kubernetes.token_file, account.join("token"));
    assert_eq!(settings.drift.resync, Duration::from_secs(300));
    assert_eq!(settings.drift.foreign_conflists, ForeignConflists::Report);
    let fetch = FetchSettings {
        connect_timeout: Duration::from_secs(10),
        read_timeout: Duration::from_secs(30),
        total_timeout: Duration::from_secs(600),
        min_rate: 1024,
        attempts: NonZeroU32::new(5).unwrap(),
        spread: Duration::ZERO,
        max_size: 512 * 1024 * 1024,
        ca_file: None,
        access: Vec::new(),
        registry_config: None,
    };
    assert_eq!(settings.fetch, fetch);
    let network = settings.network.unwrap();
    assert_eq!(network.file_mode.to_string(), "0600");
    assert_eq!(network.conflist["plugins"][0]["type"], "bridge");
    assert_eq!(network.conflist["plugins"][0]["mtu"], "${host.mtu}");
}

#[test]
fn a_cluster_is_spread_over_any_time_or_none() {
    for (text, spread) in [("2m", 120), ("0s", 0), ("0", 0)] {
        let text = format!("{LEAST}fetch: {{spread: {text}}}\n");
        let settings = load_text(&text).unwrap().settings;
        assert_eq!(settings.fetch.spread, Duration::from_secs(spread));
    }
    for wrong in ["2", "-1s", "soon"] {
        let text = format!("{LEAST}fetch: {{spread: {wrong}}}\n");
        assert!(load_text(&text).is_err(), "{wrong}");
    }
}

#[test]
fn a_mirror_changes_the_sources_alone() {
    let mirror = format!(
        "{LEAST}artifacts:\n  - name: cni-plugins\n    sources: [\"http://mirror.example/cni.tgz\"]\n"
    );
    let plain = load_text(LEAST).unwrap().settings;
    let settings = load_text(&mirror).unwrap().settings;
    let [artifact] = settings.artifacts.as_slice() else {
        panic!("one artifact")
    };
    assert_eq!(artifact.sources, ["http://mirror.example/cni.tgz"]);
    assert_eq!(artifact.pin, plain.artifacts[0].pin);
    assert_eq!(artifact.members, plain.artifacts[0].members);
}

#[test]
fn a_pin_for_a_further_architecture_is_added_to_the_profiles() {
    let digest = "00".repeat(32);
    let text =
        format!("{LEAST}artifacts:\n  - name: cni-plugins\n    sha256: {{s390x: \"{digest}\"}}\n");
    for arch in [Arch::S390x, Arch::Amd64] {
        let settings = load_for(&text, arch).unwrap().settings;
        let pinned = settings.artifacts[0].pin.known_pin().unwrap().to_string()
            == format!("sha256:{digest}");
        assert_eq!(pinned, arch == Arch::S390x, "{arch}");
    }
}

#[test]
fn a_conflist_in_the_file_replaces_the_profiles_and_null_takes_the_network_away() {
    let text = format!("{LEAST}  conflist: {{name: mine, plugins: []}}\n");
    let network = load_text(&text).unwrap().settings.network.unwrap();
    assert_eq!(network.conflist, json!({"name": "mine", "plugins": []}));
    assert_eq!(network.file_name.as_str(), "10-cni-keeper.conflist");

    let text = "apiVersion: cni-keeper/v1alpha1\nkind: NodeNetwork\nprofile: reference-ptp\nnetwork: null\n";
    assert_eq!(load_text(text).unwrap().settings.network, None);
}

#[test]
fn flags_go_before_the_file() {
    let overrides = Overrides {
        bin_dir: Some("/usr/lib/cni".into()),
        conf_dir: Some("/etc/other//net.d/".into()),
        state_dir: None,
        seeds: vec!["/seed".into()],
        arch: Some(Arch::Arm64),
    };
    let file = Path::new("config.yaml");
    let settings = load(LEAST, file, &overrides).unwrap().settings;
    assert_eq!(settings.paths.bin_dir, Path::new("/usr/lib/cni"));
    assert_eq!(settings.paths.conf_dir, Path::new("/etc/other/net.d"));
    assert_eq!(settings.paths.state_dir, Path::new("/usr/lib/.cni-keeper"));
    assert!(settings.artifacts[0].sources[0].contains("linux-arm64"));

    let state_dir = Some(PathBuf::from("/var/lib/keeper"));
    let overrides = Overrides {
        state_dir,
        ..overrides
    };
    let settings = load(WHOLE, file, &overrides);
    let message = settings.unwrap_err().to_string();
    assert!(message.contains("no digest for arm64"), "{message}");
}

#[test]
fn without_an_override_the_architecture_is_this_programs() {
    let loaded = load(LEAST, Path::new("config.yaml"), &Overrides::default()).unwrap();
    assert_eq!(Ok(loaded.settings.arch), Arch::of_this_program());
}

#[test]
fn json_is_read_as_well() {
    let text = r#"{
	"apiVersion": "cni-keeper/v1alpha1",
	"kind": "NodeNetwork",
	"network": {"conflist": {"name": "\u00fc\ud83d\ude00\/", "n": [1, -2.5, 1e3, true, null]}}
}"#;
    let network = load_text(text).unwrap().settings.network.unwrap();
    assert_eq!(
        network.conflist,
        json!({"name": "ü😀/", "n": [1, -2.5, 1000.0, true, null]})
    );
}

#[test]
fn line_breaks_of_windows_and_a_byte_order_mark_do_no_harm() {
    let text = format!("\u{feff}{}", WHOLE.replace('\n', "\r\n"));
    assert_eq!(
        load_text(&text).unwrap().settings,
        load_text(WHOLE).unwrap().settings
    );
}

#[test]
fn a_digest_of_digits_only_works_in_quotes() {
    let digits = "1234567890".repeat(7)[..64].to_owned();
    let digest = "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";
    let settings = load_text(&whole_with(digest, &format!("'{digits}'")))
        .unwrap()
        .settings;
    assert_eq!(
        settings.artifacts[0].pin.known_pin().unwrap().to_string(),
        format!("sha256:{digits}")
    );
}

#[test]
fn a_plugin_may_have_a_digest_of_its_own() {
    let arm = "56171987d3947707c3563db2f4001bccaf50fd63468611b9f3cbecb1375ee7ec";
    let digest = "b98f74a0f8522f0a83867178729c1aa70f2158f90c45a2ca8fa791db1c76b303";
    for sha256 in [
        digest.to_owned(),
        format!("{{amd64: {digest}, arm64: {arm}}}"),
    ] {
        let entry = format!("- {{member: bridge, sha256: {sha256}}}");
        let settings = load_text(&whole_with("- bridge\n", &format!("{entry}\n")))
            .unwrap()
            .settings;
        let member = &settings.artifacts[0].members[0];
        assert_eq!(member.plugin.as_str(), "bridge");
        assert_eq!(member.sha256.unwrap().to_string(), digest);
    }
}

#[test]
fn a_finding_in_the_conflist_leads_to_its_line() {
    let loaded = load_text(WHOLE).unwrap();
    for (path, line) in [
        ("network.conflist", 38),
        ("network.conflist.plugins[0]", 42),
        ("network.conflist.plugins[0].mtu", 43),
        ("network.conflist.plugins[0].ipam.type", 46),
        ("network.conflist.plugins[0].ipam.dataDir", 45),
        ("network.conflist.plugins[7].type", 41),
        ("network.facts[1].values.node.podCIDR", 37),
        ("", 1),
    ] {
        assert_eq!(loaded.line_of(path), Some(line), "{path}");
        let shown = WHOLE.lines().nth(line as usize - 1).unwrap();
        let key = path.rsplit('.').next().unwrap();
        assert!(
            shown.contains(key) || line == 1 || path.contains("dataDir") || path.contains('['),
            "{path} is not on {shown:?}"
        );
    }
    assert_eq!(loaded.line_of("nowhere"), None);
    // The profile brings the conflist: the nearest thing in the file is the section.
    let least = load_text(LEAST).unwrap();
    assert_eq!(least.line_of("network.conflist.plugins[0].type"), Some(4));
}

#[test]
fn the_cluster_can_be_read_and_reported_to() {
    let text = "\
apiVersion: cni-keeper/v1alpha1
kind: NodeNetwork
profile: reference-bridge
network:
  podRanges: [10.244.0.0/16, \"fd00:10::/56\"]
  reserved: [169.254.0.0/16]
  facts:
    - kubernetes: node
kubernetes:
  condition: true
  events: true
  removeTaint: cni-keeper.dev/not-ready
  server: https://[fd00::1]:6443
  caFile: /etc/ca.pem
  tokenFile: /run/token
";
    let settings = load_text(text).unwrap().settings;
    let network = settings.network.unwrap();
    assert!(network.needs_node_object());
    let ranges: Vec<String> = network.pod_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.244.0.0/16", "fd00:10::/56"]);
    assert_eq!(network.reserved, ["169.254.0.0/16".parse().unwrap()]);
    assert_eq!(
        settings.kubernetes,
        KubernetesSettings {
            condition: true,
            events: true,
            remove_taint: Some("cni-keeper.dev/not-ready".to_owned()),
            server: Some("https://[fd00::1]:6443".to_owned()),
            ca_file: "/etc/ca.pem".into(),
            token_file: "/run/token".into(),
        }
    );
}
