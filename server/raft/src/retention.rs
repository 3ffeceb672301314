//! How long the log is kept.
//!
//! An entry may go once its effect is durable in the engine and every follower that is in touch has it; a
//! follower that lags is waited for up to a number of bytes, then it will need a snapshot. Nothing is
//! purged while a snapshot is being received (openraft issue 2116), nor what the receiver of one that is being sent
//! will need. A full disk overrides the patience, never the durability.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metastore_mvcc::Store;
use openraft::async_runtime::WatchReceiver;

use crate::flush::Flush;
use crate::group::Group;
use crate::log_store::LogStore;
use crate::snapshot::{Pins, Receiver};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A flush is due after so many bytes of log, or after the state was dirty for so long.
const FLUSH_BYTES: u64 = 128 << 20;
const FLUSH_AGE: Duration = Duration::from_secs(60);
/// Entries kept for a follower that is a moment behind, where there are bytes for them.
const ENTRIES_KEPT: u64 = 10_000;
/// Bytes kept for the same purpose where the disk is full.
const FULL_BYTES_KEPT: u64 = 16 << 20;

/// Decides when the state is flushed and what of the log goes.
pub(crate) struct Retention {
    pub(crate) group: Arc<Group>,
    pub(crate) log: LogStore,
    pub(crate) store: Store,
    pub(crate) flush: Arc<Flush>,
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) pins: Arc<Pins>,
    /// Bytes of log kept for a follower that lags.
    pub(crate) log_bytes_max: u64,
}

/// When the last flush began.
struct Flushed {
    bytes: u64,
    applied: u64,
    at: Instant,
}

impl Retention {
    /// Runs until the group is stopped.
    pub(crate) async fn run(self) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flushed = self.now();
        // A member that was away may come back with more log than it may keep.
        let mut purge_due = true;
        while !self.group.shared.is_stopped() {
            tick.tick().await;
            self.pins.expire();
            let receiver = self.receiver.clone();
            // Only fails when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || receiver.expire()).await;
            if self.receiver.is_busy() {
                continue;
            }
            let now = self.now();
            if self.is_due(&flushed, &now) {
                if self.flush().await {
                    purge_due = true;
                }
                flushed = now;
            }
            if (purge_due || self.group.room.is_full()) && !self.receiver.is_busy() {
                self.purge().await;
                purge_due = false;
            }
        }
    }

    fn now(&self) -> Flushed {
        Flushed {
            bytes: self.log.bytes_appended(),
            applied: self.group.shared.applied(),
            at: Instant::now(),
        }
    }

    fn is_due(&self, last: &Flushed, now: &Flushed) -> bool {
        // The memory engine writes everything each time, so it waits for more.
        let due = FLUSH_BYTES
            .max(self.store.engine().flush_cost_bytes() / 2)
            .min(self.log_bytes_max / 2);
        let bytes = now.bytes - last.bytes;
        let old = last.at.elapsed() > FLUSH_AGE && bytes > 1 << 20;
        now.applied > last.applied && (bytes >= due || old || self.group.room.is_full())
    }

    /// Makes the state durable and tells openraft; whether it went well.
    async fn flush(&self) -> bool {
        let flush = self.flush.clone();
        let done = tokio::task::spawn_blocking(move || flush.run()).await;
        if let Err(error) = done.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            tracing::warn!(error = %error, "the state could not be flushed; the log is kept");
            let passes = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::Interrupted
            );
            if !passes && !self.group.shared.is_stopped() {
                self.group.room.fail(error.to_string());
            }
            return false;
        }
        let durable = self.flush.durable().last_log_id;
        if self.group.raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let wait = self.group.raft.wait(Some(Duration::from_secs(60)));
        let told = wait.metrics(|metrics| metrics.snapshot >= durable, "the flush is known");
        told.await.is_ok()
    }

    /// Purges what is durable and nobody needs.
    async fn purge(&self) {
        let bytes_max = match self.group.room.is_full() {
            true => FULL_BYTES_KEPT.min(self.log_bytes_max),
            false => self.log_bytes_max,
        };
        let durable = self.flush.durable().last_log_id;
        let needs = Needs {
            durable: durable.map_or(0, |id| id.index + 1),
            followers: slowest_follower(&self.group),
            too_many_bytes: self.log.purge_point(bytes_max).map(|index| index + 1),
            transfer: self.pins.needs_log_from(),
            full: self.group.room.is_full(),
        };
        let end = needs.purge_end();
        if end > 0 {
            let _ = self.group.raft.trigger().purge_log(end - 1).await;
        }
    }
}

/// Who needs what of the log; each is one past an index.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// Up to here the state is durable.
    durable: u64,
    /// Up to here every follower has the log; none when this member has no followers.
    followers: Option<u64>,
    /// Up to here the log is more than may be kept; none when it is not.
    too_many_bytes: Option<u64>,
    /// From here on the receiver of a snapshot will need it.
    transfer: Option<u64>,
    full: bool,
}

impl Needs {
    /// One past the last entry that may go; 0 for none.
    fn purge_end(self) -> u64 {
        let idle = self.durable.saturating_sub(ENTRIES_KEPT);
        let unneeded = idle.min(self.followers.unwrap_or(idle));
        let end = unneeded.max(self.too_many_bytes.unwrap_or(0));
        let end = match self.transfer {
            Some(needed) if !self.full => end.min(needed),
            _ => end,
        };
        end.min(self.durable)
    }
}

/// One past the last entry that every follower has; none when this member has no followers.
fn slowest_follower(group: &Group) -> Option<u64> {
    let metrics = group.raft.metrics();
    let metrics = metrics.borrow_watched();
    let me = group.shared.member_id;
    let replication = metrics.replication.as_ref()?;
    let others = replication.iter().filter(|(id, _)| **id != me);
    others
        .map(|(_, matched)| matched.map_or(0, |id| id.index + 1))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        durable: 100_000,
        followers: None,
        too_many_bytes: None,
        transfer: None,
        full: false,
    };

    #[test]
    fn what_is_not_durable_is_never_purged() {
        let needs = Needs {
            too_many_bytes: Some(200_000),
            full: true,
            ..NEEDS
        };
        assert_eq!(needs.purge_end(), 100_000);
        assert_eq!(
            Needs {
                durable: 0,
                ..needs
            }
            .purge_end(),
            0
        );
    }

    #[test]
    fn a_follower_is_waited_for_until_there_are_too_many_bytes() {
        let needs = Needs {
            followers: Some(5_000),
            ..NEEDS
        };
        assert_eq!(NEEDS.purge_end(), 90_000);
        assert_eq!(needs.purge_end(), 5_000);
        let too_many_bytes = Some(60_000);
        assert_eq!(
            Needs {
                too_many_bytes,
                ..needs
            }
            .purge_end(),
            60_000
        );
    }

    #[test]
    fn what_a_transfer_needs_is_kept_unless_the_disk_is_full() {
        let needs = Needs {
            too_many_bytes: Some(95_000),
            transfer: Some(40_000),
            ..NEEDS
        };
        assert_eq!(needs.purge_end(), 40_000);
        assert_eq!(
            Needs {
                full: true,
                ..needs
            }
            .purge_end(),
            95_000
        );
    }
}
