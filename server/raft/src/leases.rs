//! The leader keeps the time of leases; other members ask it. Who keeps it, and how, is not this room's business.
//!
//! Promises: "there is no such lease" is said by a leader that keeps the time of leases and has applied whatever was
//! granted before the question. A leader that has just been elected does not keep it yet: it is asked again.

use std::time::{Duration, Instant};

use metastore_proto::peerpb::{
    LeaseRemainingRequest, LeaseRemainingResponse, LeaseRenewRequest, LeaseRenewResponse,
};

use crate::connection::{Caller, Kind};
use crate::error::ReadError;
use crate::group::Group;

/// The pause before the leader is asked again (etcd: LeaseRenew of server/etcdserver/v3_server.go).
const AGAIN: Duration = Duration::from_millis(50);
/// An answer of the leader that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A lease whose time has been started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Its TTL in seconds.
    pub ttl: i64,
    /// The log holds a remainder of it, which is void now: a new leader would still go by it.
    pub checkpointed: bool,
}

/// This member does not keep the time of leases: it does not lead, or has not taken office yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in office")]
pub struct NotInOffice;

/// The clock of leases on the leader.
pub trait LeaseTimes: Send + Sync + 'static {
    /// Starts the lease's time anew; none when there is no such lease.
    fn renew(&self, id: i64) -> Result<Option<Renewal>, NotInOffice>;
    /// Time left until the lease expires, none when there is no such lease.
    fn remaining(&self, id: i64) -> Result<Option<Duration>, NotInOffice>;
}

/// Renews a lease by this member's clock; none when it cannot say.
pub(crate) async fn renew_here(
    group: &Group,
    times: &dyn LeaseTimes,
    id: i64,
) -> Option<Option<Renewal>> {
    if !group.leads() {
        return None;
    }
    apply_committed(group).await?;
    if let Some(renewal) = times.renew(id).ok()? {
        return Some(Some(renewal));
    }
    confirm(group).await?;
    times.renew(id).ok()
}

/// What is left of a lease by this member's clock, in seconds; none when it cannot say.
pub(crate) async fn remaining_here(
    group: &Group,
    times: &dyn LeaseTimes,
    id: i64,
) -> Option<Option<i64>> {
    if !group.leads() {
        return None;
    }
    apply_committed(group).await?;
    if let Some(left) = times.remaining(id).ok()? {
        return Some(Some(whole_seconds(left)));
    }
    confirm(group).await?;
    let left = times.remaining(id).ok()?;
    Some(left.map(whole_seconds))
}

/// Waits for what another member may have applied, and answered, before this one: a grant or a revocation (etcd:
/// waitAppliedIndex of server/etcdserver/v3_server.go).
async fn apply_committed(group: &Group) -> Option<()> {
    match group.committed() {
        Some(index) => applied(group, index).await,
        None => Some(()),
    }
}

/// Before "there is no such lease" is said: this member still leads, and has applied all that was granted.
async fn confirm(group: &Group) -> Option<()> {
    let index = group.read_index().await?;
    applied(group, index).await
}

async fn applied(group: &Group, index: u64) -> Option<()> {
    let applied = group.shared.wait_applied(index);
    tokio::time::timeout(PATIENCE, applied).await.ok()
}

/// Renews a lease at the leader, whoever that is; none when there is no such lease.
pub(crate) async fn renew(
    group: &Group,
    times: &dyn LeaseTimes,
    id: i64,
) -> Result<Option<Renewal>, ReadError> {
    let tries = Tries::of(group);
    loop {
        let asked = tokio::time::timeout(PATIENCE, renew_once(group, times, id));
        match asked.await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) | Err(_) => tries.pause().await?,
        }
    }
}

async fn renew_once(group: &Group, times: &dyn LeaseTimes, id: i64) -> Option<Option<Renewal>> {
    let Some(leader) = leader(group)? else {
        return renew_here(group, times, id).await;
    };
    let question = LeaseRenewRequest { id };
    let answer = leader.call(Kind::LeaseRenew, &question).await;
    let answer: LeaseRenewResponse = answer.ok()?;
    let renewal = Renewal {
        ttl: answer.ttl,
        checkpointed: answer.checkpointed,
    };
    answer.leader.then(|| answer.found.then_some(renewal))
}

/// Whole seconds that the leader still gives a lease; none when there is no such lease.
pub(crate) async fn remaining(
    group: &Group,
    times: &dyn LeaseTimes,
    id: i64,
) -> Result<Option<i64>, ReadError> {
    let tries = Tries::of(group);
    loop {
        let asked = tokio::time::timeout(PATIENCE, remaining_once(group, times, id));
        match asked.await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) | Err(_) => tries.pause().await?,
        }
    }
}

async fn remaining_once(group: &Group, times: &dyn LeaseTimes, id: i64) -> Option<Option<i64>> {
    let Some(leader) = leader(group)? else {
        return remaining_here(group, times, id).await;
    };
    let question = LeaseRemainingRequest { id };
    let answer = leader.call(Kind::LeaseRemaining, &question).await;
    let answer: LeaseRemainingResponse = answer.ok()?;
    let left = answer.found.then_some(answer.remaining);
    answer.leader.then_some(left)
}

/// The way to the leader, or `Some(None)` when that is this member.
fn leader(group: &Group) -> Option<Option<Caller>> {
    let leader = group.shared.leadership().leader;
    if leader == group.shared.member_id {
        return Some(None);
    }
    Some(Some(group.link(leader)?.control))
}

/// Asking again until a request's time is over.
struct Tries<'g> {
    group: &'g Group,
    deadline: Instant,
}

impl<'g> Tries<'g> {
    fn of(group: &'g Group) -> Self {
        Self {
            group,
            deadline: Instant::now() + group.options.request_timeout,
        }
    }

    async fn pause(&self) -> Result<(), ReadError> {
        if self.group.shared.is_stopped() {
            return Err(ReadError::Stopped);
        }
        if Instant::now() >= self.deadline {
            return Err(match self.group.shared.leadership().leader {
                0 => ReadError::NoLeader,
                _ => ReadError::Timeout,
            });
        }
        tokio::time::sleep(AGAIN).await;
        Ok(())
    }
}

/// The seconds of a time, without what is left of the last one.
fn whole_seconds(left: Duration) -> i64 {
    i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
}
