//! The leader keeps the time of leases; other members ask it. Who keeps it, and how, is not
//! this room's business.

use std::time::Duration;

/// The clock of leases on the leader.
pub trait LeaseTimes: Send + Sync + 'static {
    /// Starts the lease's time anew; returns its TTL in seconds, none when there is no such lease.
    fn renew(&self, id: i64) -> Option<i64>;
    /// Time left until the lease expires, none when there is no such lease.
    fn remaining(&self, id: i64) -> Option<Duration>;
}
