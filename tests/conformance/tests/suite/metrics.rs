//! `/metrics`: etcd's names, with their types and labels, moved by what moves etcd's.

mod documents;
pub(crate) mod load;
pub(crate) mod page;
mod transfers;
mod trouble;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use metastore_conformance::build::put;
use metastore_conformance::{Session, Setup, check_with};

use load::eventually;
use page::Page;

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

/// What members of a cluster show besides.
const OF_PEERS: [&str; 4] = [
    "etcd_network_active_peers gauge Local Remote",
    "etcd_network_peer_received_bytes_total counter From",
    "etcd_network_peer_round_trip_time_seconds histogram To le",
    "etcd_network_peer_sent_bytes_total counter To",
];

/// What is shown once it has happened, which depends on how the members came up; and alarms, of which etcd shows those
/// that were raised once.
const PERHAPS: [&str; 5] = [
    "etcd_debugging_server_alarms gauge alarm_type server_id",
    "etcd_network_disconnected_peers_total counter Local Remote",
    "etcd_network_peer_received_failures_total counter From",
    "etcd_network_peer_sent_failures_total counter To",
    "etcd_network_server_stream_failures_total counter API Type",
];

/// Names and what they are, one a line.
fn listed<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<&'a str, &'a str>> {
    let split = |line: &'a str| line.split_once(' ').context("a name and what it is");
    lines.into_iter().map(split).collect()
}

/// Names of one member, as a running etcd 3.7.3 shows them.
fn of_one() -> Result<BTreeMap<&'static str, &'static str>> {
    listed(include_str!("metrics.txt").lines())
}

/// Compares a page with what should be on it, and writes down the buckets of its histograms.
fn compare_families(
    t: &Session,
    page: &Page,
    wanted: &BTreeMap<&str, &str>,
    perhaps: &BTreeMap<&str, &str>,
) -> Result<()> {
    let mut found = page.families();
    found.retain(|name, _| OURS.iter().any(|start| name.starts_with(start)));
    found.retain(|name, _| !ABSENT.iter().any(|(start, _)| name.starts_with(start)));
    let mut wrong = Vec::new();
    for (name, wanted) in wanted {
        match found.remove(*name) {
            None => wrong.push(format!("missing: {name} {wanted}")),
            Some(family) if family.to_string() != *wanted => {
                wrong.push(format!("{name}: wanted {wanted}, got {family}"));
            }
            Some(family) if !family.bounds.is_empty() => {
                t.record(format!("buckets of {name}"), format!("{:?}", family.bounds));
            }
            Some(_) => {}
        }
    }
    for (name, family) in found {
        match perhaps.get(name.as_str()) {
            Some(wanted) if family.to_string() == *wanted => {}
            _ => wrong.push(format!("not one of etcd's: {name} {family}")),
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} metrics differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn every_name_of_etcd_is_there_with_its_type_and_labels() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let _watching = load::run(t).await?;
        let page = Page::get(t).await?;
        compare_families(t, &page, &of_one()?, &listed(PERHAPS)?)
    })
}

#[test]
fn the_extensive_metrics_time_each_method() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--metrics=extensive"]),
        async |t| {
            t.put(put("a", "1")).await?;
            let page = Page::get(t).await?;
            let families = page.families();
            let family = families.get("grpc_server_handling_seconds");
            let family = family.context("etcd times its methods")?;
            t.record("the family", family.to_string());
            t.record("its buckets", format!("{:?}", family.bounds));
            let puts = page.value("grpc_server_handling_seconds", "grpc_method=\"Put\"");
            t.record("puts", puts.to_string());
            Ok(())
        },
    )
}

/// Those whose amount is the same, whatever the storage and the time: how far the load moves them.
const EXACT: [&str; 18] = [
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_server_lease_expired_total",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_mvcc_hash_duration_seconds",
];

/// Those that this load may or may not move, and why. What moves them is to be had in [`trouble`], where it can be.
const UNSTEADY: [(&str, &str); 12] = [
    (
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd's file grows by pages and shrinks when it is defragmented",
    ),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "as above"),
    ("etcd_mvcc_db_open_read_transactions", "those of the moment"),
    (
        "etcd_debugging_mvcc_pending_events_total",
        "those of the moment",
    ),
    ("etcd_server_proposals_pending", "those of the moment"),
    (
        "etcd_server_heartbeat_send_failures_total",
        "a slow machine",
    ),
    ("etcd_server_slow_apply_total", "a slow machine"),
    ("os_fd_used", "etcd looks every ten minutes"),
    ("process_open_fds", "connections and files of the moment"),
    ("process_resident_memory_bytes", "the allocator's matter"),
    ("process_virtual_memory_bytes", "the allocator's matter"),
    (
        "process_cpu_seconds_total",
        "counted in hundredths, of which a small load may need none",
    ),
];

const FIXED: [(&str, f64); 6] = [
    ("etcd_server_has_leader", 1.0),
    ("etcd_server_is_leader", 1.0),
    ("etcd_server_is_learner", 0.0),
    ("etcd_server_leader_changes_seen_total", 1.0),
    ("etcd_server_quota_backend_bytes", 2_147_483_648.0),
    ("etcd_server_feature_enabled", 2.0),
];

/// Methods whose every request counts, with its code.
const METHODS: [(&str, &str); 8] = [
    ("KV", "Put"),
    ("KV", "Range"),
    ("KV", "DeleteRange"),
    ("KV", "Txn"),
    ("KV", "Compact"),
    ("Lease", "LeaseGrant"),
    ("Lease", "LeaseRevoke"),
    ("Maintenance", "HashKV"),
];

#[test]
fn what_moves_etcds_metrics_moves_these() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let names = of_one()?;
        eventually("the cluster should have a version", async || {
            Ok(Page::get(t).await?.value("etcd_cluster_version", "3.7") > 0.0)
        })
        .await?;
        let before = Page::get(t).await?;
        let _watching = load::run(t).await?;
        // What is committed reaches the backend a moment later.
        let commit = "etcd_disk_backend_commit_duration_seconds";
        eventually("the backend should commit", async || {
            Ok(Page::get(t).await?.value(commit, "") > before.value(commit, ""))
        })
        .await?;
        let after = Page::get(t).await?;
        let moved = |name: &str, with: &str| after.value(name, with) - before.value(name, with);
        for name in names.keys() {
            if UNSTEADY.iter().any(|(unsteady, _)| unsteady == name) {
                continue;
            }
            let by = moved(name, "");
            let told = match by {
                by if EXACT.contains(name) => format!("by {by}"),
                by if by > 0.0 => "up".to_owned(),
                by if by < 0.0 => "down".to_owned(),
                _ => "not".to_owned(),
            };
            t.record(format!("{name} moved"), told);
        }
        for (service, method) in METHODS {
            for code in ["OK", "OutOfRange"] {
                let with = format!(
                    "grpc_code=\"{code}\",grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\""
                );
                let by = moved("grpc_server_handled_total", &with);
                t.record(format!("{service}.{method} with {code}"), by.to_string());
            }
        }
        for operation in ["Put", "Txn", "LeaseGrant", "Compaction", "Alarm"] {
            let with = format!("op=\"{operation}\",success=\"true\"");
            let by = moved("etcd_server_apply_duration_seconds", &with);
            t.record(format!("{operation} applied"), by.to_string());
        }
        let off =
            |(name, wanted): &&(&str, f64)| (after.value(name, "") - wanted).abs() > f64::EPSILON;
        let wrong: Vec<_> = FIXED.iter().filter(off).collect();
        if !wrong.is_empty() {
            bail!("these are not what they should be: {wrong:?}");
        }
        Ok(())
    })
}

#[test]
fn an_alarm_shows_while_it_is_raised() -> Result<()> {
    use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
    check_with(&Setup::single(), async |t| {
        for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
            load::no_space(t, action).await?;
            let page = Page::get(t).await?;
            let with = format!("alarm_type=\"NOSPACE\",server_id=\"{:x}\"", t.member_id());
            let raised = page.value("etcd_debugging_server_alarms", &with);
            t.record(format!("after {action:?}"), raised.to_string());
        }
        Ok(())
    })
}

/// The ids of the members as metrics write them, this session's own first.
async fn ids(t: &Session) -> Vec<String> {
    let cluster = t.cluster().await;
    let mut ids: Vec<String> = cluster
        .members()
        .iter()
        .map(|member| format!("{:x}", member.id()))
        .collect();
    ids.rotate_left(t.index());
    ids
}

#[test]
fn members_count_what_passes_between_them() -> Result<()> {
    check_with(&Setup::three().leader(), async |t| {
        let _watching = load::run(t).await?;
        let ids = ids(t).await;
        eventually("every member should have been timed", async || {
            let page = Page::get(t).await?;
            let timed =
                |id: &&String| page.value("etcd_network_peer_round_trip_time_seconds", id) > 0.0;
            Ok(ids[1..].iter().filter(timed).count() == 2)
        })
        .await?;
        let before = Page::get(t).await?;
        let mut wanted = of_one()?;
        wanted.extend(listed(OF_PEERS)?);
        compare_families(t, &before, &wanted, &listed(PERHAPS)?)?;
        for number in 0..20 {
            let value = vec![b'x'; 10_000];
            t.unrecorded().put(put(format!("p{number}"), value)).await?;
        }
        let pair = |id: &str| format!("Local=\"{}\",Remote=\"{id}\"", ids[0]);
        eventually("the writes should reach every member", async || {
            let after = Page::get(t).await?;
            let moved = |name: &str, id: &str| after.value(name, id) - before.value(name, id);
            Ok(ids[1..].iter().all(|id| {
                moved("etcd_network_peer_sent_bytes_total", id) > 200_000.0
                    && moved("etcd_network_peer_received_bytes_total", id) > 0.0
            }))
        })
        .await?;
        for id in &ids {
            let known = before.value("etcd_network_known_peers", &pair(id));
            ensure!((known - 1.0).abs() < f64::EPSILON, "{id} is known: {known}");
        }
        let gone = (t.index() + 1) % 3;
        t.cluster().await.member(gone).stop().await?;
        eventually("the lost member should show, and only that", async || {
            let page = Page::get(t).await?;
            let active = ids[1..]
                .iter()
                .map(|id| page.value("etcd_network_active_peers", &pair(id)) as i64);
            let lost = page.value("etcd_network_disconnected_peers_total", &pair(&ids[1]));
            Ok(active.eq([0, 1]) && lost >= 1.0)
        })
        .await?;
        let failures = async || -> Result<f64> {
            let page = Page::get(t).await?;
            Ok(page.value("etcd_network_peer_sent_failures_total", &ids[1]))
        };
        let (before, since) = (failures().await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let rate = (failures().await? - before) / since.elapsed().as_secs_f64();
        ensure!(
            rate < 100.0,
            "a lost member is called {rate} times a second"
        );
        Ok(())
    })
}

#[test]
fn a_member_counts_the_leaders_it_has_seen() -> Result<()> {
    check_with(&Setup::three(), async |t| {
        let before = Page::get(t).await?;
        let seen = "etcd_server_leader_changes_seen_total";
        ensure!(before.value(seen, "") >= 1.0, "the first leader counts");
        let leader = t.cluster().await.leader().await?;
        t.cluster().await.member(leader).stop().await?;
        eventually("another leader should be seen", async || {
            let page = Page::get(t).await?;
            let leads = page.value("etcd_server_has_leader", "");
            Ok(page.value(seen, "") > before.value(seen, "") && leads > 0.0)
        })
        .await
    })
}
