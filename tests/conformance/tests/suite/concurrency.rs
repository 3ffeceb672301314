//! The recipes of `metastore-concurrency` on etcd and on MetaStore, among themselves and beside Go's.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, GetOptions, Txn, TxnOp};
use futures::StreamExt;
use metastore_concurrency::{Election, Error, Isolation, Mutex, Session, transact};
use metastore_conformance::{Session as Member, check, expect};
use metastore_harness::reference_binary;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// For what must not happen.
const MOMENT: Duration = Duration::from_millis(300);

async fn client(t: &Member) -> Result<Client> {
    Ok(Client::connect([t.url()], None).await?)
}

async fn session(t: &Member) -> Result<Session> {
    Ok(Session::open(client(t).await?, TTL).await?)
}

async fn keys_below(t: &Member, prefix: &str) -> Result<i64> {
    let all = GetOptions::new().with_prefix().with_count_only();
    Ok(client(t).await?.get(prefix, Some(all)).await?.count())
}

/// Waits until so many keys lie below.
async fn wait_for_keys(t: &Member, prefix: &str, count: i64) -> Result<()> {
    let wait = async {
        while keys_below(t, prefix).await? != count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    let waited = timeout(PATIENCE, wait).await;
    waited.with_context(|| format!("there are never {count} keys below {prefix}"))?
}

#[test]
fn a_mutex_lets_in_one_at_a_time_sessions_and_tasks_alike() -> Result<()> {
    check(async |t| {
        let inside = Arc::new(AtomicUsize::new(0));
        let entered = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let session = session(t).await?;
            for _ in 0..3 {
                let mutex = Mutex::new(&session, "lock");
                let (inside, entered) = (inside.clone(), entered.clone());
                tasks.spawn(async move {
                    for _ in 0..3 {
                        let guard = mutex.lock().await?;
                        ensure!(inside.fetch_add(1, Ordering::SeqCst) == 0, "two are inside");
                        tokio::task::yield_now().await;
                        entered.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        guard.unlock().await?;
                    }
                    Ok(())
                });
            }
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        expect("entered", entered.load(Ordering::SeqCst), 27)?;
        expect("keys left", keys_below(t, "lock/").await?, 0)
    })
}

#[test]
fn a_mutex_is_had_in_the_order_in_which_it_was_asked_for() -> Result<()> {
    check(async |t| {
        let holder = Mutex::new(&session(t).await?, "lock").lock().await?;
        let (order, mut waiting) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for place in 0..4 {
            let (session, order) = (session(t).await?, order.clone());
            waiting.spawn(async move {
                let guard = Mutex::new(&session, "lock").lock().await?;
                let came = order.fetch_add(1, Ordering::SeqCst);
                ensure!(came == place, "place {place} came as {came}");
                guard.unlock().await?;
                Ok(())
            });
            wait_for_keys(t, "lock/", place as i64 + 2).await?;
        }
        holder.unlock().await?;
        while let Some(done) = waiting.join_next().await {
            done??;
        }
        Ok(())
    })
}

#[test]
fn who_stops_waiting_has_no_place_and_a_dropped_guard_frees() -> Result<()> {
    check(async |t| {
        let (one, two) = (session(t).await?, session(t).await?);
        let holder = Mutex::new(&one, "lock").lock().await?;
        let mutex = Mutex::new(&two, "lock");
        ensure!(mutex.try_lock().await?.is_none(), "it is held");
        wait_for_keys(t, "lock/", 1).await?;
        let waits = timeout(MOMENT, mutex.lock()).await;
        ensure!(waits.is_err(), "it is held");
        wait_for_keys(t, "lock/", 1).await?;
        drop(holder);
        let guard = timeout(PATIENCE, mutex.lock()).await.context("freed")??;
        let free = Mutex::new(&one, "lock").try_lock().await?;
        ensure!(free.is_none(), "it is held");
        guard.unlock().await?;
        let free = Mutex::new(&one, "lock").try_lock().await?;
        free.context("it is free")?.unlock().await?;
        Ok(())
    })
}

#[test]
fn a_lost_lease_frees_the_lock_and_is_told() -> Result<()> {
    check(async |t| {
        let (one, two) = (session(t).await?, session(t).await?);
        let guard = Mutex::new(&one, "lock").lock().await?;
        let owned = Txn::new()
            .when([guard.is_owner()])
            .and_then([TxnOp::put("owned", "1", None)]);
        let mut kv = client(t).await?.kv_client();
        ensure!(
            kv.txn(owned.clone()).await?.succeeded(),
            "the owner may write"
        );
        let mutex = Mutex::new(&two, "lock");
        let waiting = tokio::spawn(async move { mutex.lock().await });
        wait_for_keys(t, "lock/", 2).await?;
        client(t).await?.lease_client().revoke(one.lease()).await?;
        let next = timeout(PATIENCE, waiting).await.context("freed")??;
        ensure!(
            !kv.txn(owned).await?.succeeded(),
            "it owns nothing any more"
        );
        timeout(PATIENCE, one.lost())
            .await
            .context("the loss is told")?;
        ensure!(one.is_lost() && !two.is_lost());
        let refused = Mutex::new(&one, "other").lock().await;
        ensure!(refused.is_err(), "nothing hangs on a lost lease");
        next?.unlock().await?;
        two.close().await?;
        Ok(())
    })
}

#[test]
fn candidates_lead_one_after_the_other_and_observers_are_told() -> Result<()> {
    check(async |t| {
        let (one, two) = (session(t).await?, session(t).await?);
        let election = Election::new(&one, "election");
        ensure!(election.leader().await?.is_none(), "nobody stands");
        let mut observed = Election::new(&two, "election").observe();
        let first = election.campaign("first").await?;
        let mut next = async |expected: &str| {
            let told = timeout(PATIENCE, observed.next()).await;
            let told = told.with_context(|| format!("never told of {expected}"))?;
            let value = told.context("the stream ended")??.value_str()?.to_owned();
            expect("the leader", value, expected.to_owned())
        };
        next("first").await?;
        first.proclaim("first again").await?;
        next("first again").await?;
        let candidate = Election::new(&two, "election");
        let campaign = tokio::spawn(async move { candidate.campaign("second").await });
        wait_for_keys(t, "election/", 2).await?;
        let leader = election.leader().await?.context("a leader")?;
        ensure!(leader.key() == first.key() && leader.create_revision() == first.revision());
        first.resign().await?;
        let second = timeout(PATIENCE, campaign).await.context("elected")???;
        next("second").await?;
        client(t).await?.lease_client().revoke(two.lease()).await?;
        let refused = second.proclaim("too late").await;
        ensure!(
            matches!(refused, Err(Error::NotLeader | Error::Client(_))),
            "{refused:?}"
        );
        ensure!(election.leader().await?.is_none(), "nobody leads");
        Ok(())
    })
}

const ACCOUNTS: usize = 5;

async fn transfer(client: &Client, number: usize) -> Result<()> {
    let (from, to) = (number % ACCOUNTS, (number * 3 + 1) % ACCOUNTS);
    let key = |account: usize| format!("account/{account}");
    let balance = |value: Option<Vec<u8>>| -> i64 {
        let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        text.parse().unwrap_or(0)
    };
    transact(client, Isolation::SerializableSnapshot, |stm| {
        Box::pin(async move {
            let left = balance(stm.get(key(from)).await?) - 1;
            stm.put(key(from), left.to_string());
            let more = balance(stm.get(key(to)).await?) + 1;
            stm.put(key(to), more.to_string());
            Ok(())
        })
    })
    .await?;
    Ok(())
}

#[test]
fn transfers_at_once_lose_nothing() -> Result<()> {
    check(async |t| {
        let mut tasks = JoinSet::new();
        for worker in 0..6 {
            let client = client(t).await?;
            tasks.spawn(async move {
                for number in 0..10 {
                    transfer(&client, worker * 7 + number).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let all = GetOptions::new().with_prefix();
        let accounts = client(t).await?.get("account/", Some(all)).await?;
        let balances = accounts
            .kvs()
            .iter()
            .map(|kv| Ok(kv.value_str()?.parse::<i64>()?));
        let sum: i64 = balances.collect::<Result<Vec<_>>>()?.iter().sum();
        expect("the sum", sum, 0)
    })
}

#[test]
fn etcdctl_and_the_crate_exclude_each_other() -> Result<()> {
    check(async |t| {
        let session = session(t).await?;
        let guard = Mutex::new(&session, "shared").lock().await?;
        let mut command = Command::new(reference_binary("etcdctl")?);
        command
            .arg("--endpoints")
            .arg(t.url())
            .args(["lock", "shared"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut go = command.kill_on_drop(true).spawn().context("etcdctl")?;
        let mut lines = BufReader::new(go.stdout.take().context("its output")?).lines();
        wait_for_keys(t, "shared/", 2).await?;
        let early = timeout(MOMENT, lines.next_line()).await;
        ensure!(early.is_err(), "etcdctl has the lock too: {early:?}");
        guard.unlock().await?;
        let key = timeout(PATIENCE, lines.next_line())
            .await
            .context("etcdctl locks")??;
        ensure!(key.context("a key")?.starts_with("shared/"));
        let mutex = Mutex::new(&session, "shared");
        ensure!(mutex.try_lock().await?.is_none(), "etcdctl holds it");
        go.kill().await?;
        // Its lease goes with it at the latest after a minute; who waits for that here has the patience.
        let lease = client(t).await?.lease_client().leases().await?;
        for lease in lease
            .leases()
            .iter()
            .filter(|lease| lease.id() != session.lease())
        {
            client(t).await?.lease_client().revoke(lease.id()).await?;
        }
        let guard = timeout(PATIENCE, mutex.lock()).await.context("freed")??;
        guard.unlock().await?;
        Ok(())
    })
}
