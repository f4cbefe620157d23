//! Speaking HTTP: clients, proxies, credentials, redirects, ranges.

pub(in crate::fetch) mod client;
pub(in crate::fetch) mod clients;
pub(in crate::fetch) mod proxy;
pub(in crate::fetch) mod proxy_error;
pub(in crate::fetch) mod range;
pub(in crate::fetch) mod redact;
pub(in crate::fetch) mod redirect;
pub(in crate::fetch) mod throughput;
pub(in crate::fetch) mod tls_error;
