//! The leader keeps the time of leases; other members ask it. Who keeps it, and how, is not
//! this room's business.

use std::time::Duration;

/// A lease whose time has been started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Its TTL in seconds.
    pub ttl: i64,
    /// The log holds a remainder of it, which is void now: a new leader would still go by it.
    pub checkpointed: bool,
}

/// The clock of leases on the leader.
pub trait LeaseTimes: Send + Sync + 'static {
    /// Starts the lease's time anew; none when there is no such lease.
    fn renew(&self, id: i64) -> Option<Renewal>;
    /// Time left until the lease expires, none when there is no such lease.
    fn remaining(&self, id: i64) -> Option<Duration>;
}
