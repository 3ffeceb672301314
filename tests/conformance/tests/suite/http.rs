//! The HTTP endpoints of the client port.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::put;
use metastore_conformance::{Setup, check, check_with, expect};
use metastore_harness::{Offer, get_over_http2, speak};

#[test]
fn health_livez_and_readyz_of_a_healthy_member() -> Result<()> {
    check(async |t| {
        t.put(put("a", "1")).await?;
        for path in [
            "/health",
            "/health?serializable=true",
            "/health?serializable=false",
            "/health?exclude=NOSPACE",
            "/health?exclude=unknown",
            "/livez",
            "/livez?verbose",
            "/livez?verbose=1",
            "/livez?exclude=serializable_read",
            "/livez?exclude=serializable_read&verbose",
            "/livez?exclude=unknown",
            "/livez/serializable_read",
            "/livez/serializable_read?verbose",
            "/livez/unknown",
            "/livez/",
            "/readyz",
            "/readyz?verbose",
            "/readyz?exclude=linearizable_read&verbose",
            "/readyz?exclude=linearizable_read&exclude=data_corruption&verbose",
            "/readyz/serializable_read",
            "/readyz/linearizable_read",
            "/readyz/data_corruption",
            "/readyz/non_learner",
            "/readyz/unknown",
        ] {
            t.http_get(path).await?;
        }
        Ok(())
    })
}

#[test]
fn other_methods_are_refused() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for path in [
            "/health",
            "/version",
            "/livez",
            "/readyz",
            "/livez/serializable_read",
        ] {
            for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
                t.http(method, path).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn unknown_paths_are_not_found() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for path in [
            "/",
            "/nothing",
            "/v2/keys",
            "/healthz",
            "/metrics/",
            "/version/x",
            "/debug",
            "/debug/pprof/",
        ] {
            expect(path, t.http_get(path).await?.status, 404)?;
        }
        Ok(())
    })
}

/// etcd decides the cluster's version at once and writes the storage's some seconds after the start.
async fn settled_version(url: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let answer = metastore_harness::get(url, "/version").await?;
        if answer.body.contains(r#""storage":"3.7.0""#) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(30),
            "still {}",
            answer.body
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn the_version_is_told() -> Result<()> {
    check(async |t| {
        settled_version(t.url()).await?;
        let answer = t.http_get("/version").await?;
        expect(
            "versions",
            answer.body.as_str(),
            r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#,
        )
    })
}

#[test]
fn metrics_and_variables_have_etcds_content_types() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let quiet = t.unrecorded();
        for path in ["/metrics", "/debug/vars"] {
            let answer = quiet.http_get(path).await?;
            t.record(
                format!("headers of {path}"),
                format!("{} {:?}", answer.status, answer.headers),
            );
            ensure!(!answer.body.is_empty(), "{path} is empty");
        }
        Ok(())
    })
}

#[test]
fn the_peer_port_tells_version_and_members() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let peer = t.cluster().await.members()[t.index()].peer_url().to_owned();
        settled_version(&peer).await?;
        for path in ["/version", "/members", "/nothing", "/health"] {
            t.http_at(&peer, path).await?;
        }
        Ok(())
    })
}

#[test]
fn without_a_quorum_health_and_readyz_fail_and_livez_does_not() -> Result<()> {
    check_with(&Setup::three(), async |t| {
        for index in (0..3).filter(|index| *index != t.index()) {
            t.cluster().await.member(index).kill()?;
        }
        expect("/livez", t.http_get("/livez").await?.status, 200)?;
        expect("/readyz", t.http_get("/readyz").await?.status, 503)?;
        expect("/health", t.http_get("/health").await?.status, 503)?;
        let serializable = t.unrecorded().http_get("/health?serializable=true").await?;
        t.record("/health?serializable=true", serializable.status.to_string());
        Ok(())
    })
}

#[test]
fn the_metrics_listener_serves_metrics_and_health() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let port = metastore_harness::Port::take()?;
        let url = format!("http://127.0.0.1:{}", port.number());
        let mut cluster = t.cluster().await;
        let member = cluster.member(0);
        member.stop().await?;
        member
            .flags_mut()
            .push(format!("--listen-metrics-urls={url}").into());
        member.start().await?;
        drop(cluster);
        for path in [
            "/health",
            "/livez",
            "/readyz?verbose",
            "/version",
            "/nothing",
        ] {
            t.http_at(&url, path).await?;
        }
        expect(
            "/metrics",
            metastore_harness::get(&url, "/metrics").await?.status,
            200,
        )
    })
}

#[test]
fn calls_and_pages_share_the_port_in_both_versions_of_http_over_tls() -> Result<()> {
    let setup = Setup {
        client_tls: true,
        ..Setup::single()
    };
    check_with(&setup, async |t| {
        t.put(put("a", "1")).await?;
        let cluster = t.cluster().await;
        let authority = cluster.authority().context("made for this cluster")?;
        let client = authority.issue("client", &["client"])?;
        let offer = Offer::new(authority, Some(&client));
        for path in ["/health", "/version", "/livez", "/nothing"] {
            let old = speak(t.url(), path, offer).await?;
            let new = get_over_http2(t.url(), path, offer).await?;
            let status = format!(" {} ", new.status);
            ensure!(old.answer.contains(&status), "{path}: {old:?} and {new:?}");
            t.record(
                format!("GET {path}"),
                format!("{} {}", new.status, new.body),
            );
        }
        Ok(())
    })
}
