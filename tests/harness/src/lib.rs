//! Starts real members as child processes, for tests: etcd 3.7 and MetaStore alike.
//!
//! Promises that a member is up when `start` returns, that its log is at hand when something fails, that
//! nothing survives the test, and that no two running tests share a port. Waits are for events (a line of the
//! log, the end of a process), bounded by a deadline. Knows nothing of what a member should answer.

mod client;
mod cluster;
mod codec;
mod handshake;
mod http;
mod identity;
mod member;
mod paths;
mod ports;
mod process;
pub mod requests;
mod tls;

pub use client::{Clients, connect, connect_tls};
pub use cluster::{Cluster, Spec};
pub use codec::BytesCodec;
pub use handshake::{Offer, Spoken, common_name, days_of, get_over_http2, send, speak, who_dials};
pub use http::{Answer, get, request};
pub use identity::{cluster_id, member_id};
pub use member::{Engine, Member, Target};
pub use paths::{cache_folder, metastore_binary, reference_binary};
pub use ports::Port;
pub use process::{Ending, Process};
pub use rustix::process::Signal;
pub use tls::{Authority, Identity};
