//! What the member behind the door has counted, put together when somebody scrapes.

use metastore_node::{Node, PeerCounters, RaftCounters, TransferCounters};
use metastore_proto::etcdserverpb::AlarmType;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::family::Families;
use super::table::MEMBER;

/// A feature gate and whether it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// How mature etcd calls it: `ALPHA`, `BETA` or nothing.
    pub stage: String,
    /// Whether it is on.
    pub enabled: bool,
}

/// Auth has this revision as long as nobody has changed anything about it (etcd: `server/auth/store.go`).
const UNTOUCHED_AUTH_REVISION: f64 = 1.0;

struct MemberCollector {
    node: Node,
    features: Vec<Feature>,
    descriptions: Vec<Desc>,
}

/// Puts the member's families into the registry.
pub(crate) fn register_member(
    node: Node,
    features: Vec<Feature>,
    registry: &Registry,
) -> Result<(), prometheus::Error> {
    let descriptions = MEMBER.iter().map(|described| described.desc());
    let collector = MemberCollector {
        node,
        features,
        descriptions: descriptions.collect::<Result<_, _>>()?,
    };
    registry.register(Box::new(collector))
}

impl Collector for MemberCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let (node, raft) = (&self.node, self.node.raft_counters());
        let mut families = Families::of(MEMBER);
        identity(&mut families, node, &self.features);
        server(&mut families, node, &raft);
        applying(&mut families, node);
        leases(&mut families, node);
        store(&mut families, node);
        compaction(&mut families, node);
        watches(&mut families, node);
        disk(&mut families, node, &raft);
        members(&mut families, node);
        let local = hex(node.status().member_id);
        for peer in &raft.peers {
            traffic(&mut families, &local, peer);
        }
        own(&mut families, node, &raft);
        families.finish()
    }
}

/// An id as etcd writes it.
fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn identity(families: &mut Families, node: &Node, features: &[Feature]) {
    let (versions, members) = (node.versions(), node.view().members());
    families.number("etcd_server_version", &[&versions.server], 1.0);
    let id = hex(node.status().member_id);
    families.number("etcd_server_id", &[&id], 1.0);
    if let Some(version) = members.cluster_version() {
        // etcd shows major and minor alone.
        let version = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
        families.number("etcd_cluster_version", &[version], 1.0);
    }
    for feature in features {
        let labels = [feature.name.as_str(), feature.stage.as_str()];
        families.number(
            "etcd_server_feature_enabled",
            &labels,
            flag(feature.enabled),
        );
    }
    families.number("etcd_debugging_auth_revision", &[], UNTOUCHED_AUTH_REVISION);
}

fn server(families: &mut Families, node: &Node, raft: &RaftCounters) {
    let status = node.status();
    let quota = match node.limits().quota_backend_bytes {
        0 => -1.0,
        bytes => bytes as f64,
    };
    for (name, value) in [
        ("etcd_server_has_leader", flag(status.has_leader())),
        ("etcd_server_is_leader", flag(status.is_leader())),
        ("etcd_server_is_learner", flag(status.is_learner)),
        (
            "etcd_server_leader_changes_seen_total",
            raft.leader_changes as f64,
        ),
        // Nothing promotes a learner yet.
        ("etcd_server_learner_promote_successes", 0.0),
        (
            "etcd_server_heartbeat_send_failures_total",
            raft.late_heartbeats as f64,
        ),
        (
            "etcd_server_snapshot_apply_in_progress_total",
            flag(raft.installing),
        ),
        (
            "etcd_server_proposals_committed_total",
            status.committed_index as f64,
        ),
        (
            "etcd_server_proposals_applied_total",
            status.applied_index as f64,
        ),
        (
            "etcd_server_proposals_pending",
            node.pending_proposals() as f64,
        ),
        (
            "etcd_server_proposals_failed_total",
            raft.failed_proposals as f64,
        ),
        ("etcd_server_quota_backend_bytes", quota),
        (
            "etcd_server_slow_read_indexes_total",
            raft.slow_read_indexes as f64,
        ),
        (
            "etcd_server_read_indexes_failed_total",
            raft.failed_read_indexes as f64,
        ),
        (
            "etcd_server_slow_apply_total",
            node.measures().slow_applies() as f64,
        ),
    ] {
        families.number(name, &[], value);
    }
    for alarm in node.view().alarms(AlarmType::None) {
        let labels = [alarm.alarm().as_str_name(), &hex(alarm.member_id)];
        families.number("etcd_debugging_server_alarms", &labels, 1.0);
    }
}

fn applying(families: &mut Families, node: &Node) {
    for applying in node.measures().applying() {
        let success = if applying.success { "true" } else { "false" };
        let labels = [applying.operation, success, "v3"];
        families.sizes(
            "etcd_server_apply_duration_seconds",
            &labels,
            &applying.time,
        );
    }
}

fn leases(families: &mut Families, node: &Node) {
    let measures = node.measures();
    for (name, value) in [
        (
            "etcd_debugging_lease_granted_total",
            measures.leases_granted(),
        ),
        (
            "etcd_debugging_lease_renewed_total",
            measures.leases_renewed(),
        ),
        (
            "etcd_debugging_lease_revoked_total",
            measures.leases_revoked(),
        ),
        (
            "etcd_debugging_server_lease_expired_total",
            measures.leases_expired(),
        ),
    ] {
        families.number(name, &[], value as f64);
    }
    families.sizes("etcd_debugging_lease_ttl_total", &[], &measures.lease_ttl());
}

fn store(families: &mut Families, node: &Node) {
    let store = node.store();
    let (counters, times) = (store.counters(), store.times());
    for (name, value) in [
        ("etcd_mvcc_put_total", counters.puts as f64),
        ("etcd_mvcc_delete_total", counters.deletions as f64),
        ("etcd_mvcc_range_total", counters.ranges as f64),
        ("etcd_mvcc_txn_total", counters.transactions as f64),
        (
            "etcd_mvcc_db_open_read_transactions",
            counters.open_reads as f64,
        ),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            store.logical_bytes() as f64,
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            store.in_use_bytes() as f64,
        ),
        (
            "etcd_debugging_mvcc_total_put_size_in_bytes",
            counters.put_bytes as f64,
        ),
        ("etcd_debugging_mvcc_keys_total", store.key_count() as f64),
        (
            "etcd_debugging_mvcc_current_revision",
            store.revision() as f64,
        ),
        (
            "etcd_debugging_mvcc_compact_revision",
            store.compact_revision() as f64,
        ),
    ] {
        families.number(name, &[], value);
    }
    families.sizes("etcd_mvcc_hash_duration_seconds", &[], &times.hash.read());
    families.sizes(
        "etcd_mvcc_hash_rev_duration_seconds",
        &[],
        &times.hash_kv.read(),
    );
    families.sizes(
        "etcd_disk_backend_commit_duration_seconds",
        &[],
        &times.commit.read(),
    );
    families.sizes("etcd_snap_fsync_duration_seconds", &[], &times.flush.read());
}

fn compaction(families: &mut Families, node: &Node) {
    let (counters, times) = (node.store().counters(), node.store().times());
    let removed = counters.compacted_revisions as f64;
    families.number("etcd_debugging_mvcc_db_compaction_keys_total", &[], removed);
    let last = counters.last_compaction as f64;
    families.number("etcd_debugging_mvcc_db_compaction_last", &[], last);
    for (name, histogram) in [
        (
            "index_compaction_pause_duration_milliseconds",
            &times.index_pause,
        ),
        (
            "db_compaction_pause_duration_milliseconds",
            &times.compaction_step,
        ),
        (
            "db_compaction_total_duration_milliseconds",
            &times.compaction,
        ),
    ] {
        let name = format!("etcd_debugging_mvcc_{name}");
        families.sizes(&name, &[], &histogram.read());
    }
}

fn watches(families: &mut Families, node: &Node) {
    let counts = node.hub().counts();
    for (name, value) in [
        ("watch_stream_total", counts.streams as f64),
        ("watcher_total", counts.watchers as f64),
        ("slow_watcher_total", counts.slow_watchers as f64),
        ("events_total", counts.events as f64),
        ("pending_events_total", counts.pending_events as f64),
    ] {
        families.number(&format!("etcd_debugging_mvcc_{name}"), &[], value);
    }
}

fn disk(families: &mut Families, node: &Node, raft: &RaftCounters) {
    let measures = node.measures();
    families.number(
        "etcd_disk_wal_write_bytes_total",
        &[],
        raft.log.bytes as f64,
    );
    let defragmenting = flag(measures.is_defragmenting());
    families.number("etcd_disk_defrag_inflight", &[], defragmenting);
    for (name, reading) in [
        ("etcd_disk_wal_fsync_duration_seconds", &raft.log_times.sync),
        (
            "etcd_disk_wal_write_duration_seconds",
            &raft.log_times.write,
        ),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            &measures.defragmentation(),
        ),
        (
            "etcd_disk_backend_snapshot_duration_seconds",
            &raft.state_sending,
        ),
        ("etcd_snap_db_fsync_duration_seconds", &raft.state_sync),
        (
            "etcd_snap_db_save_total_duration_seconds",
            &raft.state_saving,
        ),
    ] {
        families.sizes(name, &[], reading);
    }
}

fn members(families: &mut Families, node: &Node) {
    let local = hex(node.status().member_id);
    let members = node.view().members();
    let known = members.iter().map(|member| (member.id, 1.0));
    let removed = members.removed().map(|id| (id, 0.0));
    for (id, value) in known.chain(removed) {
        families.number("etcd_network_known_peers", &[&local, &hex(id)], value);
    }
}

/// As in etcd, a failure or a state on its way is shown from the first one on.
fn traffic(families: &mut Families, local: &str, peer: &PeerCounters) {
    let remote = hex(peer.id);
    let pair = [local, remote.as_str()];
    let id = [remote.as_str()];
    if peer.active || peer.disconnections > 0 {
        families.number("etcd_network_active_peers", &pair, flag(peer.active));
    }
    for (name, value) in [
        ("etcd_network_peer_sent_bytes_total", peer.sent_bytes),
        (
            "etcd_network_peer_received_bytes_total",
            peer.received_bytes,
        ),
        ("etcd_network_peer_sent_failures_total", peer.send_failures),
        (
            "etcd_network_peer_received_failures_total",
            peer.receive_failures,
        ),
    ] {
        if value > 0 {
            families.number(name, &id, value as f64);
        }
    }
    if peer.disconnections > 0 {
        let number = peer.disconnections as f64;
        families.number("etcd_network_disconnected_peers_total", &pair, number);
    }
    if peer.round_trip.count > 0 {
        families.sizes(
            "etcd_network_peer_round_trip_time_seconds",
            &id,
            &peer.round_trip,
        );
    }
    transfers(families, "send", &remote, &peer.states_sent);
    transfers(families, "receive", &remote, &peer.states_received);
}

fn transfers(families: &mut Families, way: &str, remote: &str, counters: &TransferCounters) {
    let name = |what: &str| format!("etcd_network_snapshot_{way}_{what}");
    let TransferCounters {
        successes,
        failures,
        under_way,
        time,
    } = counters;
    if *successes + *failures > 0 || *under_way > 0 {
        families.number(&name("inflights_total"), &[remote], *under_way as f64);
    }
    if *successes > 0 {
        families.number(&name("success"), &[remote], *successes as f64);
        families.sizes(&name("total_duration_seconds"), &[remote], time);
    }
    if *failures > 0 {
        families.number(&name("failures"), &[remote], *failures as f64);
    }
}

/// What etcd does not have.
fn own(families: &mut Families, node: &Node, raft: &RaftCounters) {
    let engine = node.store().engine();
    let counters = node.store().counters();
    for (name, value) in [
        ("metastore_engine_disk_bytes", engine.disk_bytes() as f64),
        (
            "metastore_engine_memory_bytes",
            engine.memory_bytes() as f64,
        ),
        (
            "metastore_engine_write_stalls_total",
            engine.stalls() as f64,
        ),
        (
            "metastore_engine_write_stall_seconds_total",
            engine.stall_time().as_secs_f64(),
        ),
        ("metastore_raft_log_bytes", raft.log_bytes_kept as f64),
        (
            "metastore_store_back_pressure_waits_total",
            counters.back_pressure_waits as f64,
        ),
        ("metastore_store_cached_bytes", counters.cached_bytes as f64),
        (
            "metastore_store_engine_reads_total",
            counters.engine_reads as f64,
        ),
        (
            "metastore_store_pending_bytes",
            counters.pending_bytes as f64,
        ),
        (
            "metastore_store_write_errors_total",
            counters.write_errors as f64,
        ),
    ] {
        families.number(name, &[], value);
    }
}
