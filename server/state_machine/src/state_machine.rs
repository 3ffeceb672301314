//! The state machine: what it owns, how it comes up from a store, how far it has applied.

use std::sync::Arc;

use metastore_mvcc::{Store, Writer};
use metastore_proto::etcdserverpb::Member;
use prost::Message;

use crate::alarm::Alarms;
use crate::effect::{Effect, Effects};
use crate::gate::Standing;
use crate::lease::{Lease, Leases};
use crate::membership::Members;
use crate::observer::Observer;
use crate::view::{Tables, View};
use crate::{Fault, system};

/// The newest format of [`metastore_proto::commandpb::Entry`] that this version applies, and the one it should be proposed with.
pub const ENTRY_FORMAT: u32 = 1;

/// Effects that are held back until the end of a run of entries; with more the reader is told early.
const UNPUBLISHED_MAX: usize = 4096;

/// The place of an entry in the raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The term in which it was appended.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// What a state machine has to be told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// This member.
    pub member_id: u64,
    /// The cluster that a new store belongs to; a store that knows its cluster keeps it, whatever the flags say.
    pub cluster_id: u64,
}

/// Applies the log. There is one, owned by one thread; everybody else has a [`View`], the store and the [`Effects`].
pub struct StateMachine {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) tables: Arc<Tables>,
    pub(crate) standing: Standing,
    /// Kept for its allocation: the branches of the transaction at hand.
    pub(crate) path: Vec<bool>,
    pub(crate) unpublished: Vec<Effect>,
    pub(crate) observer: Option<Box<dyn Observer>>,
    member_id: u64,
    effects: Effects,
    applied: Option<LogPosition>,
    raft_membership: Option<Vec<u8>>,
    /// The first fault: part of an entry may be in the store, and must not reach the engine.
    fault: Option<Fault>,
}

impl StateMachine {
    /// Comes up with the state that the store holds.
    ///
    /// # Errors
    /// The store cannot be read or holds a damaged row.
    pub fn open(store: Store, writer: Writer, options: Options) -> Result<Self, Fault> {
        let mut machine = Self {
            store,
            writer,
            tables: Arc::default(),
            standing: Standing::default(),
            path: Vec::new(),
            unpublished: Vec::new(),
            observer: None,
            member_id: options.member_id,
            effects: Effects::default(),
            applied: None,
            raft_membership: None,
            fault: None,
        };
        machine.load()?;
        if machine.tables.members.read().cluster_id == 0 {
            machine.set_cluster_id(options.cluster_id);
        }
        Ok(machine)
    }

    /// Goes over to another store, such as one received from the leader. Every [`View`] and [`Effects`] handed out stays
    /// valid and shows the new state; the effects count as lost.
    ///
    /// # Errors
    /// The store cannot be read, or belongs to another cluster; the member must stop.
    pub fn replace_store(&mut self, store: Store, writer: Writer) -> Result<(), Fault> {
        let expected = self.tables.members.read().cluster_id;
        let found = system::read_cluster_id(&store)?.unwrap_or(expected);
        if found != expected {
            return Err(Fault::OtherCluster { found, expected });
        }
        self.store = store;
        self.writer = writer;
        self.unpublished.clear();
        self.load()?;
        self.effects.lose();
        Ok(())
    }

    /// Tells `observer`, instead of any earlier one, what is applied from now on.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
    }

    /// The state beside the keys, for readers.
    pub fn view(&self) -> View {
        View {
            tables: self.tables.clone(),
            member_id: self.member_id,
        }
    }

    /// What the leader's duties have to hear of.
    pub fn effects(&self) -> Effects {
        self.effects.clone()
    }

    /// The keys, for readers.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The last entry that was applied.
    pub fn applied(&self) -> Option<LogPosition> {
        self.applied
    }

    /// What raft last gave to [`StateMachine::apply_membership`].
    pub fn raft_membership(&self) -> Option<&[u8]> {
        self.raft_membership.as_deref()
    }

    /// Applies an entry of the log that holds no commands. Nothing after a [`Fault`].
    pub fn advance(&mut self, position: LogPosition) {
        if self.fault.is_none() && !self.is_applied(position) {
            self.mark_applied(position);
        }
    }

    /// Applies an entry of the log that changes the members. `raft` is kept for raft as it is; `members` are all
    /// members after the change, their client urls ignored and their names used for new ones. Nothing after a [`Fault`].
    pub fn apply_membership(&mut self, position: LogPosition, raft: &[u8], members: &[Member]) {
        if self.fault.is_some() || self.is_applied(position) {
            return;
        }
        let before = self.tables.members.read().clone();
        let next = before.with_raft_members(members);
        let mut txn = self.writer.begin();
        txn.put_system(system::RAFT_MEMBERSHIP, raft);
        for (id, member) in &next.by_id {
            if before.by_id.get(id) != Some(member) {
                let name = system::name_of_id(system::MEMBER, *id);
                txn.put_system(&name, &member.encode_to_vec());
            }
        }
        for id in before
            .by_id
            .keys()
            .filter(|id| !next.by_id.contains_key(id))
        {
            txn.delete_system(&system::name_of_id(system::MEMBER, *id));
        }
        for id in next.removed.difference(&before.removed) {
            txn.put_system(&system::name_of_id(system::REMOVED, *id), &[]);
        }
        for id in before.removed.difference(&next.removed) {
            txn.delete_system(&system::name_of_id(system::REMOVED, *id));
        }
        txn.commit();
        self.raft_membership = Some(raft.to_vec());
        if next != *before {
            *self.tables.members.write() = Arc::new(next);
            self.unpublished.push(Effect::MembersChanged);
        }
        self.mark_applied(position);
    }

    /// Tells the reader of the effects what the entries since the last call have brought. To be called after each run of entries.
    pub fn finish_batch(&mut self) {
        self.effects.publish(&mut self.unpublished);
    }

    /// The fault that has stopped this state machine.
    pub(crate) fn check_fault(&self) -> Result<(), Fault> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Stops this state machine for good.
    pub(crate) fn stop(&mut self, fault: Fault) -> Fault {
        self.fault = Some(fault.clone());
        fault
    }

    /// Whether the entry at `position` has been applied: the log is read again from before what the store holds.
    pub(crate) fn is_applied(&self, position: LogPosition) -> bool {
        self.applied
            .is_some_and(|applied| position.index <= applied.index)
    }

    /// Everything committed so far belongs to `position` and may reach the engine with it.
    pub(crate) fn mark_applied(&mut self, position: LogPosition) {
        self.writer.set_applied(&system::position_row(position));
        self.applied = Some(position);
        if self.unpublished.len() >= UNPUBLISHED_MAX {
            self.finish_batch();
        }
    }

    fn load(&mut self) -> Result<(), Fault> {
        let applied = self.store.applied();
        self.applied = applied.map(|row| system::read_position(&row)).transpose()?;
        self.raft_membership = self.store.read_system(system::RAFT_MEMBERSHIP)?;
        self.load_leases()?;
        self.load_alarms()?;
        let members = system::read_members(&self.store)?;
        *self.tables.members.write() = Arc::new(Members {
            by_id: members
                .into_iter()
                .map(|member| (member.id, member))
                .collect(),
            removed: system::read_removed(&self.store)?.into_iter().collect(),
            cluster_id: system::read_cluster_id(&self.store)?.unwrap_or(0),
            cluster_version: system::read_cluster_version(&self.store)?,
        });
        Ok(())
    }

    fn load_leases(&mut self) -> Result<(), Fault> {
        let rows = system::read_leases(&self.store)?;
        let mut leases = Leases::default();
        for (id, ttl, remaining) in rows {
            leases.grant(Lease { id, ttl, remaining });
        }
        self.store.leased_keys(&mut |key, lease| {
            if !leases.attach(lease, key) {
                tracing::warn!(lease, key = %key.escape_ascii(), "key hangs on an unknown lease");
            }
        });
        *self.tables.leases.write() = leases;
        Ok(())
    }

    fn load_alarms(&mut self) -> Result<(), Fault> {
        let rows = system::read_alarms(&self.store)?;
        let mut alarms = Alarms::default();
        for (kind, member) in rows {
            alarms.raise(kind, member);
        }
        self.standing = Standing::of(&alarms);
        *self.tables.alarms.write() = alarms;
        Ok(())
    }

    /// Writes the cluster's id into a new store.
    fn set_cluster_id(&mut self, cluster_id: u64) {
        let mut txn = self.writer.begin();
        txn.put_system(system::CLUSTER_ID, &cluster_id.to_be_bytes());
        txn.commit();
        Arc::make_mut(&mut self.tables.members.write()).cluster_id = cluster_id;
    }
}
