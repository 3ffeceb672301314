//! With the feature LeaseCheckpoint the leader writes down what remains of long leases, so that a new
//! leader does not start them anew (etcd: lessor.checkpointScheduledLeases, server/lease/lessor.go).

use std::time::{Duration, Instant};

use metastore_proto::commandpb::{Command, command::Request};
use metastore_proto::etcdserverpb::{LeaseCheckpoint, LeaseCheckpointRequest};

use crate::node::Node;

/// Leases in one log entry (etcd: maxLeaseCheckpointBatchSize).
const BATCH: usize = 1000;

/// Runs until the member stops.
pub(crate) async fn checkpoint_leases(node: Node, interval: Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    while !node.is_stopped() {
        tick.tick().await;
        let remainders = node.clock().remainders(Instant::now(), interval);
        for batch in remainders.chunks(BATCH) {
            let checkpoints = batch
                .iter()
                .map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl })
                .collect();
            let request = Request::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
            if node
                .propose(Command {
                    caller: None,
                    request: Some(request),
                })
                .await
                .is_err()
            {
                break;
            }
        }
    }
}
