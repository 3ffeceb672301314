//! What members say to each other all the time: the log, heartbeats, read index, forwarded commands, leases.
//!
//! A connection begins as an HTTP/1.1 upgrade on the peer port and carries frames from then on (see [`frame`]). One
//! task serves each of its ends; questions are written by whoever asks, at once. A call over HTTP/2 costs several
//! times as many wake-ups of tasks and threads, and it is those that a cluster's small messages cost.
//!
//! Promises: questions of one session of the log arrive in order, and so do their answers; an answer never meets
//! another's question; what is on its way is bounded. Must not know what the members decide.

mod caller;
mod frame;
mod in_order;
mod inbox;
mod outbox;
mod serving;
mod session;
#[cfg(test)]
mod tests;
mod upgrade;

pub(crate) use caller::{CallError, Caller};
pub(crate) use frame::Kind;
pub(crate) use serving::serve;
pub(crate) use upgrade::{Dial, PATH, Visitor};
