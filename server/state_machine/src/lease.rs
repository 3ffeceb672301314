//! The leases: what was granted, what was checkpointed, which keys hang on them (etcd: `server/lease`).
//!
//! Promises: everything in here follows from the log; whoever lists leases or keys in steps gets them in ascending order. Must not
//! know the time: when a lease runs out is the leader's business.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The longest time to live that can be granted, in seconds.
pub const LEASE_TTL_MAX_SECONDS: i64 = 9_000_000_000;

/// A lease, without its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The id, never 0.
    pub id: i64,
    /// The time to live that was granted, in seconds.
    pub ttl: i64,
    /// What remained of it at the last checkpoint, in seconds; 0 or less when there is none.
    pub remaining: i64,
}

impl Lease {
    /// The seconds that a new leader gives the lease: what was checkpointed, else all of it.
    pub fn remaining_or_ttl(&self) -> i64 {
        if self.remaining > 0 {
            self.remaining
        } else {
            self.ttl
        }
    }
}

/// The table of leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<i64, Granted>,
}

#[derive(Debug)]
struct Granted {
    ttl: i64,
    remaining: i64,
    keys: Keys,
}

/// The keys of a lease. Most leases have one, some have thousands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Keys {
    #[default]
    None,
    One(Box<[u8]>),
    Many(BTreeSet<Box<[u8]>>),
}

impl Leases {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn get(&self, id: i64) -> Option<Lease> {
        self.by_id.get(&id).map(|granted| granted.describe(id))
    }

    /// At most `limit` leases with ids above `after`, ascending.
    pub(crate) fn list(&self, after: Option<i64>, limit: usize) -> Vec<Lease> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = self.by_id.range((from, Bound::Unbounded));
        leases
            .take(limit)
            .map(|(id, granted)| granted.describe(*id))
            .collect()
    }

    /// Appends at most `limit` of the lease's keys above the last of `keys`, ascending; false without such a lease.
    pub(crate) fn list_keys(&self, id: i64, limit: usize, keys: &mut Vec<Box<[u8]>>) -> bool {
        let Some(granted) = self.by_id.get(&id) else {
            return false;
        };
        match &granted.keys {
            Keys::None => {}
            Keys::One(key) => {
                if keys.last().is_none_or(|last| last < key) {
                    keys.push(key.clone());
                }
            }
            Keys::Many(all) => match keys.last().cloned() {
                None => keys.extend(all.iter().take(limit).cloned()),
                Some(last) => {
                    let rest = (Bound::Excluded(last), Bound::Unbounded);
                    keys.extend(all.range(rest).take(limit).cloned());
                }
            },
        }
        true
    }

    /// Adds a lease, or replaces what is known of it, without keys.
    pub(crate) fn grant(&mut self, lease: Lease) {
        let granted = Granted {
            ttl: lease.ttl,
            remaining: lease.remaining,
            keys: Keys::None,
        };
        self.by_id.insert(lease.id, granted);
    }

    /// Removes a lease and gives its keys away.
    pub(crate) fn revoke(&mut self, id: i64) -> Option<Keys> {
        self.by_id.remove(&id).map(|granted| granted.keys)
    }

    /// Notes what remains of a lease, in seconds.
    pub(crate) fn checkpoint(&mut self, id: i64, remaining: i64) -> Option<Lease> {
        let granted = self.by_id.get_mut(&id)?;
        granted.remaining = remaining;
        Some(granted.describe(id))
    }

    /// Hangs a key on a lease; false when there is no such lease.
    pub(crate) fn attach(&mut self, id: i64, key: &[u8]) -> bool {
        let Some(granted) = self.by_id.get_mut(&id) else {
            return false;
        };
        granted.keys.insert(key);
        true
    }

    /// Takes a key off one lease and hangs it on another; 0 is none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: i64, to: i64) {
        if from != 0 {
            self.detach(from, key);
        }
        if to != 0 {
            self.attach(to, key);
        }
    }

    /// Takes a key off a lease, if it hangs there.
    pub(crate) fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(granted) = self.by_id.get_mut(&id) {
            granted.keys.remove(key);
        }
    }
}

impl Granted {
    fn describe(&self, id: i64) -> Lease {
        Lease {
            id,
            ttl: self.ttl,
            remaining: self.remaining,
        }
    }
}

impl Keys {
    fn insert(&mut self, key: &[u8]) {
        match self {
            Self::None => *self = Self::One(key.into()),
            Self::One(only) if **only == *key => {}
            Self::One(only) => {
                let only = std::mem::take(only);
                *self = Self::Many(BTreeSet::from([only, key.into()]));
            }
            Self::Many(keys) => {
                keys.insert(key.into());
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        match self {
            Self::One(only) if **only == *key => *self = Self::None,
            Self::None | Self::One(_) => {}
            Self::Many(keys) => {
                keys.remove(key);
                if keys.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }

    /// Calls `visit` with each key, ascending, until it fails.
    pub(crate) fn try_each<E>(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::None => Ok(()),
            Self::One(key) => visit(key),
            Self::Many(keys) => keys.iter().try_for_each(|key| visit(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(ids: impl IntoIterator<Item = i64>) -> Leases {
        let mut leases = Leases::default();
        for id in ids {
            leases.grant(Lease {
                id,
                ttl: 10,
                remaining: 0,
            });
        }
        leases
    }

    fn keys_of(leases: &Leases, id: i64, step: usize) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        loop {
            let before = keys.len();
            assert!(leases.list_keys(id, step, &mut keys));
            if keys.len() == before {
                return keys;
            }
        }
    }

    #[test]
    fn keys_are_listed_in_ascending_order_whatever_the_step() {
        let mut leases = granted([7]);
        for key in ["b", "a", "c", "b"] {
            assert!(leases.attach(7, key.as_bytes()));
            let listed = keys_of(&leases, 7, 1);
            assert!(listed.is_sorted());
            assert_eq!(listed, keys_of(&leases, 7, 100));
        }
        leases.detach(7, b"a");
        leases.detach(7, b"c");
        assert_eq!(keys_of(&leases, 7, 1), [Box::from(*b"b")]);
        leases.detach(7, b"b");
        leases.detach(7, b"b");
        assert!(keys_of(&leases, 7, 1).is_empty());
        assert_eq!(leases.revoke(7), Some(Keys::None));
        assert!(!leases.list_keys(7, 1, &mut Vec::new()));
    }

    #[test]
    fn leases_are_listed_in_steps() {
        let leases = granted([5, -3, 9]);
        assert_eq!(
            leases
                .list(None, 2)
                .iter()
                .map(|l| l.id)
                .collect::<Vec<_>>(),
            [-3, 5]
        );
        assert_eq!(leases.list(Some(5), 2)[0].id, 9);
        assert!(leases.list(Some(9), 2).is_empty());
    }

    #[test]
    fn a_checkpoint_of_zero_means_the_whole_time_to_live() {
        let mut leases = granted([1]);
        assert_eq!(leases.checkpoint(1, 4).unwrap().remaining_or_ttl(), 4);
        assert_eq!(leases.checkpoint(1, 0).unwrap().remaining_or_ttl(), 10);
        assert_eq!(leases.checkpoint(2, 4), None);
    }
}
