//! Three members: what all of them agree on, and what goes on when one is gone.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_conformance::build::{all, delete, get, put, txn, watch, watch_prefix};
use metastore_conformance::{Session, Setup, check_with, expect, fails};
use metastore_proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    WatchCreateRequest,
};

fn three() -> Setup {
    Setup::three()
}

/// Waits until another member than `old` leads.
pub(crate) async fn another_leader(t: &Session, old: usize) -> Result<usize> {
    let start = Instant::now();
    loop {
        if let Ok(leader) = t.cluster().await.leader().await
            && leader != old
        {
            return Ok(leader);
        }
        ensure!(start.elapsed() < Duration::from_secs(30), "no new leader");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_write_through_one_member_is_read_through_every_other() -> Result<()> {
    check_with(&three(), async |t| {
        let members = [t.at(0).await?, t.at(1).await?, t.at(2).await?];
        for round in 0..15 {
            let quiet = members[round % 3].unrecorded();
            quiet.put(put("a", round.to_string())).await?;
            for reader in &members {
                let page = reader.unrecorded().range(get("a")).await?;
                expect(
                    "value",
                    page.kvs[0].value.as_ref(),
                    round.to_string().as_bytes(),
                )?;
                expect(
                    "revision",
                    page.header.unwrap_or_default().revision,
                    round as i64 + 2,
                )?;
            }
        }
        Ok(())
    })
}

#[test]
fn every_member_has_the_same_hashes() -> Result<()> {
    check_with(&three(), async |t| {
        for round in 0..5 {
            for key in ["a", "b", "c"] {
                t.put(put(key, round.to_string())).await?;
            }
            t.delete(delete("b")).await?;
        }
        t.compact(CompactionRequest {
            revision: 9,
            physical: true,
        })
        .await?;
        let mut hashes = Vec::new();
        for index in 0..3 {
            let member = t.at(index).await?.unrecorded();
            // A linearizable read makes the member catch up.
            member.range(get("a")).await?;
            let answer = member.hash_kv(HashKvRequest { revision: 15 }).await?;
            hashes.push((answer.hash, answer.compact_revision, answer.hash_revision));
        }
        expect("hashes", hashes.iter().all(|hash| *hash == hashes[0]), true)?;
        t.record("HashKV at 15", format!("{:?}", hashes[0]));
        Ok(())
    })
}

#[test]
fn a_watch_on_a_follower_sees_writes_through_the_others() -> Result<()> {
    check_with(&three(), async |t| {
        let mut watching = t.watch();
        watching.created(watch_prefix("k")).await?;
        for index in 0..3 {
            t.at(index)
                .await?
                .unrecorded()
                .put(put(format!("k{index}"), "v"))
                .await?;
        }
        watching.events(3).await?;
        expect("progress", watching.progress().await?, 4)
    })
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_is_lost() -> Result<()> {
    check_with(&three(), async |t| {
        t.put(put("a", "1")).await?;
        let mut watching = t.watch();
        watching
            .created(WatchCreateRequest {
                start_revision: 2,
                ..watch("a")
            })
            .await?;
        watching.events(1).await?;
        let leader = t.cluster().await.leader().await?;
        t.cluster().await.member(leader).kill()?;
        another_leader(t, leader).await?;
        let quiet = t.unrecorded();
        let start = Instant::now();
        while let Err(status) = quiet.put(put("b", "1")).await {
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "no write after an election: {status:?}"
            );
        }
        // A put that failed may have happened all the same, so revisions are not compared.
        let page = quiet.range(get("a")).await?;
        expect("value", page.kvs[0].value.as_ref(), b"1")?;
        quiet.put(put("a", "2")).await?;
        let answer = watching.next_unrecorded().await?;
        expect("event", answer.events.len(), 1)?;
        t.cluster().await.member(leader).start().await?;
        let back = t.at(leader).await?.unrecorded();
        expect(
            "value",
            back.range(get("a")).await?.kvs[0].value.as_ref(),
            b"2",
        )
    })
}

#[test]
fn a_lease_has_its_full_time_after_a_change_of_leader() -> Result<()> {
    check_with(&three(), async |t| {
        t.lease_grant(60, 7).await?;
        t.put(PutRequest {
            lease: 7,
            ..put("a", "1")
        })
        .await?;
        let leader = t.cluster().await.leader().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        t.cluster().await.member(leader).kill()?;
        another_leader(t, leader).await?;
        let quiet = t.unrecorded();
        let start = Instant::now();
        let left = loop {
            if let Ok(answer) = quiet
                .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: true })
                .await
            {
                break answer;
            }
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "no answer about the lease"
            );
        };
        ensure!((58..=63).contains(&left.ttl), "left: {}", left.ttl);
        expect("keys", left.keys.len(), 1)
    })
}

#[test]
fn a_lease_is_never_said_to_be_gone_while_the_leader_changes() -> Result<()> {
    check_with(&three(), async |t| {
        t.lease_grant(60, 7).await?;
        let leader = t.cluster().await.leader().await?;
        t.cluster().await.member(leader).kill()?;
        let quiet = t.unrecorded();
        let start = Instant::now();
        let mut renewed = 0;
        while renewed < 20 {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "renewed {renewed} times"
            );
            let mut stream = quiet.keep_alive();
            while let Ok(answer) = stream.renew(7).await {
                expect("ttl", answer.ttl, 60)?;
                renewed += 1;
                if renewed == 20 {
                    break;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_member_that_was_away_catches_up() -> Result<()> {
    check_with(&three(), async |t| {
        let away = (0..3).find(|index| *index != t.index()).unwrap_or_default();
        t.put(put("a", "1")).await?;
        t.cluster().await.member(away).stop().await?;
        let quiet = t.unrecorded();
        let start = Instant::now();
        // The one stopped may have been the leader.
        while quiet.range(get("a")).await.is_err() {
            ensure!(
                start.elapsed() < Duration::from_secs(30),
                "no reads with two of three members"
            );
        }
        for number in 0..50 {
            t.put(put(format!("k{number:02}"), "v")).await?;
        }
        t.delete(delete("k07")).await?;
        t.cluster().await.member(away).start().await?;
        let back = t.at(away).await?;
        let page = back.unrecorded().range(all()).await?;
        expect("count", page.count, 50)?;
        expect("revision", page.header.unwrap_or_default().revision, 53)?;
        let one = back
            .unrecorded()
            .hash_kv(HashKvRequest { revision: 53 })
            .await?
            .hash;
        expect(
            "hash",
            one,
            t.hash_kv(HashKvRequest { revision: 53 }).await?.hash,
        )
    })
}

#[test]
fn without_a_quorum_serializable_reads_go_on_and_the_rest_times_out() -> Result<()> {
    check_with(&three(), async |t| {
        t.put(put("a", "1")).await?;
        for index in (0..3).filter(|index| *index != t.index()) {
            t.cluster().await.member(index).kill()?;
        }
        let page = t
            .range(RangeRequest {
                serializable: true,
                ..get("a")
            })
            .await?;
        expect("value", page.kvs[0].value.as_ref(), b"1")?;
        let quiet = t.unrecorded();
        let status = quiet.put(put("a", "2")).await.err();
        ensure!(
            status
                .as_ref()
                .is_some_and(|status| status.code() == tonic::Code::Unavailable),
            "{status:?}"
        );
        let status = quiet.range(get("a")).await.err();
        ensure!(
            status
                .as_ref()
                .is_some_and(|status| status.code() == tonic::Code::Unavailable),
            "{status:?}"
        );
        Ok(())
    })
}

#[test]
fn without_a_leader_a_put_runs_into_its_deadline_and_a_read_times_out() -> Result<()> {
    check_with(&three(), async |t| {
        for index in (0..3).filter(|index| *index != t.index()) {
            t.cluster().await.member(index).kill()?;
        }
        let quiet = t.unrecorded();
        let start = Instant::now();
        while quiet.status().await?.leader != 0 {
            ensure!(start.elapsed() < Duration::from_secs(30), "a leader stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (late, gone) = (tonic::Code::DeadlineExceeded, tonic::Code::Unavailable);
        fails(
            t.put(put("a", "1")).await,
            late,
            "context deadline exceeded",
        )?;
        fails(
            t.range(get("a")).await,
            gone,
            "etcdserver: request timed out",
        )
    })
}

#[test]
fn calls_that_require_a_leader_are_refused_without_one() -> Result<()> {
    check_with(&three(), async |t| {
        let strict = &t.with_metadata(&[("hasleader", "true")]);
        let other = &t.with_metadata(&[("hasleader", "false")]);
        strict.put(put("a", "1")).await?;
        strict.lease_grant(600, 7).await?;
        let mut renewals = strict.keep_alive();
        expect("renewed", renewals.renew(7).await?.ttl, 600)?;
        let mut watching = strict.watch();
        watching.created(watch("a")).await?;
        for index in (0..3).filter(|index| *index != t.index()) {
            t.cluster().await.member(index).kill()?;
        }
        watching.ended().await?;
        renewals.ended().await?;
        let serializable = RangeRequest {
            serializable: true,
            ..get("a")
        };
        let text = "etcdserver: no leader";
        let no_leader = tonic::Code::Unavailable;
        fails(strict.range(serializable.clone()).await, no_leader, text)?;
        fails(strict.put(put("a", "2")).await, no_leader, text)?;
        fails(strict.txn(txn([], [], [])).await, no_leader, text)?;
        fails(strict.lease_grant(600, 8).await, no_leader, text)?;
        fails(strict.leases().await, no_leader, text)?;
        fails(strict.status().await, no_leader, text)?;
        fails(
            strict.hash_kv(HashKvRequest { revision: 0 }).await,
            no_leader,
            text,
        )?;
        fails(
            strict.range_stream(serializable.clone()).await,
            no_leader,
            text,
        )?;
        let mut refused = strict.keep_alive();
        expect("text", refused.ended().await?.message(), text)?;
        other.range(serializable.clone()).await?;
        other.range_stream(serializable).await?;
        let status = other.status().await?;
        expect("leader", status.leader, 0)?;
        t.hash_kv(HashKvRequest { revision: 0 }).await?;
        Ok(())
    })
}

#[test]
fn a_cluster_stopped_whole_comes_back_whole() -> Result<()> {
    check_with(&three(), async |t| {
        for number in 0..10 {
            t.put(put(format!("k{number}"), "v")).await?;
        }
        t.lease_grant(600, 7).await?;
        let mut cluster = t.cluster().await;
        for index in 0..3 {
            cluster.member(index).kill()?;
        }
        for index in 0..3 {
            cluster.member(index).launch()?;
        }
        for index in 0..3 {
            cluster.member(index).ready().await?;
        }
        drop(cluster);
        let t = &t.again().await?;
        t.range(all()).await?;
        t.put(put("k", "after")).await?;
        t.leases().await?;
        Ok(())
    })
}
