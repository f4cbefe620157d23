//! The merged tree read into [`Settings`]: every section is looked at, and every mistake is noted.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::access::access;
use super::artifacts::artifacts;
use super::error::Problems;
use super::kubernetes::kubernetes;
use super::mirrors::{Mirrors, mirrors};
use super::network::network;
use super::overrides::Overrides;
use super::paths::{path_of, paths, socket_of};
use super::read::Fields;
use super::settings::{Drift, DriftPolicy, Fetch, ForeignConflists, Http, Runtime, Settings};
use super::tree::Node;
use super::trust::pin_list;
use super::units::{duration, size};
use crate::model::Arch;

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
pub(super) fn settings(
    root: &Node,
    overrides: &Overrides,
    problems: &mut Problems,
) -> Option<Settings> {
    let before = problems.count();
    let fields = root.fields(&KEYS, problems)?;
    exactly(&fields, "apiVersion", "cni-keeper/v1alpha1", problems);
    exactly(&fields, "kind", "NodeNetwork", problems);
    let arch = overrides.arch.map_or_else(Arch::of_this_program, Ok);
    let arch = arch
        .map_err(|error| problems.add(fields.at, format!("this node: {error}")))
        .ok();
    let paths = paths(&fields, overrides, problems);
    let mirrors = match fields.get("mirrors") {
        Some(node) => mirrors(node, problems),
        None => Some(Mirrors::default()),
    };
    let mirrors = mirrors.unwrap_or_default();
    let seeds = seeds(&fields, overrides, problems);
    let pin_list = pin_list(&fields, &mirrors, problems);
    let artifacts = match (fields.get("artifacts"), arch) {
        (Some(node), Some(arch)) => artifacts(node, arch, &mirrors, &pin_list, problems),
        _ => Some(Vec::new()),
    };
    let network = match fields.get("network") {
        Some(node) => network(node, problems).map(Some),
        None => Some(None),
    };
    let drift = drift(&fields, problems);
    let fetch = fetch(&fields, problems);
    let http = http(&fields, problems);
    let runtime = match fields.get("runtime") {
        Some(node) => runtime(node, problems).map(Some),
        None => Some(None),
    };
    let kubernetes = kubernetes(&fields, problems);
    if let (Some([]), Some(None)) = (artifacts.as_deref(), &network) {
        problems.add(
            fields.at,
            "there is nothing to install; name a profile, or write artifacts or network",
        );
    }
    if problems.count() > before {
        return None;
    }
    Some(Settings {
        profile: fields
            .get("profile")
            .and_then(|name| name.text(problems))
            .map(str::to_owned),
        paths: paths?,
        arch: arch?,
        artifacts: artifacts?,
        network: network?,
        drift: drift?,
        oddities: mirrors.unused(),
        seeds: seeds?,
        fetch: fetch?,
        http: http?,
        runtime: runtime?,
        kubernetes: kubernetes?,
    })
}

/// A key that has one value only.
fn exactly(fields: &Fields<'_>, key: &str, want: &str, problems: &mut Problems) {
    let mend = format!("write {key}: {want}");
    if let Some(node) = fields.require(key, &mend, problems)
        && let Some(text) = node.text(problems)
        && text != want
    {
        problems.add(
            &node.at,
            format!("'{text}' is not known to this program; {mend}"),
        );
    }
}

/// The fields of an optional section; `None` if it is no mapping.
pub(super) fn section<'a>(
    root: &Fields<'a>,
    key: &str,
    known: &[&str],
    problems: &mut Problems,
) -> Option<Option<Fields<'a>>> {
    match root.get(key) {
        Some(node) => node.fields(known, problems).map(Some),
        None => Some(None),
    }
}

/// The value of a key, or the default where section or key is left out; `None` after a mistake.
pub(super) fn value<T>(
    section: Option<&Fields<'_>>,
    key: &str,
    default: T,
    problems: &mut Problems,
    read: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> Option<T> {
    match section.and_then(|section| section.get(key)) {
        Some(node) => read(node, problems),
        None => Some(default),
    }
}

/// Directories with artifacts by their digest; those of flags go before those of the file.
fn seeds(
    root: &Fields<'_>,
    overrides: &Overrides,
    problems: &mut Problems,
) -> Option<Vec<PathBuf>> {
    let mut seeds = overrides.seeds.clone();
    if let Some(node) = root.get("seeds") {
        let items = node.items(problems)?;
        let all: Vec<_> = items.iter().map(|item| path_of(item, problems)).collect();
        seeds.extend(all.into_iter().collect::<Option<Vec<_>>>()?);
    }
    Some(seeds)
}

fn drift(root: &Fields<'_>, problems: &mut Problems) -> Option<Drift> {
    let keys = ["policy", "resync", "foreignConflists"];
    let section = section(root, "drift", &keys, problems)?;
    let section = section.as_ref();
    let policy = value(
        section,
        "policy",
        DriftPolicy::Heal,
        problems,
        |node, problems| {
            node.choice(
                &[("heal", DriftPolicy::Heal), ("report", DriftPolicy::Report)],
                problems,
            )
        },
    );
    let resync = value(
        section,
        "resync",
        Duration::from_mins(5),
        problems,
        read_duration,
    );
    let foreign = value(
        section,
        "foreignConflists",
        ForeignConflists::Report,
        problems,
        |node, problems| {
            node.choice(
                &[
                    ("report", ForeignConflists::Report),
                    ("disable", ForeignConflists::Disable),
                ],
                problems,
            )
        },
    );
    Some(Drift {
        policy: policy?,
        resync: resync?,
        foreign_conflists: foreign?,
    })
}

/// The defaults let the 50 MB of the reference set through at 100 KB/s, and give up on a source that
/// stays silent for half a minute.
fn fetch(root: &Fields<'_>, problems: &mut Problems) -> Option<Fetch> {
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
    let section = section(root, "fetch", &keys, problems)?;
    let section = section.as_ref();
    let mut time = |key: &str, default: u64| {
        value(
            section,
            key,
            Duration::from_secs(default),
            problems,
            read_duration,
        )
    };
    let connect = time("connectTimeout", 10);
    let read = time("readTimeout", 30);
    let total = time("totalTimeout", 600);
    let spread = value(section, "spread", Duration::ZERO, problems, read_wait);
    let min_rate = value(section, "minRate", 1 << 10, problems, read_size);
    let five = NonZeroU32::MIN.saturating_add(4);
    let attempts = value(section, "attempts", five, problems, read_count);
    let max_size = value(section, "maxSize", 512 << 20, problems, |node, problems| {
        let bytes = read_size(node, problems)?;
        if bytes == 0 {
            problems.add(
                &node.at,
                "a size of zero would refuse every artifact; write such as 512MiB",
            );
        }
        (bytes > 0).then_some(bytes)
    });
    let mut file = |key: &str| {
        value(section, key, None, problems, |node, problems| {
            path_of(node, problems).map(Some)
        })
    };
    let (ca_file, registry_config) = (file("caFile"), file("registryConfig"));
    let access = value(section, "access", Vec::new(), problems, access);
    Some(Fetch {
        connect_timeout: connect?,
        read_timeout: read?,
        total_timeout: total?,
        min_rate: min_rate?,
        attempts: attempts?,
        spread: spread?,
        max_size: max_size?,
        ca_file: ca_file?,
        access: access?,
        registry_config: registry_config?,
    })
}

fn http(root: &Fields<'_>, problems: &mut Problems) -> Option<Http> {
    let section = section(root, "http", &["listen", "metricsListen"], problems)?;
    let section = section.as_ref();
    let loopback = SocketAddr::from(([127, 0, 0, 1], 9742));
    let listen = value(section, "listen", loopback, problems, read_address);
    let metrics = value(
        section,
        "metricsListen",
        None,
        problems,
        |node, problems| read_address(node, problems).map(Some),
    );
    let (listen, metrics_listen) = (listen?, metrics?);
    if let Some(metrics) = metrics_listen
        && clash(listen, metrics)
        && let Some(node) = section.and_then(|section| section.get("metricsListen"))
    {
        let mend = "give it a port of its own";
        problems.add(
            &node.at,
            format!("{metrics} takes the port of listen, {listen}; {mend}"),
        );
        return None;
    }
    Some(Http {
        listen,
        metrics_listen,
    })
}

/// Whether not both can be listened on; port 0 is a free one each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // All addresses of IPv6 are those of IPv4 as well, unless the kernel is told otherwise.
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

fn runtime(node: &Node, problems: &mut Problems) -> Option<Runtime> {
    let fields = node.fields(&["endpoint"], problems)?;
    let mend = "write its CRI socket, such as endpoint: unix:///run/containerd/containerd.sock";
    let endpoint = fields.require("endpoint", mend, problems)?;
    Some(Runtime {
        socket: socket_of(endpoint, problems)?,
    })
}

fn read_duration(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let text = node.number_or_text(problems)?;
    node.note(duration(text), problems)
}

/// A duration that may be none at all.
fn read_wait(node: &Node, problems: &mut Problems) -> Option<Duration> {
    match node.number_or_text(problems)? {
        "0" | "0s" => Some(Duration::ZERO),
        text => node.note(duration(text), problems),
    }
}

fn read_size(node: &Node, problems: &mut Problems) -> Option<u64> {
    let text = node.number_or_text(problems)?;
    node.note(size(text), problems)
}

fn read_count(node: &Node, problems: &mut Problems) -> Option<NonZeroU32> {
    let text = node.number_or_text(problems)?;
    let count = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of attempts; write a whole number from 1"));
    node.note(count, problems)
}

/// A name would need a resolver before there is a network.
fn read_address(node: &Node, problems: &mut Problems) -> Option<SocketAddr> {
    let text = node.number_or_text(problems)?;
    let address = text.parse().map_err(|_| {
        format!("'{text}' is not an address to listen on; write an IP address and a port, such as 127.0.0.1:9742")
    });
    node.note(address, problems)
}
