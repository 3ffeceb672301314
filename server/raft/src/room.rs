//! Whether this member has room for more on its disks: under the log, and under the engine.
//!
//! Promises that what would need more room is refused while there is still some left for what must go on: votes, the
//! end of what is under way, the flush that lets the log be purged. Must not know which commands need room; that is
//! told by whoever starts the group.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use metastore_mvcc::{Health, Store};
use metastore_proto::commandpb::{Command, Entry};
use prost::Message;
use tokio::sync::watch;

use crate::shared::Shared;
use crate::types::Proposal;
use crate::wal::{OnSpace, Space};

/// Bytes left free on the engine's file system, for its flushes and merges.
const RESERVE_BYTES: u64 = 64 << 20;
/// How often the engine's disk is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Whether a command takes more room than it gives back.
pub type Grows = fn(&Command) -> bool;

/// What is known of the member's disks.
pub(crate) struct Room {
    grows: Grows,
    /// No room for the log to grow.
    log_full: AtomicBool,
    /// The engine could not write.
    engine_full: AtomicBool,
    /// Little is left where the engine is.
    disk_full: AtomicBool,
    /// Why the engine has failed for good.
    failure: watch::Sender<Option<String>>,
}

impl Room {
    pub(crate) fn new(grows: Grows) -> Arc<Self> {
        Arc::new(Self {
            grows,
            log_full: AtomicBool::new(false),
            engine_full: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            failure: watch::Sender::default(),
        })
    }

    /// To be told by the log.
    pub(crate) fn on_space(self: &Arc<Self>) -> OnSpace {
        let this = self.clone();
        Arc::new(move |space| this.log_full.store(space == Space::Full, Relaxed))
    }

    /// Follows the store's health from now on.
    pub(crate) fn follow(self: &Arc<Self>, store: &Store) {
        let this = self.clone();
        store.on_health(Arc::new(move |health| this.hear(health)));
        self.hear(&store.health());
    }

    fn hear(&self, health: &Health) {
        self.engine_full
            .store(matches!(health, Health::NoSpace(_)), Relaxed);
        if let Health::Failed(why) = health {
            self.fail(why.clone());
        }
    }

    /// The engine has failed for good.
    pub(crate) fn fail(&self, why: String) {
        self.failure.send_replace(Some(why));
    }

    /// True while nothing that grows should be taken in.
    pub(crate) fn is_full(&self) -> bool {
        self.log_full.load(Relaxed)
            || self.engine_full.load(Relaxed)
            || self.disk_full.load(Relaxed)
    }

    /// Whether a command has to be refused.
    pub(crate) fn refuses_command(&self, command: &Command) -> bool {
        self.is_full() && (self.grows)(command)
    }

    /// Whether a proposal has to be refused. One that cannot be understood is left to be refused elsewhere.
    pub(crate) fn refuses(&self, proposal: &Proposal) -> bool {
        let grows = |proposal: &Proposal| {
            // What is decoded already is for the one that applies it.
            let entry = Entry::decode(proposal.encoded());
            entry.is_ok_and(|entry| entry.commands.iter().any(self.grows))
        };
        self.is_full() && grows(proposal)
    }

    /// Resolves when the engine has failed for good: why.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        // The sender lives in self, so the wait cannot end early.
        let _ = failure.wait_for(Option::is_some).await;
        let why = failure.borrow().clone();
        why.unwrap_or_default()
    }

    /// Looks at the disk of `directory` until the group is stopped.
    pub(crate) async fn watch(self: Arc<Self>, directory: PathBuf, shared: Arc<Shared>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shared.is_stopped() {
            tick.tick().await;
            // A disk that cannot be asked is not known to be full.
            let full = free_bytes(&directory).is_ok_and(|free| free < RESERVE_BYTES);
            if self.disk_full.swap(full, Relaxed) != full {
                let directory = directory.display().to_string();
                match full {
                    true => {
                        tracing::warn!(directory, "the disk is nearly full; writes are refused")
                    }
                    false => tracing::info!(directory, "the disk has room again"),
                }
            }
        }
    }
}

fn free_bytes(directory: &Path) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use metastore_proto::commandpb::command::Request;
    use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest};

    use super::*;

    fn proposal(requests: Vec<Request>) -> Proposal {
        let command = |request| Command {
            caller: None,
            request: Some(request),
        };
        Proposal::from_entry(Entry {
            format: 1,
            origin: 1,
            sequence: 1,
            commands: requests.into_iter().map(command).collect(),
        })
    }

    fn is_put(command: &Command) -> bool {
        matches!(command.request, Some(Request::Put(_)))
    }

    #[test]
    fn a_full_disk_refuses_what_grows_and_nothing_else() {
        let room = Room::new(is_put);
        let put = || Request::Put(PutRequest::default());
        let compaction = || Request::Compaction(CompactionRequest::default());
        assert!(!room.refuses(&proposal(vec![put()])));
        for full in [&room.log_full, &room.engine_full, &room.disk_full] {
            full.store(true, Relaxed);
            assert!(room.refuses(&proposal(vec![compaction(), put()])));
            assert!(!room.refuses(&proposal(vec![compaction()])));
            full.store(false, Relaxed);
        }
        assert!(!room.is_full());
    }

    #[test]
    fn the_log_tells_of_its_room() {
        let room = Room::new(is_put);
        let told = room.on_space();
        told(Space::Full);
        assert!(room.is_full());
        told(Space::Enough);
        assert!(!room.is_full());
    }

    #[tokio::test]
    async fn a_failed_engine_is_told_even_to_who_asks_later() {
        let room = Room::new(is_put);
        room.hear(&Health::NoSpace("full".into()));
        assert!(room.is_full());
        room.hear(&Health::Good);
        room.hear(&Health::Failed("on fire".into()));
        assert_eq!(room.failed().await, "on fire");
    }
}
