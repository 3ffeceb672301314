//! What a new leader knows of leases with `--feature-gates=LeaseCheckpoint=true`.
//!
//! etcd writes remainders down five minutes after a lease was granted, and no flag changes that. So this takes longer
//! than all other cases, and nearly all of it is waiting.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use metastore_conformance::{Session, Setup, check_with};
use metastore_proto::etcdserverpb::LeaseTimeToLiveRequest;

use crate::cluster::another_leader;

/// When the remainders of the leases have been written down, on a busy machine too.
const WRITTEN: Duration = Duration::from_secs(320);
const GRANTED: i64 = 900;

async fn left(t: &Session, id: i64) -> Result<i64> {
    let request = LeaseTimeToLiveRequest { id, keys: false };
    let quiet = t.unrecorded();
    let start = Instant::now();
    loop {
        match quiet.lease_time_to_live(request).await {
            Ok(answer) => return Ok(answer.ttl),
            Err(status) => ensure!(
                start.elapsed() < Duration::from_secs(60),
                "no answer about lease {id}: {status:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn a_new_leader_goes_on_with_what_was_left_of_a_lease() -> Result<()> {
    let setup = Setup::three()
        .flags(&["--feature-gates=LeaseCheckpoint=true"])
        .within(WRITTEN + Duration::from_secs(180));
    check_with(&setup, async |t| {
        t.lease_grant(GRANTED, 1).await?;
        t.lease_grant(GRANTED, 2).await?;
        tokio::time::sleep(WRITTEN).await;
        // A renewal makes what was written down void.
        t.keep_alive().renew(2).await?;
        let leader = t.cluster().await.leader().await?;
        t.cluster().await.member(leader).kill()?;
        another_leader(t, leader).await?;
        let (first, second) = (left(t, 1).await?, left(t, 2).await?);
        let written_at = GRANTED - 300;
        ensure!(
            (written_at - 60..=written_at + 10).contains(&first),
            "of a lease that was not renewed {first} s are left"
        );
        ensure!(
            (GRANTED - 60..=GRANTED + 10).contains(&second),
            "of a lease that was renewed {second} s are left"
        );
        Ok(())
    })
}
