//! Pure checks of requests before anything is done with them, with etcd's exact refusals.
//!
//! Follows `server/etcdserver/api/v3rpc/key.go` and the checks at the head of
//! `server/etcdserver/v3_server.go`. No state, no clock, no I/O.

mod intervals;
mod kv;
mod size;
mod txn;

pub use kv::{delete_range, put, range, range_stream};
pub use size::{GRPC_OVERHEAD_BYTES, message_limit, proposal_size};
pub use txn::txn;
