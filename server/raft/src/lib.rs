//! Everything that knows openraft: the log, the state machine's adapter, the peer network, proposals, the read
//! index, snapshots.
//!
//! Promises: a command that was answered is on a quorum's disks and applied on the member that
//! answered; a read that passed the gate sees everything that was answered before it began.
//! Must not know etcd's requests, users or gRPC's client side of the house.

mod adapter;
mod answers;
mod bootstrap;
mod connection;
mod error;
mod first_election;
mod flush;
mod group;
mod leases;
pub mod log_store;
mod network;
mod peer_service;
mod peer_tally;
mod peers;
mod probe;
mod propose;
mod queue;
mod raft;
mod read_gate;
mod retention;
mod room;
mod shared;
mod snapshot;
mod state_directory;
mod tally;
mod together;
mod traffic;
pub mod types;
mod waiters;
pub mod wal;
mod wire;
mod without_room;

pub use adapter::TakesLong;
pub use error::{ProposeError, ReadError, StartError};
pub use leases::{LeaseTimes, NotInOffice, Renewal};
pub use peer_service::Identity;
pub use peer_tally::{PeerCounters, TransferCounters};
pub use peers::{Connect, Connecting, PeerStream, plain_tcp};
pub use propose::COMMAND_BYTES_MAX;
pub use raft::{Options, Position, Raft};
pub use room::Grows;
pub use shared::Leadership;
pub use state_directory::{StateDirectory, StateError};
pub use tally::Counters;
pub use tonic::service::Routes;
