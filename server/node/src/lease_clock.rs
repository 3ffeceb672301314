//! The leader's clock of leases.
//!
//! Only the leader measures time. When it takes office every lease starts anew with its full TTL, or with
//! the remainder that was last checkpointed (etcd: lessor.Promote, server/lease/lessor.go). A renewal is
//! O(1): the queue of deadlines is corrected when an entry comes up, not when it moves.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metastore_raft::{LeaseTimes, NotInOffice, Renewal};
use metastore_state_machine::View;
use parking_lot::Mutex;

use crate::measures::Measures;

#[derive(Debug, Clone, Copy)]
struct Timed {
    ttl: i64,
    deadline: Instant,
}

#[derive(Default)]
struct Clock {
    /// None while this member does not lead.
    leases: Option<HashMap<i64, Timed>>,
    /// Times at which a lease may be due; each running lease has at least one, not later than its deadline.
    due: BinaryHeap<Reverse<(Instant, i64)>>,
}

/// Deadlines of all leases, on the leader.
#[derive(Default)]
pub(crate) struct LeaseClock {
    clock: Mutex<Clock>,
}

/// A lease as the clock takes it over: id, TTL, and the seconds left if less than the TTL.
pub(crate) struct Running {
    pub(crate) id: i64,
    pub(crate) ttl: i64,
    pub(crate) remaining: i64,
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

impl LeaseClock {
    /// Takes office: every lease runs from now.
    pub(crate) fn lead(&self, now: Instant, running: impl Iterator<Item = Running>) {
        let mut clock = self.clock.lock();
        clock.due.clear();
        let mut leases = HashMap::new();
        for lease in running {
            let left = if lease.remaining > 0 {
                lease.remaining
            } else {
                lease.ttl
            };
            let deadline = now + seconds(left);
            leases.insert(
                lease.id,
                Timed {
                    ttl: lease.ttl,
                    deadline,
                },
            );
            clock.due.push(Reverse((deadline, lease.id)));
        }
        clock.leases = Some(leases);
    }

    /// Leaves office.
    pub(crate) fn follow(&self) {
        *self.clock.lock() = Clock::default();
    }

    /// A lease was granted.
    pub(crate) fn granted(&self, now: Instant, id: i64, ttl: i64) {
        let mut clock = self.clock.lock();
        let deadline = now + seconds(ttl);
        let Some(leases) = &mut clock.leases else {
            return;
        };
        leases.insert(id, Timed { ttl, deadline });
        clock.due.push(Reverse((deadline, id)));
    }

    /// A lease is gone.
    pub(crate) fn revoked(&self, id: i64) {
        if let Some(leases) = &mut self.clock.lock().leases {
            leases.remove(&id);
        }
    }

    /// Up to `limit` leases whose time is over. Each is due again `again` later, in case its
    /// revocation does not get through.
    pub(crate) fn expired(&self, now: Instant, limit: usize, again: Duration) -> Vec<i64> {
        let mut clock = self.clock.lock();
        let Clock {
            leases: Some(leases),
            due,
        } = &mut *clock
        else {
            return Vec::new();
        };
        let mut expired = Vec::new();
        while expired.len() < limit {
            match due.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((_, id))) = due.pop() else {
                break;
            };
            let Some(lease) = leases.get(&id) else {
                continue;
            };
            if lease.deadline > now {
                due.push(Reverse((lease.deadline, id)));
            } else {
                expired.push(id);
                due.push(Reverse((now + again, id)));
            }
        }
        expired
    }

    /// The given leases with their deadlines, those not heard of yet at the end of their TTL; none when this member keeps
    /// no time.
    pub(crate) fn deadlines(
        &self,
        now: Instant,
        leases: impl Iterator<Item = (i64, i64)>,
    ) -> Option<Vec<(Instant, i64)>> {
        let clock = self.clock.lock();
        let known = clock.leases.as_ref()?;
        let deadline = |(id, ttl)| match known.get(&id) {
            Some(lease) => (lease.deadline, id),
            None => (now + seconds(ttl), id),
        };
        Some(leases.map(deadline).collect())
    }

    /// The seconds left of every running lease that has been granted more than `longer_than`.
    pub(crate) fn remainders(&self, now: Instant, longer_than: Duration) -> Vec<(i64, i64)> {
        let clock = self.clock.lock();
        let Some(leases) = &clock.leases else {
            return Vec::new();
        };
        let mut remainders: Vec<_> = leases
            .iter()
            .filter(|(_, lease)| seconds(lease.ttl) > longer_than)
            .map(|(id, lease)| {
                (
                    *id,
                    lease.deadline.saturating_duration_since(now).as_secs() as i64,
                )
            })
            .filter(|(_, left)| *left > 0)
            .collect();
        remainders.sort_unstable();
        remainders
    }
}

impl LeaseClock {
    /// Starts a lease's time anew; its TTL, or none past its deadline: then it is about to be revoked and cannot
    /// be brought back. A lease that the clock has not heard of yet begins now.
    fn renew(&self, now: Instant, id: i64, ttl: i64) -> Result<Option<i64>, NotInOffice> {
        let mut clock = self.clock.lock();
        let Clock { leases, due } = &mut *clock;
        let leases = leases.as_mut().ok_or(NotInOffice)?;
        let lease = leases.entry(id).or_insert_with(|| {
            due.push(Reverse((now + seconds(ttl), id)));
            Timed {
                ttl,
                deadline: now + seconds(ttl),
            }
        });
        if lease.deadline <= now {
            return Ok(None);
        }
        lease.deadline = now + seconds(lease.ttl);
        Ok(Some(lease.ttl))
    }

    /// Time left; none for a lease that the clock has not heard of yet.
    fn remaining(&self, now: Instant, id: i64) -> Result<Option<Duration>, NotInOffice> {
        let clock = self.clock.lock();
        let leases = clock.leases.as_ref().ok_or(NotInOffice)?;
        let left = |lease: &Timed| lease.deadline.saturating_duration_since(now);
        Ok(leases.get(&id).map(left))
    }
}

/// The clock, asked about the leases that applied entries have left: the clock itself hears of grants and
/// revocations a moment later.
pub(crate) struct TimedLeases {
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) view: View,
    pub(crate) measures: Arc<Measures>,
}

impl LeaseTimes for TimedLeases {
    fn renew(&self, id: i64) -> Result<Option<Renewal>, NotInOffice> {
        let Some(lease) = self.view.lease(id) else {
            return Ok(None);
        };
        let ttl = self.clock.renew(Instant::now(), id, lease.ttl)?;
        let renewals = u64::from(ttl.is_some());
        let renewed = &self.measures.leases_renewed;
        renewed.fetch_add(renewals, Ordering::Relaxed);
        Ok(ttl.map(|ttl| Renewal {
            ttl,
            checkpointed: lease.remaining > 0,
        }))
    }

    fn remaining(&self, id: i64) -> Result<Option<Duration>, NotInOffice> {
        let Some(lease) = self.view.lease(id) else {
            return Ok(None);
        };
        let left = self.clock.remaining(Instant::now(), id)?;
        Ok(Some(left.unwrap_or_else(|| seconds(lease.ttl))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(3);

    fn leading(now: Instant) -> LeaseClock {
        let clock = LeaseClock::default();
        clock.lead(now, std::iter::empty());
        clock
    }

    #[test]
    fn a_lease_expires_at_its_ttl_and_not_before() {
        let now = Instant::now();
        let clock = leading(now);
        clock.granted(now, 7, 10);
        assert!(
            clock
                .expired(now + Duration::from_secs(9), 10, AGAIN)
                .is_empty()
        );
        assert_eq!(clock.expired(now + Duration::from_secs(10), 10, AGAIN), [7]);
    }

    #[test]
    fn a_renewed_lease_lives_on() {
        let now = Instant::now();
        let clock = leading(now - Duration::from_secs(5));
        clock.granted(now - Duration::from_secs(5), 7, 10);
        assert_eq!(clock.renew(now, 7, 10), Ok(Some(10)));
        assert!(
            clock
                .expired(now + Duration::from_secs(6), 10, AGAIN)
                .is_empty()
        );
    }

    #[test]
    fn an_expired_lease_is_due_again_until_it_is_revoked() {
        let now = Instant::now();
        let clock = leading(now);
        clock.granted(now, 7, 1);
        let later = now + Duration::from_secs(2);
        assert_eq!(clock.expired(later, 10, AGAIN), [7]);
        assert!(clock.expired(later, 10, AGAIN).is_empty());
        assert_eq!(clock.expired(later + AGAIN, 10, AGAIN), [7]);
        clock.revoked(7);
        assert!(clock.expired(later + AGAIN * 3, 10, AGAIN).is_empty());
    }

    #[test]
    fn a_new_leader_gives_the_full_ttl_or_the_checkpointed_rest() {
        let now = Instant::now();
        let clock = LeaseClock::default();
        let running = [
            Running {
                id: 1,
                ttl: 10,
                remaining: 0,
            },
            Running {
                id: 2,
                ttl: 10,
                remaining: 4,
            },
        ];
        clock.lead(now, running.into_iter());
        assert_eq!(clock.expired(now + Duration::from_secs(5), 10, AGAIN), [2]);
        assert_eq!(
            clock
                .expired(now + Duration::from_secs(10), 10, AGAIN)
                .len(),
            2
        );
    }

    #[test]
    fn deadlines_are_those_of_the_last_renewal_or_of_the_ttl() {
        let now = Instant::now();
        let clock = leading(now);
        clock.granted(now, 7, 10);
        let later = now + Duration::from_secs(5);
        assert_eq!(clock.renew(later, 7, 10), Ok(Some(10)));
        let deadlines = clock.deadlines(later, [(7, 10), (8, 1)].into_iter());
        let after = |seconds| later + Duration::from_secs(seconds);
        assert_eq!(deadlines, Some(vec![(after(10), 7), (after(1), 8)]));
    }

    #[test]
    fn a_follower_keeps_no_time() {
        let now = Instant::now();
        let clock = leading(now);
        clock.granted(now, 7, 1);
        clock.follow();
        assert!(
            clock
                .expired(now + Duration::from_secs(5), 10, AGAIN)
                .is_empty()
        );
        assert_eq!(clock.renew(now, 7, 1), Err(NotInOffice));
        assert_eq!(clock.remaining(now, 7), Err(NotInOffice));
        assert_eq!(clock.deadlines(now, std::iter::empty()), None);
    }
}
