//! Servers that only claim to be a registry.
