//! The operator's configuration: raw file → merged → validated [`Settings`].
//!
//! A file is parsed into a tree that knows where each value was written (`tree`), laid over the profile that it
//! names (`merge`), and read section by section (`validate`), noting every mistake with its line and key.

mod access;
mod artifacts;
mod catalog;
mod error;
mod fill_in;
mod kubernetes;
mod load;
mod merge;
mod mirrors;
mod network;
mod overrides;
mod paths;
mod pins;
mod read;
mod settings;
mod source;
mod tree;
mod units;
mod validate;

pub use access::{Access, Identity, UrlPrefix};
pub use catalog::{
    Asset, Catalog, CatalogError, Confidence, PROFILES, Profile, Project, Release, catalog,
};
pub use error::{ConfigError, ConfigErrors};
pub use load::{Loaded, load};
pub use overrides::Overrides;
pub use settings::{
    Drift, DriftPolicy, FactSource, Fetch, ForeignConflists, Gate, Http, Kubernetes, Network,
    Paths, Runtime, Settings,
};
