//! Leases: granting, attaching, renewing, revoking, running out.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_conformance::build::{IntoOp, all, delete, get, put, txn, watch};
use metastore_conformance::{Session, Setup, check, check_with, expect, fails, labelled};
use metastore_proto::etcdserverpb::{LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest};
use tonic::Code;

const NOT_FOUND: &str = "etcdserver: requested lease not found";

fn leased(key: &'static str, value: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put(key, value)
    }
}

async fn keys_of(t: &Session, id: i64) -> Result<Vec<String>> {
    let answer = t
        .lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true })
        .await?;
    let mut keys: Vec<String> = answer
        .keys
        .iter()
        .map(|key| key.escape_ascii().to_string())
        .collect();
    keys.sort();
    Ok(keys)
}

#[test]
fn a_lease_gets_the_id_and_time_asked_for() -> Result<()> {
    check(async |t| {
        let answer = t.lease_grant(60, 7).await?;
        expect(
            "id, ttl, error",
            (answer.id, answer.ttl, answer.error.as_str()),
            (7, 60, ""),
        )?;
        expect("revision", answer.header.unwrap_or_default().revision, 1)?;
        t.lease_grant(60, i64::MAX).await?;
        t.lease_grant(60, -7).await?;
        t.lease_grant(60, i64::MIN).await?;
        t.leases().await?;
        Ok(())
    })
}

#[test]
fn without_an_id_the_server_chooses_a_positive_one() -> Result<()> {
    check(async |t| {
        let first = t.lease_grant(60, 0).await?.id;
        let second = t.lease_grant(60, 0).await?.id;
        ensure!(
            first > 0 && second > 0 && first != second,
            "{first} and {second}"
        );
        t.put(PutRequest {
            lease: first,
            ..put("a", "1")
        })
        .await?;
        expect("lease", t.range(get("a")).await?.kvs[0].lease, first)
    })
}

#[test]
fn a_lease_cannot_be_granted_twice() -> Result<()> {
    check(async |t| {
        t.lease_grant(60, 7).await?;
        fails(
            t.lease_grant(10, 7).await,
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        )?;
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        t.lease_grant(10, 7).await?;
        Ok(())
    })
}

#[test]
fn times_are_bounded_below_and_above() -> Result<()> {
    check(async |t| {
        for (ttl, id) in [(0, 1), (-1, 2), (1, 3), (2, 4), (3, 5), (9_000_000_000, 6)] {
            t.lease_grant(ttl, id).await?;
        }
        let text = "etcdserver: too large lease TTL";
        for ttl in [9_000_000_001, i64::MAX] {
            fails(t.lease_grant(ttl, 100).await, Code::OutOfRange, text)?;
        }
        Ok(())
    })
}

#[test]
fn the_shortest_time_follows_the_election_timeout() -> Result<()> {
    let flags = ["--heartbeat-interval=300", "--election-timeout=3000"];
    check_with(&Setup::single().flags(&flags), async |t| {
        expect("ttl", t.lease_grant(1, 7).await?.ttl, 5)
    })
}

#[test]
fn time_to_live_of_a_lease_that_is_not_there() -> Result<()> {
    check(async |t| {
        for keys in [false, true] {
            let answer = t
                .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys })
                .await?;
            expect("ttl, granted", (answer.ttl, answer.granted_ttl), (-1, 0))?;
        }
        let answer = t
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 0, keys: true })
            .await?;
        expect("ttl of lease 0", answer.ttl, -1)
    })
}

#[test]
fn time_to_live_says_what_is_left_and_which_keys() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        for key in ["b", "a", "c"] {
            t.put(leased(key, "1", 7)).await?;
        }
        let answer = t
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: false })
            .await?;
        expect("keys that nobody asked for", answer.keys.len(), 0)?;
        ensure!((570..=600).contains(&answer.ttl), "left: {}", answer.ttl);
        expect("granted", answer.granted_ttl, 600)?;
        expect(
            "keys",
            keys_of(t, 7).await?,
            ["a", "b", "c"].map(String::from).to_vec(),
        )
    })
}

#[test]
fn a_key_belongs_to_the_lease_of_its_last_put() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.lease_grant(600, 8).await?;
        t.put(leased("a", "1", 7)).await?;
        t.put(leased("b", "1", 7)).await?;
        t.put(leased("c", "1", 7)).await?;
        t.put(leased("d", "1", 7)).await?;
        t.put(leased("a", "2", 8)).await?;
        t.put(put("b", "2")).await?;
        t.delete(delete("c")).await?;
        expect("keys of 7", keys_of(t, 7).await?, vec!["d".to_owned()])?;
        expect("keys of 8", keys_of(t, 8).await?, vec!["a".to_owned()])?;
        t.put(put("c", "again")).await?;
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        let page = t.range(all()).await?;
        expect("only d went with its lease", page.count, 3)
    })
}

#[test]
fn a_lease_can_be_attached_twice_to_the_same_key() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.put(leased("a", "1", 7)).await?;
        t.put(leased("a", "2", 7)).await?;
        t.put(PutRequest {
            ignore_lease: true,
            ..put("a", "3")
        })
        .await?;
        expect("keys", keys_of(t, 7).await?, vec!["a".to_owned()])?;
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        expect("left", t.range(all()).await?.count, 0)
    })
}

#[test]
fn leases_in_transactions_attach_and_detach() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.lease_grant(600, 8).await?;
        t.put(leased("x", "1", 8)).await?;
        let request = txn(
            [],
            [
                leased("a", "1", 7).op(),
                leased("b", "1", 8).op(),
                delete("x").op(),
            ],
            [],
        );
        t.txn(request).await?;
        t.txn(txn([], [leased("b", "2", 7).op(), put("a", "2").op()], []))
            .await?;
        expect("keys of 7", keys_of(t, 7).await?, vec!["b".to_owned()])?;
        expect("keys of 8", keys_of(t, 8).await?.len(), 0)
    })
}

#[test]
fn revoking_deletes_the_keys_at_one_revision() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        for key in ["b", "a", "c"] {
            t.put(leased(key, "1", 7)).await?;
        }
        t.put(put("z", "stays")).await?;
        let mut watching = t.watch();
        let mut request = watch("a");
        request.range_end = "\0".into();
        watching.created(request).await?;
        let answer = t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        expect("revision", answer.header.unwrap_or_default().revision, 6)?;
        let events = watching.next().await?.events;
        let events: Vec<_> = events.into_iter().map(|event| (0, event)).collect();
        expect(
            "events",
            labelled(&events),
            ["0:delete a@6", "0:delete b@6", "0:delete c@6"]
                .map(String::from)
                .to_vec(),
        )?;
        expect("left", t.range(all()).await?.count, 1)?;
        let answer = t
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: true })
            .await?;
        expect("ttl", answer.ttl, -1)
    })
}

#[test]
fn revoking_a_lease_without_keys_uses_up_no_revision() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        let answer = t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        expect("revision", answer.header.unwrap_or_default().revision, 1)?;
        fails(
            t.lease_revoke(LeaseRevokeRequest { id: 7 }).await,
            Code::NotFound,
            NOT_FOUND,
        )?;
        fails(
            t.lease_revoke(LeaseRevokeRequest { id: 0 }).await,
            Code::NotFound,
            NOT_FOUND,
        )?;
        fails(t.put(leased("a", "1", 7)).await, Code::NotFound, NOT_FOUND)
    })
}

#[test]
fn leases_are_listed() -> Result<()> {
    check(async |t| {
        expect("none", t.leases().await?.leases.len(), 0)?;
        for (ttl, id) in [(300, 3), (100, 1), (200, 2)] {
            t.lease_grant(ttl, id).await?;
        }
        expect("three", t.leases().await?.leases.len(), 3)?;
        t.lease_revoke(LeaseRevokeRequest { id: 1 }).await?;
        expect("two", t.leases().await?.leases.len(), 2)
    })
}

#[test]
fn the_leader_lists_leases_by_expiry() -> Result<()> {
    check_with(&Setup::default().leader(), async |t| {
        for (ttl, id) in [(300, 1), (100, 3), (400, 2), (200, 4)] {
            t.lease_grant(ttl, id).await?;
        }
        t.keep_alive().renew(3).await?;
        let ids: Vec<i64> = t
            .leases()
            .await?
            .leases
            .iter()
            .map(|lease| lease.id)
            .collect();
        expect("order", ids, vec![3, 4, 1, 2])
    })
}

#[test]
fn a_keepalive_renews_the_whole_time() -> Result<()> {
    check(async |t| {
        t.lease_grant(600, 7).await?;
        t.lease_grant(500, 8).await?;
        let mut stream = t.keep_alive();
        for _ in 0..3 {
            expect("ttl of 7", stream.renew(7).await?.ttl, 600)?;
            expect("ttl of 8", stream.renew(8).await?.ttl, 500)?;
        }
        let answer = stream.renew(9).await?;
        expect("a lease that is not there", (answer.id, answer.ttl), (9, 0))?;
        t.put(put("a", "1")).await?;
        let answer = stream.renew(7).await?;
        expect("revision", answer.header.unwrap_or_default().revision, 2)?;
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        expect("a revoked one", stream.renew(7).await?.ttl, 0)
    })
}

#[test]
fn a_lease_runs_out_and_takes_its_keys() -> Result<()> {
    check(async |t| {
        t.lease_grant(2, 7).await?;
        t.lease_grant(600, 8).await?;
        t.put(leased("a", "1", 7)).await?;
        t.put(leased("b", "1", 7)).await?;
        t.put(leased("c", "1", 8)).await?;
        let mut watching = t.watch();
        let mut request = watch("\0");
        request.range_end = "\0".into();
        request.prev_kv = true;
        watching.created(request).await?;
        let start = Instant::now();
        let answer = watching.next().await?;
        let took = start.elapsed();
        ensure!(
            (1..=6).contains(&took.as_secs()),
            "a lease of 2 s ran out after {took:?}"
        );
        expect("events", answer.events.len(), 2)?;
        expect("left", t.range(all()).await?.count, 1)?;
        let answer = t
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: true })
            .await?;
        expect("ttl", answer.ttl, -1)?;
        fails(
            t.lease_revoke(LeaseRevokeRequest { id: 7 }).await,
            Code::NotFound,
            NOT_FOUND,
        )
    })
}

#[test]
fn a_lease_kept_alive_does_not_run_out() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.lease_grant(2, 7).await?;
        t.lease_grant(2, 8).await?;
        t.put(leased("kept", "1", 7)).await?;
        t.put(leased("gone", "1", 8)).await?;
        let mut watching = t.watch();
        watching.created(watch("gone")).await?;
        let mut stream = t.keep_alive();
        let start = Instant::now();
        let mut expired = None;
        while expired.is_none() {
            ensure!(
                start.elapsed() < Duration::from_secs(15),
                "lease 8 does not run out"
            );
            expect("ttl", stream.renew(7).await?.ttl, 2)?;
            expired = tokio::time::timeout(Duration::from_millis(400), watching.next())
                .await
                .ok();
        }
        expect("left", t.range(all()).await?.count, 1)?;
        // How often the lease was renewed depends on time.
        t.forget_renewals();
        Ok(())
    })
}

#[test]
fn leases_and_their_keys_survive_a_restart() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.lease_grant(600, 7).await?;
        t.lease_grant(700, 8).await?;
        t.put(leased("a", "1", 7)).await?;
        t.put(leased("b", "1", 7)).await?;
        t.put(put("b", "2")).await?;
        t.lease_revoke(LeaseRevokeRequest { id: 8 }).await?;
        t.cluster().await.member(0).stop().await?;
        t.cluster().await.member(0).start().await?;
        let t = &t.again().await?;
        t.leases().await?;
        expect("keys", keys_of(t, 7).await?, vec!["a".to_owned()])?;
        let answer = t
            .lease_time_to_live(LeaseTimeToLiveRequest { id: 7, keys: false })
            .await?;
        ensure!((570..=600).contains(&answer.ttl), "left: {}", answer.ttl);
        t.lease_revoke(LeaseRevokeRequest { id: 7 }).await?;
        expect("left", t.range(all()).await?.count, 1)
    })
}

#[test]
fn many_leases_are_granted_listed_and_revoked() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for id in 1..=200 {
            t.lease_grant(600 + id, id).await?;
            t.put(PutRequest {
                lease: id,
                ..put(format!("k{id:03}"), "v")
            })
            .await?;
        }
        expect("listed", t.leases().await?.leases.len(), 200)?;
        for id in (1..=200).step_by(2) {
            t.lease_revoke(LeaseRevokeRequest { id }).await?;
        }
        expect("listed", t.leases().await?.leases.len(), 100)?;
        expect("keys", t.range(all()).await?.count, 100)
    })
}

#[test]
fn a_lease_with_a_thousand_keys_runs_out_at_one_revision() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.lease_grant(5, 7).await?;
        let puts = |from: usize| {
            (from..from + 100).map(|number| {
                PutRequest {
                    lease: 7,
                    ..put(format!("k{number:04}"), "v")
                }
                .op()
            })
        };
        for from in (0..1000).step_by(100) {
            t.txn(txn([], puts(from), [])).await?;
        }
        let mut watching = t.watch();
        watching
            .created(metastore_conformance::build::watch_prefix("k"))
            .await?;
        let events = watching.events(1000).await?;
        ensure!(
            events
                .iter()
                .all(|(_, event)| event.kv.as_ref().is_some_and(|kv| kv.mod_revision == 12)),
            "several revisions"
        );
        expect("left", t.range(all()).await?.count, 0)
    })
}
