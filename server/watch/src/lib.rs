//! Watches: events after commit, told to those who asked for them.
//!
//! A [`Hub`] follows the store; each client has a [`Stream`] of watches. Promises: each watch gets every event of its range
//! once and in order, as etcd tells them; whoever does not read holds up nobody. Must not know raft or gRPC.

mod block;
mod history;
mod hub;
mod inbox;
mod intervals;
mod key_range;
mod notice;
mod options;
mod payload;
mod registry;
mod ring;
mod stream;
mod topics;
mod watches;

#[cfg(test)]
mod tests;

pub use hub::{Counts, Hub};
pub use notice::{ALL_WATCHES, Cancelled, CreateError, Created, Filters, Notice, Subscription};
pub use options::{Options, StreamOptions};
pub use payload::Payload;
pub use stream::Stream;
