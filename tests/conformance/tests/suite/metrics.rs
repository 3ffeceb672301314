//! `/metrics`: etcd's names, with their types and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use metastore_conformance::build::{all, delete, put, txn, watch};
use metastore_conformance::{Setup, check_with};
use metastore_proto::etcdserverpb::HashKvRequest;

/// Names that a member of MetaStore may lack, and why.
const ABSENT: [(&str, &str); 8] = [
    ("go_", "facts of Go's runtime"),
    ("promhttp_", "facts of Go's HTTP handler for metrics"),
    ("etcd_server_go_version", "there is no Go"),
    (
        "etcd_debugging_disk_backend_commit_",
        "phases of a bbolt commit",
    ),
    (
        "etcd_debugging_store_",
        "the v2 store, which etcd itself no longer has",
    ),
    (
        "etcd_debugging_snap_save_marshalling_",
        "the snapshot file of etcd's raft",
    ),
    (
        "etcd_debugging_snap_save_total_",
        "the snapshot file of etcd's raft",
    ),
    (
        "etcd_grpc_proxy_",
        "facts of the gRPC proxy, which runs elsewhere",
    ),
];

/// What the names of the protocol begin with; others are a program's own.
const OURS: [&str; 4] = ["etcd_", "grpc_", "process_", "os_"];

#[derive(Debug, Default)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.labels
            .iter()
            .try_for_each(|label| write!(f, " {label}"))
    }
}

fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            if let Some((name, kind)) = rest.split_once(' ') {
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            }
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|base| families.contains_key(*base))
                .unwrap_or(name);
            let labels = line
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'))
                .map_or("", |(labels, _)| labels);
            let family = families.entry(base.to_owned()).or_default();
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                family
                    .labels
                    .insert(label.split('=').next().unwrap_or_default().to_owned());
            }
        }
    }
    families
}

#[test]
fn every_name_of_etcd_is_there_with_its_type_and_labels() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.put(put("a", "1")).await?;
        t.range(all()).await?;
        t.txn(txn([], [], [])).await?;
        t.delete(delete("a")).await?;
        t.lease_grant(60, 1).await?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        t.hash().await?;
        t.status().await?;
        t.watch().created(watch("a")).await?;
        t.unrecorded().http_get("/health").await?;
        let page = t.unrecorded().http_get("/metrics").await?.body;
        let mut found: BTreeMap<String, String> = families(&page)
            .into_iter()
            .filter(|(name, _)| OURS.iter().any(|start| name.starts_with(start)))
            .filter(|(name, _)| !ABSENT.iter().any(|(start, _)| name.starts_with(start)))
            .map(|(name, family)| (name, family.to_string()))
            .collect();
        let mut wrong = Vec::new();
        for line in include_str!("metrics.txt").lines() {
            let (name, wanted) = line.split_once(' ').context("a name and what it is")?;
            match found.remove(name) {
                None => wrong.push(format!("missing: {line}")),
                Some(is) if is != wanted => {
                    wrong.push(format!("{name}: wanted {wanted}, got {is}"))
                }
                Some(_) => {}
            }
        }
        wrong.extend(
            found
                .iter()
                .map(|(name, is)| format!("not one of etcd's: {name} {is}")),
        );
        ensure!(
            wrong.is_empty(),
            "{} metrics differ:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        Ok(())
    })
}

/// The value of a metric, summed over its labels' values that contain `with`.
fn value(page: &str, name: &str, with: &str) -> f64 {
    page.lines()
        .filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(with))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// How far these move differs from storage to storage, but move they must.
const MOVING: [&str; 8] = [
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_server_apply_duration_seconds_count",
    "etcd_server_request_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
];

const FIXED: [(&str, f64); 3] = [
    ("etcd_server_has_leader", 1.0),
    ("etcd_server_is_leader", 1.0),
    ("etcd_server_is_learner", 0.0),
];

#[test]
fn what_moves_etcds_metrics_moves_these() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let quiet = t.unrecorded();
        let before = quiet.http_get("/metrics").await?.body;
        for number in 0..10 {
            t.put(put(format!("k{number}"), vec![b'x'; 2000])).await?;
        }
        t.range(all()).await?;
        t.range(all()).await?;
        t.delete(delete("k1")).await?;
        t.txn(txn([], [], [])).await?;
        t.lease_grant(60, 1).await?;
        let mut watching = t.watch();
        watching.created(watch("k1")).await?;
        t.put(put("k1", "again")).await?;
        watching.events(1).await?;
        let after = quiet.http_get("/metrics").await?.body;
        let moved = |name: &str, with: &str| value(&after, name, with) - value(&before, name, with);
        for (name, with) in [
            ("etcd_mvcc_put_total", ""),
            ("etcd_mvcc_delete_total", ""),
            ("etcd_mvcc_range_total", ""),
            ("etcd_mvcc_txn_total", ""),
            ("etcd_debugging_mvcc_current_revision", ""),
            ("etcd_debugging_mvcc_keys_total", ""),
            ("etcd_debugging_mvcc_events_total", ""),
            ("etcd_debugging_mvcc_watcher_total", ""),
            ("etcd_debugging_mvcc_watch_stream_total", ""),
            ("etcd_debugging_lease_granted_total", ""),
            (
                "grpc_server_handled_total",
                "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\"",
            ),
            (
                "grpc_server_handled_total",
                "grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\"",
            ),
            ("grpc_server_started_total", "grpc_method=\"Watch\""),
        ] {
            t.record(
                format!("{name} {with} moved by"),
                moved(name, with).to_string(),
            );
        }
        let mut still: Vec<&str> = MOVING
            .into_iter()
            .filter(|name| moved(name, "") <= 0.0)
            .collect();
        let off =
            |(name, wanted): &(&str, f64)| (value(&after, name, "") - wanted).abs() > f64::EPSILON;
        still.extend(
            FIXED
                .iter()
                .filter(|metric| off(metric))
                .map(|(name, _)| name),
        );
        if still.is_empty() {
            Ok(())
        } else {
            bail!("these do not move or are wrong: {still:?}")
        }
    })
}
