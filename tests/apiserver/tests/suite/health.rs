//! What watches over the store: the apiserver's checks, kubeadm's probes, metrics.

use std::time::Duration;

use anyhow::{Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, items};
use metastore_apiserver_tests::{Metrics, Setup, check, create_many, eventually};
use metastore_harness::{Port, get};
use metastore_proto::etcdserverpb::StatusRequest;

/// What dashboards, alerts and the operators of Kubernetes read by name.
const NAMES: [&str; 27] = [
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_heartbeat_send_failures_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_id",
    "etcd_server_version",
    "etcd_server_health_success",
    "etcd_server_health_failures",
    "etcd_server_request_duration_seconds_count",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_count",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_count",
    "process_resident_memory_bytes",
];

/// Those that there are between members alone.
const PEER_NAMES: [&str; 4] = [
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_round_trip_time_seconds_count",
    "etcd_network_active_peers",
];

#[test]
fn kubeadms_probes_and_metric_names() -> Result<()> {
    let port = Port::take()?;
    let url = format!("http://127.0.0.1:{}", port.number());
    let listen = format!("--listen-metrics-urls={url}");
    let setup = Setup::single().member_flags(&[&listen, "--metrics=extensive"]);
    check(&setup, async |world| {
        for probe in ["/livez", "/readyz", "/health"] {
            let answer = get(&url, probe).await?;
            ensure!(answer.status == 200, "{probe}: {answer:?}");
        }
        let before = Metrics::new(get(&url, "/metrics").await?.body);
        for name in NAMES {
            ensure!(before.has(name), "no {name}");
        }
        let objects = (0..500).map(|number| config_map(&format!("c{number:04}"), "x"));
        create_many(&world.api, CONFIG_MAPS, objects).await?;
        let after = Metrics::new(get(&url, "/metrics").await?.body);
        let grown = |name: &str, labels: &[(&str, &str)]| {
            after.sum(name, labels) - before.sum(name, labels)
        };
        let txns = [("grpc_method", "Txn"), ("grpc_code", "OK")];
        let count = grown("grpc_server_handled_total", &txns);
        ensure!(count >= 500.0, "{count} transactions");
        ensure!(
            after.sum("etcd_server_has_leader", &[]) == 1.0,
            "has a leader"
        );
        ensure!(
            after.sum("etcd_server_slow_apply_total", &[]) >= 0.0,
            "slow applies"
        );
        for name in [
            // Of MetaStore an entry of the log carries many requests.
            "etcd_server_proposals_committed_total",
            "etcd_server_proposals_applied_total",
            "etcd_disk_wal_fsync_duration_seconds_count",
            "etcd_network_client_grpc_received_bytes_total",
            "etcd_network_client_grpc_sent_bytes_total",
            "etcd_server_request_duration_seconds_count",
        ] {
            ensure!(grown(name, &[]) > 0.0, "{name} stands still");
        }
        Ok(())
    })
}

#[test]
fn metric_names_between_members() -> Result<()> {
    check(&Setup::three(), async |world| {
        for member in world.cluster.members() {
            // etcd measures round trips every 30 seconds, so that they are not there at once.
            eventually(Duration::from_secs(90), async || {
                let metrics = Metrics::new(get(member.client_url(), "/metrics").await?.body);
                for name in PEER_NAMES {
                    ensure!(metrics.has(name), "{}: no {name}", member.name());
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
}

#[test]
fn sizes_and_counts_are_polled() -> Result<()> {
    let setup = Setup::single().flags(&[
        "--etcd-db-metric-poll-interval=1s",
        "--etcd-count-metric-poll-period=1s",
    ]);
    check(&setup, async |world| {
        let objects =
            (0..300).map(|number| config_map(&format!("c{number:04}"), &"x".repeat(4000)));
        create_many(&world.api, CONFIG_MAPS, objects).await?;
        let count = items(&world.api.get("/api/v1/configmaps").await?)?.len() as f64;
        eventually(Duration::from_secs(60), async || {
            let metrics = world.apiserver.metrics().await?;
            let labels = [("resource", "configmaps"), ("group", "")];
            let counted = metrics.sum("apiserver_resource_objects", &labels);
            ensure!(counted == count, "{counted} of {count} objects");
            let estimate = metrics.sum("apiserver_resource_size_estimate_bytes", &labels);
            ensure!(estimate > 1_000_000.0, "an estimate of {estimate} bytes");
            let seen = metrics.sum("apiserver_storage_size_bytes", &[]);
            let mut clients = world.cluster.clients(0).await?;
            let status = clients
                .maintenance
                .status(StatusRequest {})
                .await?
                .into_inner();
            let size = status.db_size as f64;
            ensure!(
                seen > 1_000_000.0 && (seen - size).abs() <= size / 4.0,
                "the apiserver sees {seen} bytes, the store {size}"
            );
            Ok(())
        })
        .await
    })
}

#[test]
fn a_store_that_hangs_makes_the_apiserver_unready() -> Result<()> {
    let setup = Setup::single().flags(&[
        "--etcd-healthcheck-timeout=1s",
        "--etcd-readycheck-timeout=1s",
    ]);
    check(&setup, async |world| {
        let (status, text) = world.api.text("/readyz?verbose").await?;
        ensure!(
            status == 200 && text.contains("[+]etcd ok") && text.contains("[+]etcd-readiness ok"),
            "{text}"
        );
        let (status, text) = world.api.text("/livez?verbose").await?;
        ensure!(status == 200 && text.contains("[+]etcd ok"), "{text}");
        world.cluster.member(0).pause()?;
        let apiserver = &world.apiserver;
        for (path, failing) in [
            ("/readyz", "[-]etcd-readiness failed"),
            ("/livez", "[-]etcd failed"),
        ] {
            eventually(Duration::from_secs(60), async || {
                let (status, text) = apiserver.client().await?.text(path).await?;
                ensure!(status == 500 && text.contains(failing), "{status}: {text}");
                Ok(())
            })
            .await?;
        }
        world.cluster.member(0).resume()?;
        for path in ["/readyz", "/livez"] {
            eventually(Duration::from_secs(60), async || {
                let (status, text) = apiserver.client().await?.text(path).await?;
                ensure!(status == 200, "{status}: {text}");
                Ok(())
            })
            .await?;
        }
        world
            .api
            .create(CONFIG_MAPS, &config_map("after", "x"))
            .await?;
        Ok(())
    })
}
