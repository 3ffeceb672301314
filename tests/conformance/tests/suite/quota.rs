//! NOSPACE from a quota that fills up: raised, listed, refused, cleared.

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{IntoOp, all, delete_range, get, put, txn};
use metastore_conformance::{Session, Setup, check_with, expect, fails};
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType, CompactionRequest};
use tonic::Code;

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Puts until the quota is reached; how many puts that takes is the storage's own affair, so they are not recorded.
async fn fill_up(t: &Session) -> Result<i64> {
    let quiet = t.unrecorded();
    for number in 0..200 {
        if let Err(status) = quiet
            .put(put(format!("fill/{number:03}"), vec![b'x'; 4096]))
            .await
        {
            t.record(
                "a put when the quota is reached",
                format!("{:?}: {}", status.code(), status.message()),
            );
            fails(Err::<(), _>(status), Code::ResourceExhausted, NO_SPACE)?;
            let page = quiet.range(get("fill/000")).await?;
            return Ok(page.header.context("a header")?.revision);
        }
    }
    anyhow::bail!("200 puts of 4 KiB fit into the quota")
}

async fn alarms(t: &Session) -> Result<Vec<AlarmMember>> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        ..Default::default()
    };
    Ok(t.unrecorded().alarm(request).await?.alarms)
}

/// Any member may have raised it, and more than one.
async fn raised(t: &Session) -> Result<()> {
    let alarms = alarms(t).await?;
    ensure!(!alarms.is_empty(), "no alarm");
    ensure!(
        alarms
            .iter()
            .all(|alarm| alarm.alarm() == AlarmType::Nospace && alarm.member_id != 0),
        "{alarms:?}"
    );
    Ok(())
}

async fn disarm(t: &Session) -> Result<()> {
    for alarm in alarms(t).await? {
        let action = AlarmAction::Deactivate.into();
        let request = AlarmRequest {
            action,
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        t.unrecorded().alarm(request).await?;
    }
    Ok(())
}

#[test]
fn a_full_store_refuses_writes_until_space_was_made_and_the_alarm_disarmed() -> Result<()> {
    check_with(
        &Setup::default().flags(&["--quota-backend-bytes=106496"]),
        async |t| {
            let revision = fill_up(t).await?;
            raised(t).await?;
            let quiet = t.unrecorded();
            fails(
                quiet.put(put("a", "1")).await,
                Code::ResourceExhausted,
                NO_SPACE,
            )?;
            fails(
                quiet.txn(txn([], [put("a", "1").op()], [])).await,
                Code::ResourceExhausted,
                NO_SPACE,
            )?;
            fails(
                quiet.lease_grant(60, 7).await,
                Code::ResourceExhausted,
                NO_SPACE,
            )?;
            expect(
                "no revision was used up",
                quiet
                    .range(all())
                    .await?
                    .header
                    .context("a header")?
                    .revision,
                revision,
            )?;
            let status = quiet.status().await?;
            ensure!(
                !status.errors.is_empty()
                    && status.errors.iter().all(|error| error.contains("NOSPACE")),
                "{status:?}"
            );
            quiet.delete(delete_range("fill/", "fill0")).await?;
            quiet
                .compact(CompactionRequest {
                    revision: revision + 1,
                    physical: true,
                })
                .await?;
            for index in 0..t.size() {
                quiet.at(index).await?.defragment().await?;
            }
            fails(
                quiet.put(put("a", "1")).await,
                Code::ResourceExhausted,
                NO_SPACE,
            )?;
            disarm(t).await?;
            expect("alarm", alarms(t).await?, vec![])?;
            let status = quiet.status().await?;
            ensure!(
                status.db_size < 106_496,
                "{} bytes after compaction and defragmentation",
                status.db_size
            );
            quiet.put(put("a", "1")).await?;
            quiet.put(put("b", vec![b'x'; 4096])).await?;
            Ok(())
        },
    )
}

#[test]
fn a_full_store_that_is_disarmed_too_early_raises_the_alarm_again() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--quota-backend-bytes=106496"]),
        async |t| {
            fill_up(t).await?;
            disarm(t).await?;
            let quiet = t.unrecorded();
            fails(
                quiet.put(put("a", vec![b'x'; 4096])).await,
                Code::ResourceExhausted,
                NO_SPACE,
            )?;
            raised(t).await
        },
    )
}

#[test]
fn nospace_fails_health_but_neither_livez_nor_readyz() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--quota-backend-bytes=106496"]),
        async |t| {
            fill_up(t).await?;
            expect("/health", t.http_get("/health").await?.status, 503)?;
            expect(
                "/health",
                t.http_get("/health?exclude=NOSPACE").await?.status,
                200,
            )?;
            t.http_get("/health?serializable=true").await?;
            t.http_get("/health?exclude=CORRUPT").await?;
            t.http_get("/health?exclude=NOSPACE&exclude=CORRUPT")
                .await?;
            expect("/livez", t.http_get("/livez").await?.status, 200)?;
            expect("/readyz", t.http_get("/readyz?verbose").await?.status, 200)
        },
    )
}

#[test]
fn the_tiny_quota_of_operators_tests_raises_the_alarm() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--quota-backend-bytes=53248"]),
        async |t| {
            fill_up(t).await?;
            raised(t).await
        },
    )
}

#[test]
fn a_negative_quota_is_none() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--quota-backend-bytes=-1"]),
        async |t| {
            for number in 0..30 {
                t.put(put(format!("k{number:02}"), vec![b'x'; 10_000]))
                    .await?;
            }
            t.status().await?;
            Ok(())
        },
    )
}
