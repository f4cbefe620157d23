//! Speaking HTTP: clients, proxies, credentials, redirects, ranges, and what goes wrong.

mod client;
mod client_certificate;
mod clients;
mod error;
mod error_chain;
mod headers;
mod proxy;
mod proxy_error;
mod range;
mod reach;
mod redact;
mod redirect;
mod system_roots;
mod throughput;
mod tls_error;

pub use client::{api_client, local_client};
pub(in crate::fetch) use clients::HttpClients;
pub use error::{HttpError, TimeLimit};
pub use error_chain::innermost_message;
pub(in crate::fetch) use range::{ResumeValidator, ResumedRange};
pub(in crate::fetch) use redact::redact_foreign_url;
pub use redact::redact_url;
pub(in crate::fetch) use redirect::RedirectChain;
pub use redirect::RedirectError;
pub(in crate::fetch) use throughput::ThroughputMeter;
