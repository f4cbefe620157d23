//! Black-box tests of the agent: real files, real sockets, real plugin binaries.
// The one door to the file system is a rule for the agent, not for what looks over its shoulder.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod architecture;
mod config;
mod conflist;
mod crash;
mod fetch;
mod filesystem;
mod install;
mod support;
