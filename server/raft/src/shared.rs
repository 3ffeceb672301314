//! What the parts of the raft room share: who leads, how far this member has applied, who waits.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::tally::Tally;
use crate::waiters::Waiters;

/// What a member knows of its group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, 0 when none is known or it has lost touch with this member.
    pub leader: u64,
    /// The current term.
    pub term: u64,
    /// True when this member has no vote.
    pub is_learner: bool,
}

pub(crate) struct Shared {
    pub(crate) member_id: u64,
    pub(crate) waiters: Waiters,
    pub(crate) tally: Tally,
    leadership: watch::Sender<Leadership>,
    applied: watch::Sender<u64>,
    leader_heard: LeaderHeard,
    voters: AtomicUsize,
    pub(crate) stopped: AtomicBool,
}

impl Shared {
    pub(crate) fn new(member_id: u64, applied: u64) -> Self {
        Self {
            member_id,
            waiters: Waiters::default(),
            tally: Tally::default(),
            leadership: watch::Sender::default(),
            applied: watch::Sender::new(applied),
            leader_heard: LeaderHeard::default(),
            voters: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    pub(crate) fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(crate) fn set_leadership(&self, now: Leadership) {
        self.leadership.send_if_modified(|before| {
            let changed = *before != now;
            if now.leader != 0 && now.leader != before.leader {
                self.tally.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            *before = now;
            changed
        });
    }

    /// One past the index of the last applied entry; 0 when nothing is applied.
    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    pub(crate) fn set_applied(&self, next: u64) {
        self.applied.send_replace(next);
    }

    /// Waits until the entry at `index` is applied here.
    pub(crate) async fn wait_applied(&self, index: u64) {
        if self.applied() > index {
            return;
        }
        // The sender lives in self, so the wait cannot end early.
        let _ = self
            .applied
            .subscribe()
            .wait_for(|next| *next > index)
            .await;
    }

    /// Voters of the group, as last seen.
    pub(crate) fn voters(&self) -> usize {
        self.voters.load(Ordering::Relaxed)
    }

    pub(crate) fn set_voters(&self, voters: usize) {
        self.voters.store(voters, Ordering::Relaxed);
    }

    pub(crate) fn hear_leader(&self) {
        self.leader_heard.now();
    }

    /// Whether an append or heartbeat of a leader has arrived since the start.
    pub(crate) fn has_heard_leader(&self) -> bool {
        self.leader_heard.at_ms.load(Ordering::Relaxed) != 0
    }

    /// Time since an append or heartbeat of a leader arrived.
    pub(crate) fn leader_silence(&self) -> Duration {
        self.leader_heard.silence()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// When the leader was last heard, in milliseconds since the start; 0 when it was not.
struct LeaderHeard {
    start: Instant,
    at_ms: AtomicU64,
}

impl Default for LeaderHeard {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            at_ms: AtomicU64::new(0),
        }
    }
}

impl LeaderHeard {
    fn now(&self) {
        let at = self.start.elapsed().as_millis() as u64;
        self.at_ms.store(at.max(1), Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.start
            .elapsed()
            .saturating_sub(Duration::from_millis(self.at_ms.load(Ordering::Relaxed)))
    }
}
