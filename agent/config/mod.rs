//! The operator's configuration: raw file → merged → validated [`Settings`].

mod settings;

pub use settings::{
    Drift, DriftPolicy, FactSource, Fetch, ForeignConflists, Gate, Http, Network, Paths, Settings,
};
