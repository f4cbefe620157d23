//! Files out of a container image, without a runtime: index → manifest → layers, each by its digest.
//!
//! [`gather`] asks for one blob after the other and looks at none whose digest was not proven. Layers are looked at
//! from the top down, and only as many are fetched as it takes to find every wanted path. What holds wanted files
//! is kept, and is read like an archive afterwards.

pub(in crate::fetch) mod auth;
pub(in crate::fetch) mod gather;
pub(in crate::fetch) mod manifest;
pub(in crate::fetch) mod nearby;
pub(in crate::fetch) mod path_search;
pub(in crate::fetch) mod platform;

#[cfg(test)]
mod tests;
