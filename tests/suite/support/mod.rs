//! What the black-box tests share: a node in a sandbox and the agent on it, a hostile server, malicious archives, private
//! mounts, kills at every system call. `tests/README.md` explains the words.

pub(crate) mod agent;
pub(crate) mod archive;
pub(crate) mod cluster;
pub(crate) mod image_parts;
pub(crate) mod images;
pub(crate) mod memory_cgroup;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod release;
pub(crate) mod rerun;
pub(crate) mod server;
pub(crate) mod signers;
pub(crate) mod status;
pub(crate) mod strace;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod tree;
pub(crate) mod without_asking;

/// Prints that a test cannot run here, and why. It fails instead with `CNI_KEEPER_SUITE=require`, which
/// `scripts/test --all` sets.
pub(crate) fn skipped(reason: &str) {
    let required = std::env::var_os("CNI_KEEPER_SUITE").is_some_and(|value| value == "require");
    assert!(!required, "cannot be skipped here: {reason}");
    println!("skipped: {reason}");
}

/// The number in an environment variable.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{variable} is no number: {value}")))
}
