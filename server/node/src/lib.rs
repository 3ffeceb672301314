//! One member as its callers see it, and the leader's duties.
//!
//! Promises: a write that was answered is committed and visible here; no answer carries a lower
//! revision than an earlier one; everything that waits is bounded and has a deadline.
//! Must not know gRPC or HTTP.

mod duties;
mod effort;
mod error;
mod lease_clock;
mod measures;
mod node;
mod options;
mod quota;
mod start;
mod status;
mod versions;

pub use error::Error;
pub use measures::{Applying, Measures};
pub use metastore_raft::{
    Connect, Connecting, Counters as RaftCounters, PeerCounters, PeerStream, Routes,
    TransferCounters, plain_tcp,
};
pub use node::Node;
pub use options::{AutoCompaction, Limits, Member, Options};
pub use start::StartError;
pub use status::Status;
pub use versions::Versions;
