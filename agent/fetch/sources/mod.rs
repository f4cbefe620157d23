//! Asking the sources of a blob, in rounds, until one of them gives the pinned bytes.

pub(in crate::fetch) mod error;
pub(in crate::fetch) mod health;
pub(in crate::fetch) mod http_transfer;
pub(in crate::fetch) mod options;
pub(in crate::fetch) mod partial;
pub(in crate::fetch) mod rounds;
pub(in crate::fetch) mod small_file;
pub(in crate::fetch) mod source;
pub(in crate::fetch) mod source_client;
