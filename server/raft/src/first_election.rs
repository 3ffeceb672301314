//! The first election after a start, without waiting for silence that nobody can break.
//!
//! A member that starts again cannot know whether somebody leads, so it waits an election timeout. When all members have
//! started again nobody does, and none need wait: when a quorum answers and none of it knows a leader, one stands, the others
//! by rank if it does not. It asks first whether it would win (pre-vote). (etcd: advanceTicks of
//! server/etcdserver/server.go.)
//! Promises: a leader that has a quorum is not disturbed, also when most of the others have just started, since it says so
//! itself; an election by the clock is not put off. Must not know what a cluster is for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use openraft::async_runtime::WatchReceiver;

use crate::group::Group;

/// A leader's next heartbeat is a turn away, and its connection may take another; who has not answered by then is not
/// there.
const TURNS_OF_A_LEADER: u32 = 2;

/// Sees to it that somebody stands, for most of the time after which somebody does anyway. A `turn` is the time between a
/// leader's heartbeats.
pub(crate) async fn run(group: Arc<Group>, cluster_id: u64, timeout: Duration, turn: Duration) {
    let begin = Instant::now();
    let vote = group.vote();
    let goes_on = || {
        let is_early = begin.elapsed() < timeout * 3 / 4;
        is_early && !group.shared.has_heard_leader() && !group.shared.is_stopped()
    };
    while goes_on() {
        let (rank, others) = (rank(&group), group.other_voters());
        let Some(rank) = rank.filter(|_| !others.is_empty()) else {
            return;
        };
        let patience = turn * TURNS_OF_A_LEADER;
        let asked = others
            .iter()
            .map(|id| group.hello(cluster_id, *id, patience));
        let answers: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if answers.iter().any(|answer| answer.knows_leader) {
            return;
        }
        // This member is one of the quorum.
        let is_quorum = answers.len() + 1 > others.len().div_ceil(2);
        let turns = if is_quorum {
            TURNS_OF_A_LEADER + rank
        } else {
            1
        };
        tokio::time::sleep(turn * turns).await;
        if is_quorum {
            // Whoever stood meanwhile has this member's vote, and another election would undo it.
            if goes_on() && group.vote() == vote {
                tracing::debug!("nobody leads, standing for election");
                let _ = group.raft.trigger().elect(true).await;
            }
            return;
        }
    }
}

/// This member's place among the voters, if it is one.
fn rank(group: &Group) -> Option<u32> {
    let metrics = group.raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let mut voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
    voters.sort_unstable();
    let place = voters.iter().position(|id| *id == group.shared.member_id);
    place.and_then(|place| u32::try_from(place).ok())
}
