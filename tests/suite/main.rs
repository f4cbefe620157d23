//! Black-box tests of the agent: real files, real sockets, real plugin binaries.
// Only `host` may use the file system: that is a rule for the agent, not for its tests.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// clippy.toml allows these in test functions; their helpers may fail loudly too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod architecture;
mod capabilities;
mod catalogue;
mod cni;
mod config;
mod crash;
mod daemon;
mod documents;
mod fetch;
mod filesystem;
mod http;
mod install;
mod kube;
mod metrics;
mod page;
mod profiles;
mod runtime;
mod scripts;
mod sources;
mod status;
mod support;
mod watch;
