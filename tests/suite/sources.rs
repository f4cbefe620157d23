//! Sources for the real world: registries and what stands before them.

mod registry;
