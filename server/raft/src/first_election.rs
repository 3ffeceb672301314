//! The first election after a start, without waiting for silence that nobody can break.
//!
//! A member that starts again cannot know whether somebody leads, so it waits an election timeout. When all members have
//! started again nobody does, and none need wait: as soon as a quorum answers, one stands, the others by rank if it does
//! not. They ask first whether they would win (pre-vote), so a leader that is there is not disturbed: its followers refuse.
//! (etcd: advanceTicks of server/etcdserver/server.go.)

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metastore_proto::peerpb::HelloRequest;
use openraft::async_runtime::WatchReceiver;

use crate::group::Group;

/// How soon the others are asked again who is there.
const AGAIN: Duration = Duration::from_millis(50);
/// A member that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sees to it that somebody stands, for as long as it would take until somebody does anyway.
pub(crate) async fn run(group: Arc<Group>, cluster_id: u64, timeout: Duration, turn: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < timeout {
        let (rank, others) = voters(&group);
        let Some(rank) = rank.filter(|_| !others.is_empty()) else {
            return;
        };
        let asked = others.iter().map(|id| answers(&group, cluster_id, *id));
        let here = join_all(asked).await.into_iter().filter(|here| *here);
        // This member is one of the quorum.
        if here.count() + 1 > others.len().div_ceil(2) {
            tokio::time::sleep(turn * rank).await;
            if !group.shared.has_heard_leader() && !group.shared.is_stopped() {
                tracing::debug!("nobody leads, standing for election");
                let _ = group.raft.trigger().elect(true).await;
            }
            return;
        }
        tokio::time::sleep(AGAIN).await;
        if group.shared.has_heard_leader() || group.shared.is_stopped() {
            return;
        }
    }
}

/// This member's place among the voters, if it is one, and the others.
fn voters(group: &Group) -> (Option<u32>, Vec<u64>) {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let mut voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
    voters.sort_unstable();
    let place = voters.iter().position(|id| *id == group.shared.member_id);
    voters.retain(|id| *id != group.shared.member_id);
    (place.and_then(|place| u32::try_from(place).ok()), voters)
}

async fn answers(group: &Group, cluster_id: u64, id: u64) -> bool {
    let Some(mut link) = group.link(id) else {
        return false;
    };
    let question = HelloRequest {
        cluster_id,
        member_id: group.shared.member_id,
    };
    let asked = tokio::time::timeout(PATIENCE, link.calls.hello(question)).await;
    matches!(asked, Ok(Ok(_)))
}
