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

/// Watches the member's standing; the number goes up each time streams have to end. Ends when nobody listens.
pub(crate) fn follow(standing: watch::Receiver<Status>, election_timeout: Duration) -> watch::Receiver<u64> {
    let (lost, receiver) = watch::channel(0);
    tokio::spawn(async move {
        let mut without = 0;
        loop {
            tokio::select! {
                () = tokio::time::sleep(election_timeout) => {}
                () = lost.closed() => return,
            }
            without = if standing.borrow().has_leader() { 0 } else { without + 1 };
            if without >= PATIENCE {
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

    #[tokio::test(start_paused = true)]
    async fn streams_end_after_three_election_timeouts_without_a_leader() {
        let timeout = Duration::from_secs(1);
        let (status, standing) = watch::channel(Status { leader: 7, ..Status::default() });
        let receiver = follow(standing, timeout);
        let quiet = tokio::time::timeout(10 * timeout, lost(receiver.clone())).await;
        assert!(quiet.is_err(), "there is a leader");
        status.send_modify(|status| status.leader = 0);
        let since = tokio::time::Instant::now();
        lost(receiver).await;
        assert!((2 * timeout..=3 * timeout).contains(&since.elapsed()), "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_absence_ends_nothing() {
        let timeout = Duration::from_secs(1);
        let (status, standing) = watch::channel(Status::default());
        let receiver = follow(standing, timeout);
        let waiting = tokio::spawn(lost(receiver));
        tokio::time::sleep(timeout * 5 / 2).await;
        status.send_modify(|status| status.leader = 7);
        tokio::time::sleep(timeout * 10).await;
        assert!(!waiting.is_finished());
    }
}
