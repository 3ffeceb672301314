//! TLS of the client port and of the peer port, both ways, from etcd's flags.
//!
//! Promises etcd's rules: an authority alone makes client certificates mandatory; revoked certificates, names
//! and hosts are checked as `client/pkg/transport` does; and every file, leaf **and authorities**, is read again
//! when it changes, without a restart: the next handshake sees it. Where the new files are not usable the old
//! ones stay in use and a warning says so. Knows nothing of HTTP but the names of its versions.

pub mod cipher;
mod client;
mod error;
#[cfg(test)]
mod handshakes;
mod material;
mod names;
mod options;
mod reload;
mod san;
mod self_signed;
mod server;
mod verify;

pub use client::PeerClientTls;
pub use error::Error;
pub use options::{TlsOptions, Version};
pub use server::ServerTls;
