//! Calls every other member now and then: who is there, and how long an answer takes.
//!
//! Followers have little to say to each other, so without this a member would not know which of them answers
//! (etcd: `server/etcdserver/api/rafthttp/probing_status.go`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metastore_proto::peerpb::HelloRequest;
use openraft::async_runtime::WatchReceiver;

use crate::group::Group;

/// Time between two calls of a member.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between the first ones it is shorter, since the members come up one after the other.
const FIRST: Duration = Duration::from_millis(500);
const FIRST_CALLS: usize = 10;
/// A member that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs until the group is stopped.
pub(crate) async fn run(group: Arc<Group>, cluster_id: u64) {
    let mut calls = 0;
    while !group.shared.is_stopped() {
        join_all(others(&group).map(|id| call(&group, cluster_id, id))).await;
        calls += 1;
        let pause = if calls < FIRST_CALLS { FIRST } else { INTERVAL };
        tokio::time::sleep(pause).await;
    }
}

fn others(group: &Group) -> impl Iterator<Item = u64> {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership().nodes();
    let me = group.shared.member_id;
    let ids: Vec<u64> = members.map(|(id, _)| *id).collect();
    ids.into_iter().filter(move |id| *id != me)
}

async fn call(group: &Group, cluster_id: u64, id: u64) {
    let Some(mut link) = group.link(id) else {
        return;
    };
    let Some(tally) = group.peers.tally(id) else {
        return;
    };
    let question = HelloRequest {
        cluster_id,
        member_id: group.shared.member_id,
    };
    let since = Instant::now();
    match tokio::time::timeout(PATIENCE, link.calls.hello(question)).await {
        Ok(Ok(_)) => tally.answered(since.elapsed()),
        // That it could not be called has been counted on the way.
        Ok(Err(_)) => {}
        Err(_) => tally.lost(),
    }
}
