//! A leader whose disk is full hands leadership to a member that has room, so that the others go on without it.
//!
//! etcd's member would have ended by then. Promises that nothing changes where nobody has room, and that a disk which is
//! full only for a moment is given that moment. Must not know what fills it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::group::Group;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);
/// A purge of the log may give room by itself.
const PATIENCE: Duration = Duration::from_secs(2);
/// Who has not answered by then is not there.
const ANSWER: Duration = Duration::from_secs(1);
/// Until it tries again.
const PAUSE: Duration = Duration::from_secs(10);

/// Runs until the group is stopped.
pub(crate) async fn run(group: Arc<Group>, cluster_id: u64) {
    let mut full_since = None;
    while !group.shared.is_stopped() {
        tokio::time::sleep(LOOK).await;
        if !(group.leads() && group.room.is_full()) {
            full_since = None;
            continue;
        }
        let since: &mut Instant = full_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            continue;
        }
        if let Some(target) = successor(&group, cluster_id).await {
            let member = format!("{target:x}");
            tracing::warn!(
                member,
                "this leader has no room; leadership goes to a member that has"
            );
            // Whether it moved shows at the next look.
            let _ = group.raft.trigger().transfer_leader(target).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Of the voters that have room, the one whose log goes furthest.
async fn successor(group: &Group, cluster_id: u64) -> Option<u64> {
    let asked = group.other_voters().into_iter().map(async |id| {
        let answer = group.hello(cluster_id, id, ANSWER).await?;
        answer.has_room.then_some(id)
    });
    let with_room: BTreeSet<u64> = join_all(asked).await.into_iter().flatten().collect();
    group.most_advanced(|id| with_room.contains(&id))
}
