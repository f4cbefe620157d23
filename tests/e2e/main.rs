//! End to end: a real containerd on a private node, real pods, the real `cni-keeper`.
//!
//! Each test is a node of its own: the test binary runs itself again in fresh namespaces (`namespace`), where
//! containerd, `/etc/cni`, `/opt/cni` and the network are its own, and where whatever is left dies with it.
//! Needs root and Debian's `containerd runc containernetworking-plugins iproute2 iptables busybox-static`.
// The one door to the file system is a rule for the agent, not for what looks over its shoulder.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
// Helpers of tests fail loudly too; clippy's own allowance covers the test functions only.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agent;
mod archive;
mod cgroup;
mod containerd;
mod cri;
mod daemon;
mod http;
mod inotify;
mod install;
mod kubernetes;
mod loaded;
mod namespace;
mod node;
mod observer;
mod pod;
mod poll;
mod profiles;
mod runtime;
mod traffic;
mod upgrade;
