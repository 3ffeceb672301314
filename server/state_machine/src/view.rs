//! The state beside the keys, as everybody outside of apply sees it.
//!
//! Promises: cheap to clone and to read from any thread. A table is locked for one small step at a time, so a reader never holds
//! apply up; a list of many leases or keys is therefore of several moments.

use std::sync::Arc;

use metastore_proto::etcdserverpb::{AlarmMember, AlarmType, Member};
use parking_lot::RwLock;

use crate::alarm::Alarms;
use crate::lease::{Lease, Leases};
use crate::membership::Members;

/// Leases or keys that are copied while their table is locked.
const STEP: usize = 1024;

/// The tables that apply writes and everybody reads.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) leases: RwLock<Leases>,
    pub(crate) alarms: RwLock<Alarms>,
    pub(crate) members: RwLock<Arc<Members>>,
}

/// Leases, alarms and members as of the last applied command.
#[derive(Debug, Clone)]
pub struct View {
    pub(crate) tables: Arc<Tables>,
    pub(crate) member_id: u64,
}

impl View {
    /// One lease.
    pub fn lease(&self, id: i64) -> Option<Lease> {
        self.tables.leases.read().get(id)
    }

    /// Every lease, by ascending id.
    pub fn leases(&self) -> Vec<Lease> {
        let mut all: Vec<Lease> = Vec::new();
        loop {
            let after = all.last().map(|lease| lease.id);
            let step = self.tables.leases.read().list(after, STEP);
            if step.is_empty() {
                return all;
            }
            all.extend(step);
        }
    }

    /// How many leases there are.
    pub fn lease_count(&self) -> usize {
        self.tables.leases.read().len()
    }

    /// The keys that hang on a lease, ascending; none without such a lease.
    pub fn lease_keys(&self, id: i64) -> Option<Vec<Box<[u8]>>> {
        let mut keys = Vec::new();
        loop {
            let before = keys.len();
            let known = self.tables.leases.read().list_keys(id, STEP, &mut keys);
            if !known {
                return None;
            }
            if keys.len() < before + STEP {
                return Some(keys);
            }
        }
    }

    /// The alarms of a kind; all of them for `NONE`. By kind, then by member.
    pub fn alarms(&self, kind: AlarmType) -> Vec<AlarmMember> {
        self.tables.alarms.read().list(kind as i32)
    }

    /// Whether any member has raised an alarm of this kind.
    pub fn has_alarm(&self, kind: AlarmType) -> bool {
        self.tables.alarms.read().any(kind)
    }

    /// The members, at one moment.
    pub fn members(&self) -> Arc<Members> {
        self.tables.members.read().clone()
    }

    /// This member as the cluster knows it; none before the log has said that it is one, or after its removal.
    pub fn this_member(&self) -> Option<Member> {
        self.tables.members.read().get(self.member_id).cloned()
    }
}
