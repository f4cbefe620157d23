//! What the tests share.

pub(crate) mod again;
pub(crate) mod namespace;
pub(crate) mod strace;
