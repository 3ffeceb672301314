//! The raft group's handle: start, propose, read, hand over, stop.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::Request;
use axum::routing::get;
use metastore_mvcc::Store;
use metastore_proto::commandpb::Command;
use metastore_proto::peerpb::peer_server::PeerServer;
use metastore_state_machine::{Outcome, StateMachine};
use openraft::async_runtime::WatchReceiver;
use openraft::{Config, SnapshotPolicy};
use tokio::runtime::Handle;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;

use crate::adapter::{Adapter, TakesLong};
use crate::answers::Answers;
use crate::bootstrap;
use crate::connection::{self, Visitor};
use crate::error::{ProposeError, ReadError, StartError};
use crate::flush::Flush;
use crate::group::{Group, GroupOptions, OpenRaft};
use crate::leases::{self, LeaseTimes, Renewal};
use crate::log_store::LogStore;
use crate::network::NetworkFactory;
use crate::peer_service::{Identity, PeerService};
use crate::peers::{Connect, Doorkeeper, Peers};
use crate::probe::Probe;
use crate::propose::{self, MESSAGE_BYTES_MAX, Proposer};
use crate::queue::Queue;
use crate::read_gate::ReadGate;
use crate::retention::Retention;
use crate::room::{Grows, Room};
use crate::shared::{Leadership, Shared};
use crate::snapshot::{Pins, Receiver};
use crate::state_directory::StateDirectory;
use crate::tally::Counters;
use crate::traffic::Incoming;
use crate::types::PeerNode;
use crate::wal;
use crate::without_room;

/// How often it is looked whether raft's core has ended.
const LOOK_FOR_FAILURE: Duration = Duration::from_millis(100);

/// What a member needs to take part in its group.
pub struct Options {
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The members a new cluster starts with, this one among them: id, name and peer URLs.
    pub initial_members: BTreeMap<u64, PeerNode>,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a follower stands for election.
    pub election: Duration,
    /// The log's directory.
    pub log_directory: PathBuf,
    /// Bytes of log kept for followers that are behind.
    pub log_retention_bytes: u64,
    /// Wait for the disk before anything is acknowledged (etcd: false with --unsafe-no-fsync).
    pub fsync: bool,
    /// Refuse leader-disrupting elections by asking first.
    pub pre_vote: bool,
    /// After a start, stand as soon as it is clear that nobody leads (etcd: --initial-election-tick-advance).
    pub early_election: bool,
    /// Opens streams to other members.
    pub connect: Connect,
    /// Silence after which a connection to another member is given up (etcd: --raft-read-timeout).
    pub peer_silence: Duration,
    /// An entry that takes longer to apply is logged (etcd: --warning-apply-duration).
    pub slow_apply: Duration,
    /// Facts about this member for its peers.
    pub identity: Arc<dyn Identity>,
    /// The clock of leases.
    pub leases: Arc<dyn LeaseTimes>,
    /// Which commands a full disk refuses.
    pub grows: Grows,
    /// Which commands raft's thread does not carry out itself.
    pub takes_long: TakesLong,
}

/// Where the log stands, counted from 1 as etcd does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Index of the last entry known to be committed.
    pub committed: u64,
    /// Index of the last entry applied here.
    pub applied: u64,
}

/// One member's part in the raft group. A clone is another handle.
#[derive(Clone)]
pub struct Raft {
    group: Arc<Group>,
    queue: Arc<Queue>,
    reads: ReadGate,
    runtime: Handle,
    service: Arc<PeerService>,
    answers: Arc<Answers>,
    peer_silence: Duration,
    log: LogStore,
}

impl Raft {
    /// Opens the log, replays it and takes part. Everything of raft runs on `runtime`.
    pub async fn start(
        options: Options,
        machine: StateMachine,
        store: Store,
        directory: StateDirectory,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let this = runtime.clone();
        runtime
            .spawn(async move { Self::start_here(options, machine, store, directory, this).await })
            .await
            .map_err(|error| StartError::Other(error.to_string()))?
    }

    async fn start_here(
        options: Options,
        machine: StateMachine,
        store: Store,
        directory: StateDirectory,
        runtime: Handle,
    ) -> Result<Self, StartError> {
        let directory = Arc::new(directory);
        let room = Room::new(options.grows);
        let log = LogStore::open(log_options(&options, &room))?;
        room.follow(&store);
        let flush = Arc::new(Flush::new(store.clone()).map_err(other)?);
        let purged = log.clone();
        let pins = Arc::new(Pins::new(move || purged.purged()));
        let applied = machine.applied().map_or(0, |at| at.index + 1);
        let shared = Arc::new(Shared::new(options.member_id, applied));
        let peers = Arc::new(peers(&options, &runtime));
        let adapter = Adapter {
            machine,
            store: store.clone(),
            shared: shared.clone(),
            directory: directory.clone(),
            slow_apply: options.slow_apply,
            takes_long: options.takes_long,
            flush: flush.clone(),
            pins: pins.clone(),
        };
        let config = Arc::new(config(&options).map_err(other)?);
        let network = NetworkFactory::new(peers.clone(), shared.clone(), options.heartbeat);
        let raft = OpenRaft::new(options.member_id, config, network, log.clone(), adapter)
            .await
            .map_err(|error| StartError::Other(format!("start raft: {error}")))?;
        let times = times(&options);
        let group = Arc::new(Group::new(raft, peers, shared.clone(), room.clone(), times));
        runtime.spawn(room.watch(directory.path().to_owned(), shared));
        let queue = Arc::new(Queue::default());
        // The high bits are random per run, so no sequence of an earlier run is met again.
        let first_sequence = rand::random::<u64>() >> 1;
        runtime.spawn(Proposer::new(queue.clone(), group.clone(), first_sequence).run());
        runtime.spawn(follow_leadership(group.clone()));
        let probe = Probe::new(group.clone(), options.cluster_id, options.identity.clone());
        runtime.spawn(probe.run());
        runtime.spawn(without_room::run(group.clone(), options.cluster_id));
        let receiver = Arc::new(Receiver::new(directory));
        let retention = Retention {
            group: group.clone(),
            log: log.clone(),
            store,
            flush,
            receiver: receiver.clone(),
            pins,
            log_bytes_max: options.log_retention_bytes,
        };
        runtime.spawn(retention.run());
        let service = Arc::new(PeerService {
            group: group.clone(),
            cluster_id: options.cluster_id,
            identity: options.identity.clone(),
            receiver,
        });
        let answers = Arc::new(Answers {
            group: group.clone(),
            leases: options.leases.clone(),
        });
        let this = Self {
            group,
            queue,
            reads: ReadGate::default(),
            runtime,
            service,
            answers,
            peer_silence: options.peer_silence,
            log,
        };
        bootstrap::run(&this.group, &this.runtime, &options).await?;
        Ok(this)
    }

    /// Puts a command into the log and waits until this member has applied it.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let proposing = self.group.shared.tally.propose();
        // Asked again of the whole entry later; here it spares what goes with it.
        let outcome = if self.group.room.refuses_command(&command) {
            Err(ProposeError::Full)
        } else {
            propose::propose(&self.queue, command).await
        };
        proposing.settle(&outcome);
        outcome
    }

    /// Resolves when this member has applied everything that was committed before the call.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        let group = self.group.clone();
        let round = move || {
            let group = group.clone();
            async move { group.read_round().await }
        };
        let gather = self.group.shared.voters() > 1;
        self.reads.pass(&self.runtime, gather, round).await
    }

    /// Who leads, as far as this member can tell.
    pub fn leadership(&self) -> Leadership {
        self.group.shared.leadership()
    }

    /// Follows who leads.
    pub fn watch_leadership(&self) -> tokio::sync::watch::Receiver<Leadership> {
        self.group.shared.watch_leadership()
    }

    /// Where the log stands.
    pub fn position(&self) -> Position {
        let metrics = self.group.raft.data_metrics();
        let committed = metrics
            .borrow_watched()
            .local_committed
            .map_or(0, |id| id.index + 1);
        let applied = self.group.shared.applied();
        Position {
            committed: committed.max(applied),
            applied,
        }
    }

    /// Commands that wait for the log or for being applied.
    pub fn pending(&self) -> usize {
        self.queue.len() + self.group.shared.waiters.len()
    }

    /// What has been counted since the start, for the metrics.
    pub fn counters(&self) -> Counters {
        let tally = &self.group.shared.tally;
        Counters {
            leader_changes: tally.leader_changes.load(Ordering::Relaxed),
            failed_proposals: tally.failed_proposals.load(Ordering::Relaxed),
            slow_read_indexes: tally.slow_read_indexes.load(Ordering::Relaxed),
            failed_read_indexes: tally.failed_read_indexes.load(Ordering::Relaxed),
            late_heartbeats: tally.late_heartbeats.load(Ordering::Relaxed),
            installing: tally.installing.load(Ordering::Relaxed),
            state_sending: tally.state_sending.read(),
            state_sync: tally.state_sync.read(),
            state_saving: tally.state_saving.read(),
            log: self.log.metrics(),
            log_times: self.log.times(),
            log_bytes_kept: self.log.bytes_kept(),
            peers: self.group.peers.counters(),
        }
    }

    /// Where the peer port is served: beside raft, so that no message changes threads on its way.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn doorkeeper(&self) -> Doorkeeper {
        Doorkeeper {
            cluster_id: self.service.cluster_id,
            member_id: self.group.shared.member_id,
        }
    }

    /// What the peer port serves: calls, and connections.
    pub fn peer_routes(&self) -> Routes {
        let server = PeerServer::from_arc(self.service.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let calls = Routes::new(Incoming {
            inner: InterceptedService::new(server, self.doorkeeper()),
            peers: self.group.peers.clone(),
        });
        let this = self.clone();
        let connections = get(move |request: Request| async move { this.connect(request) });
        calls
            .into_axum_router()
            .route(connection::PATH, connections)
            .into()
    }

    /// Answers a request for a connection; who may come in is served from then on.
    fn connect(&self, request: Request) -> http::Response<String> {
        let (response, visitor) = Visitor::admit(&self.doorkeeper(), request);
        if let Some(visitor) = visitor {
            let answers = self.answers.clone();
            // Who is more patient pings less often.
            let silence = self.peer_silence.max(visitor.silence);
            self.runtime.spawn(async move {
                let from = visitor.from;
                match visitor.enter().await {
                    Ok(stream) => connection::serve(stream, answers, from, silence).await,
                    Err(error) => tracing::debug!(error = %error, "a member did not come in"),
                }
            });
        }
        response
    }

    /// Renews a lease at the leader; none when there is no such lease.
    pub async fn renew_lease(&self, id: i64) -> Result<Option<Renewal>, ReadError> {
        leases::renew(&self.group, &*self.answers.leases, id).await
    }

    /// Whole seconds that the leader still gives a lease; none when there is no such lease.
    pub async fn lease_remaining(&self, id: i64) -> Result<Option<i64>, ReadError> {
        leases::remaining(&self.group, &*self.answers.leases, id).await
    }

    /// Hands leadership to another voter that is up to date, if this member leads and there is one.
    /// Resolves when another member leads or `limit` has passed.
    pub async fn hand_over(&self, limit: Duration) {
        if !self.group.leads() {
            return;
        }
        let Some(target) = self.group.most_advanced(|_| true) else {
            return;
        };
        if self
            .group
            .raft
            .trigger()
            .transfer_leader(target)
            .await
            .is_err()
        {
            return;
        }
        let mut leadership = self.watch_leadership();
        let me = self.group.shared.member_id;
        let moved = leadership.wait_for(|now| now.leader != 0 && now.leader != me);
        let _ = tokio::time::timeout(limit, moved).await;
    }

    /// Stops taking part. What was acknowledged is on disk already.
    pub async fn stop(&self) {
        self.group.shared.stopped.store(true, Ordering::Relaxed);
        if let Err(error) = self.group.raft.shutdown().await {
            tracing::warn!(error = %error, "raft did not stop cleanly");
        }
    }

    /// Resolves when the process must end: raft's core has panicked or the log has lost its disk, or the engine has.
    pub async fn failed(&self) -> String {
        tokio::select! {
            why = self.core_failed() => why,
            why = self.group.room.failed() => format!("the storage engine has failed: {why}"),
        }
    }

    async fn core_failed(&self) -> String {
        let metrics = self.group.raft.metrics();
        // They change with every entry: who waited for that would be woken as often.
        let mut look = tokio::time::interval(LOOK_FOR_FAILURE);
        loop {
            look.tick().await;
            if let Err(fatal) = &metrics.borrow_watched().running_state
                && !self.group.shared.is_stopped()
            {
                return fatal.to_string();
            }
        }
    }
}

fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}

fn peers(options: &Options, runtime: &Handle) -> Peers {
    let (cluster, member) = (options.cluster_id, options.member_id);
    let (connect, silence) = (options.connect.clone(), options.peer_silence);
    Peers::new(cluster, member, connect, silence, runtime.clone())
}

fn log_options(options: &Options, room: &Arc<Room>) -> wal::Options {
    wal::Options {
        fsync: options.fsync,
        on_space: Some(room.on_space()),
        ..wal::Options::new(options.log_directory.clone())
    }
}

fn times(options: &Options) -> GroupOptions {
    GroupOptions {
        request_timeout: Duration::from_secs(5) + options.election * 2,
        election_timeout: options.election * 2,
    }
}

fn config(options: &Options) -> Result<Config, openraft::ConfigError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: format!("{:x}", options.cluster_id),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election),
        election_timeout_max: millis(options.election * 2),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 4096,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(options.pre_vote),
        enable_leader_restore: Some(false),
        ..Config::default()
    }
    .validate()
}

/// Publishes changes of leadership, and its loss, which openraft does not tell of by itself.
async fn follow_leadership(group: Arc<Group>) {
    let mut metrics = group.raft.server_metrics();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !group.shared.is_stopped() {
        group.refresh_leadership();
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { break },
            _ = tick.tick() => {}
        }
    }
    group.shared.set_leadership(Leadership::default());
}
