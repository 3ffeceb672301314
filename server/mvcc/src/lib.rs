//! The multi-version store: revisions, key index, ranges, the write transaction, recent events, compaction, hash.
//!
//! Promises: one main revision per transaction; a read at a revision never changes; a reader holds no lock for
//! longer than a small step; what the engine holds is always the state after some `set_applied`.
//! Must not know: raft, the time of leases, users, tokio.

mod compaction;
mod error;
mod event;
mod hash;
mod index;
mod meta_row;
mod open;
mod options;
mod persister;
mod pins;
mod query;
mod read;
mod recent;
mod record;
mod revision;
mod shared;
mod size;
mod store;
mod tally;
mod write;

pub use error::Error;
pub use event::{Event, EventKind, EventLimits, Events, Prev};
pub use hash::HashKv;
pub use options::{Counters, Health, Options};
pub use query::{Order, Page, Query, Target};
pub use read::walk::Walk;
pub use record::KeyValue;
pub use revision::{REVISION_KEY_BYTES, Revision};
pub use store::{Snapshot, Store};
pub use tally::Times;
pub use write::{Deleted, Meta, Prior, Replaced, Txn, Visited, Writer};
