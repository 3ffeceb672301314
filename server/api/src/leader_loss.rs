//! When streams that asked for it (`hasleader`) are ended since the cluster has no leader.
//!
//! A new request without a leader is refused at once; a running stream is spared until no leader has been
//! seen for three election timeouts, since reconnecting it costs more (`monitorLeader` of
//! `v3rpc/interceptor.go`).

use std::time::Duration;

use metastore_node::Status;
use tokio::sync::watch;

/// So many looks in a row have to find no leader.
const PATIENCE: u32 = 3;

/// Counts looks that found no leader.
#[derive(Debug, Default)]
struct Absence(u32);

impl Absence {
    /// Takes one look; true when patience is at its end.
    fn look(&mut self, has_leader: bool) -> bool {
        self.0 = if has_leader {
            0
        } else {
            self.0.saturating_add(1)
        };
        self.0 >= PATIENCE
    }
}

/// Watches the member's standing; the number goes up each time streams have to end. Ends when nobody listens.
pub(crate) fn follow(
    standing: watch::Receiver<Status>,
    election_timeout: Duration,
) -> watch::Receiver<u64> {
    let (lost, receiver) = watch::channel(0);
    tokio::spawn(async move {
        let mut absence = Absence::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(election_timeout) => {}
                () = lost.closed() => return,
            }
            let has_leader = standing.borrow().has_leader();
            if absence.look(has_leader) {
                lost.send_modify(|times| *times += 1);
            }
        }
    });
    receiver
}

/// Resolves when streams have to end.
pub(crate) async fn lost(mut receiver: watch::Receiver<u64>) {
    receiver.mark_unchanged();
    if receiver.changed().await.is_err() {
        // Nobody follows any more: the door is gone, and its streams end another way.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_absence_ends_nothing_and_a_long_one_does() {
        let mut absence = Absence::default();
        let looks = [false, false, true, false, false, false, false, true];
        let ended = looks.map(|has_leader| absence.look(has_leader));
        assert_eq!(
            ended,
            [false, false, false, false, false, true, true, false]
        );
    }

    #[tokio::test]
    async fn streams_hear_of_the_loss() {
        let (_status, standing) = watch::channel(Status::default());
        lost(follow(standing, Duration::from_millis(1))).await;
    }
}
