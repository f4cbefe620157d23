//! Registries that ask who is there: challenges, credentials and tokens.

pub(in crate::fetch) mod challenge;
pub(in crate::fetch) mod credentials;
pub(in crate::fetch) mod error;
pub(in crate::fetch) mod item;
pub(in crate::fetch) mod registry_auth;
pub(in crate::fetch) mod token;
pub(in crate::fetch) mod token_request;
