//! From verified bytes to the wanted plugins, within limits.

pub(in crate::fetch) mod elf;
pub(in crate::fetch) mod fetched;
pub(in crate::fetch) mod layer;
pub(in crate::fetch) mod limits;
pub(in crate::fetch) mod members;
pub(in crate::fetch) mod scan;
pub(in crate::fetch) mod tar_entries;
