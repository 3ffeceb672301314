//! The families that a member shows of itself, by etcd's names and in etcd's words; then MetaStore's own.
//!
//! What each means here stands in `docs/en/metrics.md`, which a test compares with this table.

use super::family::{Described, counter, gauge, histogram};

/// Labels of a pair of members.
const PAIR: &[&str] = &["Local", "Remote"];
const TO: &[&str] = &["To"];
const FROM: &[&str] = &["From"];

#[rustfmt::skip]
pub(super) const MEMBER: &[Described] = &[
    gauge("etcd_cluster_version", &["cluster_version"], "Which version is running. 1 for 'cluster_version' label with current cluster version"),
    gauge("etcd_debugging_auth_revision", &[], "The current revision of auth store."),
    counter("etcd_debugging_lease_granted_total", &[], "The total number of granted leases."),
    counter("etcd_debugging_lease_renewed_total", &[], "The number of renewed leases seen by the leader."),
    counter("etcd_debugging_lease_revoked_total", &[], "The total number of revoked leases."),
    histogram("etcd_debugging_lease_ttl_total", &[], "Bucketed histogram of lease TTLs."),
    gauge("etcd_debugging_mvcc_compact_revision", &[], "The revision of the last compaction in store."),
    gauge("etcd_debugging_mvcc_current_revision", &[], "The current revision of store."),
    counter("etcd_debugging_mvcc_db_compaction_keys_total", &[], "Total number of db keys compacted."),
    gauge("etcd_debugging_mvcc_db_compaction_last", &[], "The unix time of the last db compaction. Resets to 0 on start."),
    histogram("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", &[], "Bucketed histogram of db compaction pause duration."),
    histogram("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", &[], "Bucketed histogram of db compaction total duration."),
    counter("etcd_debugging_mvcc_events_total", &[], "Total number of events sent by this member."),
    histogram("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", &[], "Bucketed histogram of index compaction pause duration."),
    gauge("etcd_debugging_mvcc_keys_total", &[], "Total number of keys."),
    gauge("etcd_debugging_mvcc_pending_events_total", &[], "Total number of pending events to be sent."),
    gauge("etcd_debugging_mvcc_slow_watcher_total", &[], "Total number of unsynced slow watchers."),
    gauge("etcd_debugging_mvcc_total_put_size_in_bytes", &[], "The total size of put kv pairs seen by this member."),
    gauge("etcd_debugging_mvcc_watch_stream_total", &[], "Total number of watch streams."),
    gauge("etcd_debugging_mvcc_watcher_total", &[], "Total number of watchers."),
    gauge("etcd_debugging_server_alarms", &["alarm_type", "server_id"], "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm"),
    counter("etcd_debugging_server_lease_expired_total", &[], "The total number of expired leases."),
    histogram("etcd_disk_backend_commit_duration_seconds", &[], "The latency distributions of commit called by backend."),
    histogram("etcd_disk_backend_defrag_duration_seconds", &[], "The latency distribution of backend defragmentation."),
    histogram("etcd_disk_backend_snapshot_duration_seconds", &[], "The latency distribution of backend snapshots."),
    gauge("etcd_disk_defrag_inflight", &[], "Whether or not defrag is active on the member. 1 means active, 0 means not."),
    histogram("etcd_disk_wal_fsync_duration_seconds", &[], "The latency distributions of fsync called by WAL."),
    gauge("etcd_disk_wal_write_bytes_total", &[], "Total number of bytes written in WAL."),
    histogram("etcd_disk_wal_write_duration_seconds", &[], "The latency distributions of write called by WAL."),
    gauge("etcd_mvcc_db_open_read_transactions", &[], "The number of currently open read transactions"),
    gauge("etcd_mvcc_db_total_size_in_bytes", &[], "Total size of the underlying database physically allocated in bytes."),
    gauge("etcd_mvcc_db_total_size_in_use_in_bytes", &[], "Total size of the underlying database logically in use in bytes."),
    counter("etcd_mvcc_delete_total", &[], "Total number of deletes seen by this member."),
    histogram("etcd_mvcc_hash_duration_seconds", &[], "The latency distribution of storage hash operation."),
    histogram("etcd_mvcc_hash_rev_duration_seconds", &[], "The latency distribution of storage hash by revision operation."),
    counter("etcd_mvcc_put_total", &[], "Total number of puts seen by this member."),
    counter("etcd_mvcc_range_total", &[], "Total number of ranges seen by this member."),
    counter("etcd_mvcc_txn_total", &[], "Total number of txns seen by this member."),
    gauge("etcd_network_active_peers", PAIR, "The current number of active peer connections."),
    counter("etcd_network_disconnected_peers_total", PAIR, "The total number of disconnected peers."),
    gauge("etcd_network_known_peers", PAIR, "The current number of known peers."),
    counter("etcd_network_peer_received_bytes_total", FROM, "The total number of bytes received from peers."),
    counter("etcd_network_peer_received_failures_total", FROM, "The total number of receive failures from peers."),
    histogram("etcd_network_peer_round_trip_time_seconds", TO, "Round-Trip-Time histogram between peers"),
    counter("etcd_network_peer_sent_bytes_total", TO, "The total number of bytes sent to peers."),
    counter("etcd_network_peer_sent_failures_total", TO, "The total number of send failures from peers."),
    counter("etcd_network_snapshot_receive_failures", FROM, "Total number of snapshot receive failures"),
    gauge("etcd_network_snapshot_receive_inflights_total", FROM, "Total number of inflight snapshot receives"),
    counter("etcd_network_snapshot_receive_success", FROM, "Total number of successful snapshot receives"),
    histogram("etcd_network_snapshot_receive_total_duration_seconds", FROM, "Total latency distributions of v3 snapshot receives"),
    counter("etcd_network_snapshot_send_failures", TO, "Total number of snapshot send failures"),
    gauge("etcd_network_snapshot_send_inflights_total", TO, "Total number of inflight snapshot sends"),
    counter("etcd_network_snapshot_send_success", TO, "Total number of successful snapshot sends"),
    histogram("etcd_network_snapshot_send_total_duration_seconds", TO, "Total latency distributions of v3 snapshot sends"),
    histogram("etcd_server_apply_duration_seconds", &["op", "success", "version"], "The latency distributions of v2 apply called by backend."),
    gauge("etcd_server_feature_enabled", &["name", "stage"], "Whether or not a feature is enabled. 1 is enabled, 0 is not."),
    gauge("etcd_server_has_leader", &[], "Whether or not a leader exists. 1 is existence, 0 is not."),
    counter("etcd_server_heartbeat_send_failures_total", &[], "The total number of leader heartbeat send failures (likely overloaded from slow disk)."),
    gauge("etcd_server_id", &["server_id"], "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID."),
    gauge("etcd_server_is_leader", &[], "Whether or not this member is a leader. 1 if is, 0 otherwise."),
    gauge("etcd_server_is_learner", &[], "Whether or not this member is a learner. 1 if is, 0 otherwise."),
    counter("etcd_server_leader_changes_seen_total", &[], "The number of leader changes seen."),
    counter("etcd_server_learner_promote_successes", &[], "The total number of successful learner promotions while this member is leader."),
    gauge("etcd_server_proposals_applied_total", &[], "The total number of consensus proposals applied."),
    gauge("etcd_server_proposals_committed_total", &[], "The total number of consensus proposals committed."),
    counter("etcd_server_proposals_failed_total", &[], "The total number of failed proposals seen."),
    gauge("etcd_server_proposals_pending", &[], "The current number of pending proposals to commit."),
    gauge("etcd_server_quota_backend_bytes", &[], "Current backend storage quota size in bytes."),
    counter("etcd_server_read_indexes_failed_total", &[], "The total number of failed read indexes seen."),
    counter("etcd_server_slow_apply_total", &[], "The total number of slow apply requests (likely overloaded from slow disk)."),
    counter("etcd_server_slow_read_indexes_total", &[], "The total number of pending read indexes not in sync with leader's or timed out read index requests."),
    gauge("etcd_server_snapshot_apply_in_progress_total", &[], "1 if the server is applying the incoming snapshot. 0 if none."),
    gauge("etcd_server_version", &["server_version"], "Which version is running. 1 for 'server_version' label with current version."),
    histogram("etcd_snap_db_fsync_duration_seconds", &[], "The latency distributions of fsyncing .snap.db file"),
    histogram("etcd_snap_db_save_total_duration_seconds", &[], "The total latency distributions of v3 snapshot save"),
    histogram("etcd_snap_fsync_duration_seconds", &[], "The latency distributions of fsync called by snap."),
    gauge("metastore_engine_disk_bytes", &[], "Bytes of the storage engine's files."),
    gauge("metastore_engine_memory_bytes", &[], "Bytes of memory that the storage engine holds."),
    counter("metastore_engine_write_stall_seconds_total", &[], "Seconds for which the storage engine slowed or stopped writes because it fell behind."),
    counter("metastore_engine_write_stalls_total", &[], "How often the storage engine slowed or stopped writes because it fell behind."),
    gauge("metastore_raft_log_bytes", &[], "Bytes of the raft log that are kept."),
    counter("metastore_store_back_pressure_waits_total", &[], "How often applying waited for the storage engine."),
    gauge("metastore_store_cached_bytes", &[], "Bytes of current values kept in memory."),
    counter("metastore_store_engine_reads_total", &[], "Values that were read from the storage engine."),
    gauge("metastore_store_pending_bytes", &[], "Bytes of applied transactions that the storage engine has not got yet."),
    counter("metastore_store_write_errors_total", &[], "Failed attempts to write to the storage engine."),
];

#[cfg(test)]
mod tests {
    use super::super::process::PROCESS;
    use super::*;

    #[test]
    fn the_document_has_every_family_as_it_is() {
        let document = include_str!("../../../../docs/en/metrics.md");
        for described in MEMBER.iter().chain(PROCESS) {
            let start = format!("| `{}`", described.name);
            let row = document.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("{} is not in the document", described.name));
            let labels: Vec<_> = described
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            let kind = format!("{:?}", described.kind).to_lowercase();
            let is = format!("| {kind} | {} |", labels.join(", "));
            assert!(row.contains(&is), "{row} should say {is}");
        }
    }

    #[test]
    fn labels_stand_in_the_order_of_their_names() {
        for described in MEMBER {
            assert!(described.labels.is_sorted(), "{}", described.name);
        }
    }
}
