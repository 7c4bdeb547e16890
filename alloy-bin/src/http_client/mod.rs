//! HTTP clients as configurations describe them: one set of options for every component that makes requests.
//!
//! | file | what |
//! | --- | --- |
//! | `options.rs` | what a configuration says of a client: attributes and blocks that are the same everywhere |
//! | `client.rs` | one request: headers, authorization, redirects |
//! | `credentials.rs` | the `Authorization` header: fixed, from a file, or a token |
//! | `oauth2.rs` | tokens by client credentials, kept until they expire |
//! | `transport.rs` | kept connections: plain or TLS, direct or by a proxy |
//! | `tls.rs` | certificates and keys -> a rustls configuration |
//! | `in_memory.rs` | the agent's own page and those of its exporters, reached without the network |
//! | `watched.rs` | what is made of files, made again when they change |
//!
//! Secrets are never printed: they are [`Secret`](crate::config::Secret)s here and sensitive header values on their way out.

mod client;
mod credentials;
mod in_memory;
mod oauth2;
mod options;
mod tls;
mod transport;
mod watched;

pub use client::{HttpClient, escape, parse_url, read};
pub use in_memory::{IN_MEMORY_ADDRESS, InMemoryPage, OWN_PAGE, PageSource, in_memory_page, serve_in_memory};
pub use options::{Credentials, HttpClientOptions, Text, TlsOptions, checked_url};

#[cfg(test)]
mod tests;
