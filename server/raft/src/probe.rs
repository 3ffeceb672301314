//! Calls every other member now and then: who is there, how long an answer takes, and whether it is one of us.
//!
//! Followers have little to say to each other, so without this a member would not know which of them answers
//! (etcd: `server/etcdserver/api/rafthttp/probing_status.go`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metastore_proto::peerpb::HelloRequest;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;

use crate::group::Group;
use crate::peer_service::Identity;

/// Time between two calls of a member.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between the first ones it is shorter, since the members come up one after the other.
const FIRST: Duration = Duration::from_millis(500);
const FIRST_CALLS: usize = 10;
/// A member that has not answered by then is not there.
const PATIENCE: Duration = Duration::from_secs(1);

/// What calls the others.
pub(crate) struct Probe {
    group: Arc<Group>,
    cluster_id: u64,
    identity: Arc<dyn Identity>,
    /// What has been said about each member that is none of ours, so that it is said once.
    told: Mutex<HashMap<u64, String>>,
}

impl Probe {
    pub(crate) fn new(group: Arc<Group>, cluster_id: u64, identity: Arc<dyn Identity>) -> Self {
        Self {
            group,
            cluster_id,
            identity,
            told: Mutex::default(),
        }
    }

    /// Runs until the group is stopped.
    pub(crate) async fn run(self) {
        let mut calls = 0;
        while !self.group.shared.is_stopped() {
            join_all(self.others().map(|id| self.call(id))).await;
            calls += 1;
            let pause = if calls < FIRST_CALLS { FIRST } else { INTERVAL };
            tokio::time::sleep(pause).await;
        }
    }

    fn others(&self) -> impl Iterator<Item = u64> + use<> {
        let metrics = self.group.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership().nodes();
        let me = self.group.shared.member_id;
        let ids: Vec<u64> = members.map(|(id, _)| *id).collect();
        ids.into_iter().filter(move |id| *id != me)
    }

    async fn call(&self, id: u64) {
        let Some(mut link) = self.group.link(id) else {
            return;
        };
        let Some(tally) = self.group.peers.tally(id) else {
            return;
        };
        let question = HelloRequest {
            cluster_id: self.cluster_id,
            member_id: self.group.shared.member_id,
        };
        let since = Instant::now();
        match tokio::time::timeout(PATIENCE, link.calls.hello(question)).await {
            Ok(Ok(answer)) => {
                tally.answered(since.elapsed());
                self.compare_engines(id, &answer.into_inner().engine);
            }
            // That it could not be called has been counted on the way.
            Ok(Err(_)) => {
                if let Some(why) = link.control.refusal().await {
                    self.tell(
                        id,
                        format!("what answers at its peer URLs is not it: {why}"),
                    );
                }
            }
            Err(_) => tally.lost(),
        }
    }

    fn compare_engines(&self, id: u64, theirs: &str) {
        let ours = self.identity.engine();
        if theirs == ours {
            self.told.lock().remove(&id);
            return;
        }
        self.tell(
            id,
            format!(
                "it has --storage-engine={theirs} and this member --storage-engine={ours}: neither can bring the other \
                 up to date with a snapshot"
            ),
        );
    }

    fn tell(&self, id: u64, why: String) {
        let mut told = self.told.lock();
        if told.get(&id) != Some(&why) {
            tracing::error!(
                member = format!("{id:x}"),
                error = why,
                "a member does not belong to this cluster"
            );
            told.insert(id, why);
        }
    }
}
