//! The operator's configuration: it is parsed, merged with the profile, and checked. The result is [`Settings`].
//!
//! `yaml` parses a file into a tree in which each value knows its line. `merge` merges it over the profile that it
//! names. `sections` reads the tree section by section, and notes every mistake with its line and key.

mod access;
mod artifact_pins;
mod artifacts;
mod catalog;
mod config_value;
mod error;
mod fill_in;
mod host_path;
mod kubernetes;
mod load;
mod location;
mod members;
mod merge;
mod mirrors;
mod network;
mod overrides;
mod paths;
mod pin_list;
mod sections;
mod settings;
mod source_url;
mod units;
mod url_prefix;
mod yaml;

pub use catalog::{
    Asset, Catalog, CatalogError, Confidence, PROFILES, Profile, Project, Release, read_catalog,
};
pub use error::{ConfigError, ConfigErrors};
pub use load::{LoadedConfig, load};
pub use overrides::Overrides;
pub use settings::{
    AccessRule, ClientCertificate, DriftPolicy, DriftSettings, FactSource, FetchSettings,
    ForeignConflists, Gate, HttpSettings, KubernetesSettings, NetworkSettings, Paths,
    RuntimeSettings, Settings,
};
pub use url_prefix::UrlPrefix;
