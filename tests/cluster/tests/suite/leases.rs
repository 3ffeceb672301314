//! A hundred thousand leases that run out at once, on three members: none early, none forgotten, nobody waits.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use metastore_cluster_tests::client::{lazy, put, until};
use metastore_harness::{Clients, Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseLeasesRequest, PutRequest, RangeRequest,
};

const LEASES: i64 = 100_000;
/// One in so many has a key.
const KEYED: i64 = 100;
const TTL: i64 = 40;
const AT_ONCE: usize = 256;
/// No put may take longer meanwhile. The test's clients and three members share a machine of two cores.
const PATIENCE: Duration = Duration::from_secs(1);

/// Grants them all, through all members; when the last was asked for.
async fn grant(members: &[Clients]) -> Result<Instant> {
    let grants = futures::stream::iter(1..=LEASES).map(|id| {
        let mut clients = members[id as usize % members.len()].clone();
        async move {
            clients
                .lease
                .lease_grant(LeaseGrantRequest { id, ttl: TTL })
                .await?;
            if id % KEYED == 0 {
                let key = format!("leased/{id:06}");
                let put = PutRequest {
                    lease: id,
                    ..put(key, "v")
                };
                clients.kv.put(put).await?;
            }
            anyhow::Ok(())
        }
    });
    grants.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(Instant::now())
}

async fn leased_keys(clients: &mut Clients) -> Result<i64> {
    let keys = RangeRequest {
        key: "leased/".into(),
        range_end: "leased0".into(),
        count_only: true,
        ..RangeRequest::default()
    };
    Ok(clients.kv.range(keys).await?.into_inner().count)
}

async fn all_leases(clients: &mut Clients) -> Result<usize> {
    let answer = clients.lease.lease_leases(LeaseLeasesRequest {}).await?;
    Ok(answer.into_inner().leases.len())
}

/// Puts one after the other until `end`; the longest that one took.
async fn longest_put(
    mut clients: Clients,
    end: impl Future<Output = Result<()>>,
) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    tokio::pin!(end);
    loop {
        let since = Instant::now();
        tokio::select! {
            ended = &mut end => {
                ended?;
                // The one under way has waited too.
                return Ok(longest.max(since.elapsed()));
            }
            answer = clients.kv.put(put("other", "v")) => answer?,
        };
        longest = longest.max(since.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_leases_run_out_and_nobody_waits() -> Result<()> {
    let cluster = Cluster::start(&Spec::new(Target::MetaStore(Engine::RocksDb), 3)).await?;
    let urls = cluster
        .members()
        .iter()
        .map(|member| lazy(member.client_url()));
    let members: Vec<Clients> = urls.collect::<Result<_>>()?;
    let first = Instant::now();
    let last = grant(&members).await?;
    ensure!(
        first.elapsed() < Duration::from_secs(TTL as u64 - 5),
        "granting took {:?}, nearly as long as the leases live",
        first.elapsed()
    );
    let (mut looker, mut counter) = (members[0].clone(), members[1].clone());
    ensure!(
        leased_keys(&mut looker).await? == LEASES / KEYED,
        "one has gone already"
    );
    let run_out = async {
        // Nothing goes before the first is due.
        while first.elapsed() < Duration::from_secs(TTL as u64) {
            let count = leased_keys(&mut looker).await?;
            let leases = all_leases(&mut looker).await?;
            let after = first.elapsed();
            ensure!(
                count == LEASES / KEYED && leases == LEASES as usize
                    || after >= Duration::from_secs(TTL as u64),
                "{leases} leases and {count} keys are left after {after:?}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        until("all leases run out", Duration::from_secs(40), async || {
            let leases = all_leases(&mut counter.clone()).await?;
            ensure!(leases == 0, "{leases} are left");
            Ok(())
        })
        .await
    };
    let longest = longest_put(members[2].clone(), run_out).await?;
    let took = last
        .elapsed()
        .saturating_sub(Duration::from_secs(TTL as u64));
    eprintln!(
        "the last of {LEASES} leases was gone {took:?} after it was due; longest put {longest:?}"
    );
    ensure!(longest < PATIENCE, "a put took {longest:?}");
    ensure!(
        took < Duration::from_secs(20),
        "the last one was gone {took:?} after it was due"
    );
    let left = leased_keys(&mut counter).await.context("count keys")?;
    ensure!(left == 0, "{left} keys are left");
    Ok(())
}
