//! Registries that ask who is there: challenges, credentials and tokens.

mod challenge;
mod credentials;
mod error;
mod registry_auth;
mod registry_item;
mod token;
mod token_request;

pub use error::RegistryError;
pub(in crate::fetch) use registry_auth::RegistryAuth;
pub(in crate::fetch) use registry_item::RegistryItem;
