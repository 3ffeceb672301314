//! The leader compacts history by itself where the flags ask for it; follows
//! `server/etcdserver/api/v3compactor`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::CompactionRequest;
use metastore_state_machine::Error as Refused;

use crate::error::Error;
use crate::node::Node;

/// Longer history is compacted once an hour.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// How often in a period the revision is noted.
const NOTES_PER_PERIOD: u32 = 10;
/// How often the number of revisions is looked at.
const REVISION_LOOK: Duration = Duration::from_secs(300);

/// Compacts what is older than `period`; runs until the member stops.
pub(crate) async fn compact_by_time(node: Node, period: Duration) {
    let mut window = Window::new(period, Instant::now());
    while !node.is_stopped() {
        window.note(node.store().revision());
        tokio::time::sleep(window.step).await;
        if !node.watch_status().borrow().is_leader() {
            continue;
        }
        if let Some(revision) = window.due(Instant::now())
            && compact(&node, "periodic", revision).await
        {
            window.done(revision, Instant::now());
        }
    }
}

/// Compacts all but the newest `retention` revisions; runs until the member stops.
pub(crate) async fn compact_by_revision(node: Node, retention: i64) {
    let mut last = 0;
    while !node.is_stopped() {
        tokio::time::sleep(REVISION_LOOK).await;
        let revision = node.store().revision() - retention;
        if revision <= 0 || revision == last || !node.watch_status().borrow().is_leader() {
            continue;
        }
        if compact(&node, "revision", revision).await {
            last = revision;
        }
    }
}

/// Whether everything up to `revision` is compacted now.
async fn compact(node: &Node, mode: &str, revision: i64) -> bool {
    tracing::info!(revision, "starting auto {mode} compaction");
    let since = Instant::now();
    let request = Request::Compaction(CompactionRequest {
        revision,
        physical: false,
    });
    let command = Command {
        caller: None,
        request: Some(request),
    };
    match node.propose(command).await {
        Ok(_) | Err(Error::Apply(Refused::Compacted)) => {
            tracing::info!(revision, took = ?since.elapsed(), "completed auto {mode} compaction");
            true
        }
        Err(error) => {
            tracing::warn!(revision, %error, "failed auto {mode} compaction");
            false
        }
    }
}

/// The revisions of the last period, noted in equal steps.
struct Window {
    /// Time between two notes.
    step: Duration,
    /// Time between two compactions.
    interval: Duration,
    /// Oldest first.
    revisions: VecDeque<i64>,
    length: usize,
    /// Nothing is compacted before a whole period has been seen.
    not_before: Instant,
    last: i64,
}

impl Window {
    fn new(period: Duration, now: Instant) -> Self {
        let interval = period.min(PERIOD_MAX);
        let step = (interval / NOTES_PER_PERIOD).max(Duration::from_nanos(1));
        let steps = period.as_nanos() / step.as_nanos();
        Self {
            step,
            interval,
            revisions: VecDeque::new(),
            length: usize::try_from(steps)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            not_before: now + period,
            last: 0,
        }
    }

    fn note(&mut self, revision: i64) {
        self.revisions.push_back(revision);
        if self.revisions.len() > self.length {
            self.revisions.pop_front();
        }
    }

    /// The revision of a period ago, where it is time to compact and there is something to do.
    fn due(&self, now: Instant) -> Option<i64> {
        let oldest = *self.revisions.front()?;
        (now >= self.not_before && oldest != self.last).then_some(oldest)
    }

    fn done(&mut self, revision: i64, now: Instant) {
        self.last = revision;
        self.not_before = now + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `hours` pass, with ten revisions an hour; returns the revisions compacted to.
    fn simulate(period: Duration, hours: i64) -> Vec<(i64, i64)> {
        let start = Instant::now();
        let mut window = Window::new(period, start);
        let mut compacted = Vec::new();
        let steps = Duration::from_secs(3600).as_secs() as i64 / window.step.as_secs() as i64;
        for step in 0..hours * steps {
            window.note(1 + step * 10 / steps);
            let now = start + window.step * u32::try_from(step + 1).expect("a small number");
            if let Some(revision) = window.due(now) {
                compacted.push(((step + 1) / steps, revision));
                window.done(revision, now);
            }
        }
        compacted
    }

    #[test]
    fn five_hours_are_kept_and_compacted_every_hour() {
        let compacted = simulate(Duration::from_secs(5 * 3600), 8);
        assert_eq!(compacted, [(5, 1), (6, 10), (7, 20), (8, 30)]);
    }

    #[test]
    fn ten_minutes_are_compacted_every_ten_minutes() {
        let compacted = simulate(Duration::from_secs(600), 1);
        // A revision comes every six minutes, a note every minute; the oldest of eleven notes counts.
        let revisions: Vec<i64> = compacted.iter().map(|&(_, revision)| revision).collect();
        assert_eq!(revisions, [1, 2, 4, 5, 7, 9]);
    }

    #[test]
    fn nothing_is_compacted_twice() {
        let mut window = Window::new(Duration::from_secs(10), Instant::now());
        window.note(7);
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(window.due(later), Some(7));
        window.done(7, later);
        assert_eq!(window.due(later + Duration::from_secs(60)), None);
    }
}
