//! What the black-box tests share: a hostile server, evil archives, private mounts, kills at every call,
//! a node in a sandbox.

pub(crate) mod again;
pub(crate) mod archive;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pack;
pub(crate) mod server;
pub(crate) mod strace;
pub(crate) mod tls;
pub(crate) mod tree;
