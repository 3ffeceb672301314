//! Revokes leases whose time is over: the leader's duty alone.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::LeaseRevokeRequest;

use crate::node::Node;

/// How often the clock is looked at (etcd: expiredLeaseRetryInterval aside, its loop runs every 500 ms).
const LOOK: Duration = Duration::from_millis(500);
/// Revocations per look: many share an entry, so a hundred thousand leases go in seconds.
const REVOKED_PER_LOOK_MAX: usize = 10_000;
/// When a revocation that did not get through is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Runs until the member stops.
pub(crate) async fn expire_leases(node: Node) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !node.is_stopped() {
        tick.tick().await;
        let expired = node
            .clock()
            .expired(Instant::now(), REVOKED_PER_LOOK_MAX, AGAIN);
        let mut revocations: FuturesUnordered<_> =
            expired.into_iter().map(|id| revoke(&node, id)).collect();
        while revocations.next().await.is_some() {}
    }
}

async fn revoke(node: &Node, id: i64) {
    let request = Request::LeaseRevoke(LeaseRevokeRequest { id });
    let command = Command {
        caller: None,
        request: Some(request),
    };
    match node.propose(command).await {
        Ok(_) => {
            let expired = &node.measures().leases_expired;
            expired.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::debug!(lease = format!("{id:016x}"), error = %error, "an expired lease could not be revoked yet");
        }
    }
}
