//! What a log entry does: commands, gates, leases, alarms, membership.
//!
//! Promises: the same log gives the same state on every member, whether or not anybody there waits
//! for answers; any entry gives an outcome for each of its commands; an entry is carried out once,
//! however often it is read from the log.
//! Must not know: clocks, randomness, the network, tokio, how the log is agreed upon.

mod alarm;
mod answer;
mod apply;
mod bookkeeping;
mod effect;
mod fault;
mod gate;
mod lease;
pub mod membership;
mod observer;
mod outcome;
mod read;
mod state_machine;
mod system;
mod view;

pub use bookkeeping::Bookkeeping;
pub use effect::{Drained, Effect, Effects};
pub use fault::Fault;
pub use lease::{LEASE_TTL_MAX_SECONDS, Lease};
pub use membership::Members;
pub use observer::Observer;
pub use outcome::{Applied, CompactionHandle, Error, Outcome, Response};
pub use read::{is_read_only, read_txn};
pub use state_machine::{ENTRY_FORMAT, LogPosition, Options, StateMachine};
pub use view::View;
