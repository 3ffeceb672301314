//! Bringing a member up: engine, store, state machine, raft, duties, in this order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use metastore_mvcc::Store;
use metastore_proto::commandpb::{Command, MemberAttributes, command::Request};
use metastore_raft::{Identity, Leadership, Raft, StateDirectory, types::PeerNode};
use metastore_state_machine::{StateMachine, View};
use metastore_watch::Hub;
use tokio::sync::watch;

use crate::duties;
use crate::effort;
use crate::lease_clock::{LeaseClock, TimedLeases};
use crate::measures::{Measures, Stopwatch};
use crate::node::{Inner, Node};
use crate::options::{AutoCompaction, Options};
use crate::quota;
use crate::status::Status;

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state could not be opened.
    #[error("open state: {0}")]
    State(#[from] metastore_raft::StateError),
    /// The store could not be opened.
    #[error("open store: {0}")]
    Store(#[from] metastore_mvcc::Error),
    /// The state machine refuses what it found.
    #[error("open state machine: {0}")]
    StateMachine(#[from] metastore_state_machine::Fault),
    /// Raft did not start.
    #[error(transparent)]
    Raft(#[from] metastore_raft::StartError),
    /// The system gave trouble.
    #[error(transparent)]
    System(#[from] std::io::Error),
}

/// What peers may know of this member.
struct Facts {
    engine: &'static str,
    version: String,
    view: View,
}

impl Identity for Facts {
    fn engine(&self) -> &str {
        self.engine
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn has_published(&self, member_id: u64) -> bool {
        self.view
            .members()
            .get(member_id)
            .is_some_and(|member| !member.client_urls.is_empty())
    }
}

impl Node {
    /// Opens what is on disk and takes part in the group. The peer port must be served from now on; client
    /// ports only after [`Node::ready`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let (directory, store, mut machine) = open(&options).await?;
        let measures = Arc::new(Measures::default());
        machine.observe(Box::new(Stopwatch::new(
            measures.clone(),
            options.slow_apply,
        )));
        let (view, effects) = (machine.view(), machine.effects());
        let hub = Hub::new(store.clone());
        let clock = Arc::new(LeaseClock::default());
        // One thread: its tasks wake each other with every message, which costs nothing there.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("raft")
            .enable_all()
            .build()?;
        let leases = TimedLeases {
            clock: clock.clone(),
            view: view.clone(),
            measures: measures.clone(),
        };
        let raft_options = raft_options(&options, view.clone(), leases);
        let handle = runtime.handle().clone();
        let raft = Raft::start(raft_options, machine, store.clone(), directory, handle).await;
        let raft = match raft {
            Ok(raft) => raft,
            Err(error) => {
                // Just dropped it would wait for its threads, which no task of another runtime may do.
                runtime.shutdown_background();
                return Err(error.into());
            }
        };
        let (status, followed) = watch::channel(Status::default());
        let node = Self {
            inner: Arc::new(Inner {
                member_id: options.member_id,
                cluster_id: options.cluster_id,
                raft,
                store,
                view,
                hub,
                clock,
                measures,
                limits: options.limits,
                versions: options.versions.clone(),
                status: followed,
                min_lease_ttl: min_lease_ttl(options.heartbeat, options.election),
                next_id: AtomicI64::new(first_id(options.member_id)),
                stopped: AtomicBool::new(false),
                defragmenting: tokio::sync::Mutex::default(),
                raft_runtime: parking_lot::Mutex::new(Some(runtime)),
            }),
        };
        tokio::spawn(follow_status(node.clone(), status));
        tokio::spawn(duties::follow_leases(node.clone(), effects));
        tokio::spawn(duties::expire_leases(node.clone()));
        tokio::spawn(duties::set_cluster_version(node.clone()));
        if let Some(interval) = options.lease_checkpoint_interval {
            tokio::spawn(duties::checkpoint_leases(node.clone(), interval));
        }
        match options.auto_compaction {
            Some(AutoCompaction::Periodic(period)) => {
                tokio::spawn(duties::compact_by_time(node.clone(), period));
            }
            Some(AutoCompaction::Revision(retention)) => {
                tokio::spawn(duties::compact_by_revision(node.clone(), retention));
            }
            None => {}
        }
        Ok(node)
    }

    /// Resolves when clients can be served: a leader is known, everything committed before is applied
    /// here, and the cluster knows this member's client URLs.
    pub async fn ready(&self, name: &str, client_urls: &[String]) {
        while !self.is_stopped() && self.read_barrier().await.is_err() {}
        let attributes = MemberAttributes {
            member_id: self.inner.member_id,
            name: name.to_owned(),
            client_urls: client_urls.to_vec(),
        };
        while !self.is_stopped() {
            let known = self.view().members();
            let me = known.get(self.inner.member_id);
            if me.is_some_and(|me| me.name == name && me.client_urls == client_urls) {
                tracing::info!(
                    local_member_id = format_args!("{:x}", self.inner.member_id),
                    cluster_id = format_args!("{:x}", self.inner.cluster_id),
                    client_urls = ?client_urls,
                    "published local member to cluster through raft"
                );
                return;
            }
            let request = Request::MemberAttributes(attributes.clone());
            if let Err(error) = self
                .propose(Command {
                    caller: None,
                    request: Some(request),
                })
                .await
            {
                tracing::warn!(error = %error, "failed to publish local member to cluster through raft");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open(options: &Options) -> Result<(StateDirectory, Store, StateMachine), StartError> {
    let path = options.state_directory.clone();
    let (kind, engine_options) = (options.engine, options.engine_options.clone());
    let store_options = options.store_options.clone();
    let identity = metastore_state_machine::Options {
        member_id: options.member_id,
        cluster_id: options.cluster_id,
    };
    let opened = tokio::task::spawn_blocking(move || {
        let (directory, engine) = StateDirectory::open(&path, kind, engine_options)?;
        let (store, writer) = Store::open(engine, store_options)?;
        let machine = StateMachine::open(store.clone(), writer, identity)?;
        Ok((directory, store, machine))
    });
    opened.await.map_err(std::io::Error::other)?
}

fn raft_options(options: &Options, view: View, leases: TimedLeases) -> metastore_raft::Options {
    let members: BTreeMap<u64, PeerNode> = options
        .initial_members
        .iter()
        .map(|member| {
            (
                member.id,
                PeerNode {
                    name: member.name.clone(),
                    peer_urls: member.peer_urls.clone(),
                },
            )
        })
        .collect();
    let version = options.versions.server.clone();
    metastore_raft::Options {
        cluster_id: options.cluster_id,
        member_id: options.member_id,
        initial_members: members,
        heartbeat: options.heartbeat,
        election: options.election,
        log_directory: options.log_directory.clone(),
        log_retention_bytes: options.log_retention_bytes,
        fsync: options.fsync,
        peer_silence: options.peer_silence,
        slow_apply: options.slow_apply,
        pre_vote: options.pre_vote,
        early_election: options.early_election,
        connect: options.connect.clone(),
        identity: Arc::new(Facts {
            engine: options.engine.name(),
            version,
            view,
        }),
        leases: Arc::new(leases),
        grows: quota::grows,
        takes_long: effort::takes_long,
    }
}

/// etcd: minTTL = (3 * electionTicks) / 2 * heartbeat, in whole seconds rounded up
/// (server/etcdserver/server.go). An election is a whole number of heartbeats.
fn min_lease_ttl(heartbeat: Duration, election: Duration) -> i64 {
    let heartbeat = heartbeat.as_millis().max(1);
    let millis = 3 * (election.as_millis() / heartbeat) / 2 * heartbeat;
    i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
}

/// Ids are unique over members and runs, as etcd's generator (pkg/idutil): two bytes of the member, then time.
fn first_id(member_id: u64) -> i64 {
    let since_epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = since_epoch.as_millis() as u64;
    ((member_id << 48) | ((millis << 8) & 0x0000_ffff_ffff_ffff)) as i64
}

/// Turns raft's view of leadership into the member's status.
async fn follow_status(node: Node, status: watch::Sender<Status>) {
    let mut leadership = node.inner.raft.watch_leadership();
    let mut before = 0;
    loop {
        let Leadership {
            leader,
            term,
            is_learner,
        } = *leadership.borrow_and_update();
        if !node.is_stopped() {
            log_leader(node.inner.member_id, before, leader, term);
        }
        before = leader;
        status.send_replace(Status {
            member_id: node.inner.member_id,
            cluster_id: node.inner.cluster_id,
            leader,
            term,
            is_learner,
            ..Status::default()
        });
        if node.is_stopped() || leadership.changed().await.is_err() {
            return;
        }
    }
}

/// Who leads now, in the words of etcd's raft (`node.go`).
fn log_leader(me: u64, before: u64, leader: u64, term: u64) {
    match (before, leader) {
        (before, leader) if before == leader => {}
        (0, leader) => {
            tracing::info!("raft.node: {me:x} elected leader {leader:x} at term {term}");
        }
        (before, 0) => tracing::info!("raft.node: {me:x} lost leader {before:x} at term {term}"),
        (before, leader) => tracing::info!(
            "raft.node: {me:x} changed leader from {before:x} to {leader:x} at term {term}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_lease_follows_the_election_timeout_as_in_etcd() {
        let ttl = |heartbeat, election| {
            min_lease_ttl(
                Duration::from_millis(heartbeat),
                Duration::from_millis(election),
            )
        };
        assert_eq!(ttl(100, 1000), 2);
        assert_eq!(ttl(10, 100), 1);
        // Five ticks, of which three halves are seven.
        assert_eq!(ttl(1000, 5000), 7);
    }

    #[test]
    fn ids_of_two_members_do_not_meet() {
        assert_ne!(first_id(1) >> 48, first_id(2) >> 48);
    }
}
