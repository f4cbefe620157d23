//! Reads the merged tree into [`Settings`]: every section is read, and every mistake is noted.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::access::read_access;
use super::artifact_pins::ArtifactContext;
use super::artifacts::read_artifacts;
use super::config_value::{ConfigValue, Fields};
use super::error::Problems;
use super::host_path::{read_path, read_socket};
use super::kubernetes::read_kubernetes;
use super::mirrors::{Mirrors, read_mirrors};
use super::network::read_network;
use super::overrides::Overrides;
use super::paths::read_paths;
use super::pin_list::read_pin_list;
use super::settings::{
    DriftPolicy, DriftSettings, FetchSettings, ForeignConflists, HttpSettings, RuntimeSettings,
    Settings,
};
use super::units::{
    read_attempts, read_duration, read_duration_or_zero, read_listen_address, read_size,
    read_size_limit,
};
use super::yaml::YamlNode;
use crate::model::{Arch, Artifact};
use crate::trust::DeclaredPin;

/// The keys of a whole file.
const KEYS: [&str; 14] = [
    "apiVersion",
    "kind",
    "profile",
    "paths",
    "trust",
    "artifacts",
    "seeds",
    "mirrors",
    "network",
    "drift",
    "fetch",
    "http",
    "runtime",
    "kubernetes",
];

/// Reads everything; `None` if a mistake was noted.
pub(super) fn read_settings(
    root: &YamlNode,
    overrides: &Overrides,
    problems: &Problems,
) -> Option<Settings> {
    let before = problems.count();
    let root = ConfigValue::new(root, problems);
    let fields = root.fields(&KEYS)?;
    require_word(&fields, "apiVersion", "cni-keeper/v1alpha1");
    require_word(&fields, "kind", "NodeNetwork");
    let arch = overrides.arch.map_or_else(Arch::of_this_program, Ok);
    let arch = root.accept(arch.map_err(|error| format!("this node: {error}")));
    let paths = read_paths(&fields, overrides);
    let mirrors = fields.read_or("mirrors", Mirrors::default(), read_mirrors);
    let seeds = read_seeds(&fields, overrides);
    let artifacts = read_declared_artifacts(&fields, arch, &mirrors);
    let network = fields.read("network", read_network);
    let settings = Settings {
        profile: fields.read("profile", ConfigValue::text).map(str::to_owned),
        paths,
        arch: arch?,
        artifacts,
        network,
        drift: read_drift(&fields),
        warnings: mirrors.unused_rules(),
        seeds,
        fetch: read_fetch(&fields),
        http: read_http(&fields),
        runtime: fields.read("runtime", read_runtime),
        kubernetes: read_kubernetes(&fields),
    };
    (problems.count() == before).then_some(settings)
}

/// Checks a key that can have only one value.
fn require_word(fields: &Fields<'_>, key: &str, word: &str) {
    let fix = format!("write {key}: {word}");
    if let Some(value) = fields.require(key, &fix)
        && let Some(text) = value.text()
        && text != word
    {
        value.note(format!("'{text}' is not known to this program; {fix}"));
    }
}

/// Reads the artifacts with their pins. A file that declares neither artifacts nor a network is a mistake.
fn read_declared_artifacts(
    fields: &Fields<'_>,
    arch: Option<Arch>,
    mirrors: &Mirrors,
) -> Vec<Artifact<DeclaredPin>> {
    let pin_list = read_pin_list(fields, mirrors);
    let declared = fields.get("artifacts");
    let is_empty = declared.is_none_or(ConfigValue::is_empty_list);
    if is_empty && fields.get("network").is_none() {
        let what = "there is nothing to install; name a profile, or write artifacts or network";
        fields.note_whole(what);
    }
    let context = arch.map(|arch| ArtifactContext {
        arch,
        mirrors,
        pin_list: &pin_list,
    });
    declared
        .zip(context)
        .and_then(|(list, context)| read_artifacts(list, &context))
        .unwrap_or_default()
}

/// Reads the directories with artifacts by their digest. Those of flags come before those of the file.
fn read_seeds(fields: &Fields<'_>, overrides: &Overrides) -> Vec<PathBuf> {
    let mut seeds = overrides.seeds.clone();
    seeds.extend(fields.read_list("seeds", read_path));
    seeds
}

fn read_drift(root: &Fields<'_>) -> DriftSettings {
    let section = root.section("drift", &["policy", "resync", "foreignConflists"]);
    DriftSettings {
        policy: section.read_or("policy", DriftPolicy::Heal, |value| {
            value.choice(&DriftPolicy::ALL, DriftPolicy::as_str)
        }),
        resync: section.read_or("resync", Duration::from_mins(5), read_duration),
        foreign_conflists: section.read_or("foreignConflists", ForeignConflists::Report, |value| {
            value.choice(&ForeignConflists::ALL, ForeignConflists::as_str)
        }),
    }
}

/// Reads `fetch`. With the defaults, the 50 MB of the reference plugins can be downloaded at 100 KB/s, and a source
/// that is silent for half a minute is given up.
fn read_fetch(root: &Fields<'_>) -> FetchSettings {
    let keys = [
        "connectTimeout",
        "readTimeout",
        "totalTimeout",
        "minRate",
        "attempts",
        "spread",
        "maxSize",
        "caFile",
        "access",
        "registryConfig",
    ];
    let section = root.section("fetch", &keys);
    let read_time =
        |key: &str, seconds: u64| section.read_or(key, Duration::from_secs(seconds), read_duration);
    let five = NonZeroU32::MIN.saturating_add(4);
    FetchSettings {
        connect_timeout: read_time("connectTimeout", 10),
        read_timeout: read_time("readTimeout", 30),
        total_timeout: read_time("totalTimeout", 600),
        min_rate: section.read_or("minRate", 1 << 10, read_size),
        attempts: section.read_or("attempts", five, read_attempts),
        spread: section.read_or("spread", Duration::ZERO, read_duration_or_zero),
        max_size: section.read_or("maxSize", 512 << 20, read_size_limit),
        ca_file: section.read("caFile", read_path),
        access: section.read_or("access", Vec::new(), read_access),
        registry_config: section.read("registryConfig", read_path),
    }
}

fn read_http(root: &Fields<'_>) -> HttpSettings {
    let section = root.section("http", &["listen", "metricsListen", "required"]);
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9742));
    let listen = section.read_or("listen", loopback, read_listen_address);
    let metrics_listen = section.read("metricsListen", read_listen_address);
    if let Some(metrics) = metrics_listen
        && addresses_clash(listen, metrics)
    {
        section.note(
            "metricsListen",
            format!("{metrics} uses the port of http.listen, {listen}; choose another port"),
        );
    }
    HttpSettings {
        listen,
        metrics_listen,
        required: section.read_or("required", false, ConfigValue::flag),
    }
}

/// Whether it is impossible to listen on both. Port 0 is a free port each time.
fn addresses_clash(one: SocketAddr, other: SocketAddr) -> bool {
    // All addresses of IPv6 include those of IPv4, unless the kernel is configured otherwise.
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

fn read_runtime(value: ConfigValue<'_>) -> Option<RuntimeSettings> {
    let fields = value.fields(&["endpoint"])?;
    let fix = "write its CRI socket, such as endpoint: unix:///run/containerd/containerd.sock";
    let socket = read_socket(fields.require("endpoint", fix)?)?;
    Some(RuntimeSettings { socket })
}
