//! End to end: a real containerd on a private node, real pods, the real `cni-keeper`.
//!
//! Each test has a node of its own: the test binary runs itself again in fresh namespaces (`namespace`). There
//! containerd, `/etc/cni`, `/opt/cni` and the network belong to the test, and the kernel removes whatever is left.
//! Needs root and Debian's `containerd runc containernetworking-plugins iproute2 iptables busybox-static`.
// Only `host` may use the file system: that is a rule for the agent, not for its tests.
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
mod istio;
mod kubernetes;
mod loaded;
mod matrix;
mod memory;
mod namespace;
mod node;
mod observer;
mod pod;
mod poll;
mod profiles;
mod real_plugins;
mod runtime;
mod traffic;
mod upgrade;
