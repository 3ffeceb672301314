//! Killing members and bringing them back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_harness::{Cluster, Ending};
use metastore_proto::etcdserverpb::StatusRequest;

use crate::client::{lazy, until};
use crate::witness::Witnesses;

/// Who is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The member that leads.
    Leader,
    /// One that does not.
    Follower,
    /// As many as the others can do without, the leader among them.
    Minority,
    /// Every member at once.
    All,
}

/// The index of the member that leads, as the first that answers and knows one says.
pub async fn leader(cluster: &Cluster) -> Result<usize> {
    until("a leader", Duration::from_secs(30), async || {
        for member in cluster.members() {
            let mut clients = lazy(member.client_url())?;
            let asked = clients.maintenance.status(StatusRequest {});
            let Ok(Ok(status)) = tokio::time::timeout(Duration::from_secs(1), asked).await else {
                continue;
            };
            let leader = status.into_inner().leader;
            if let Some(at) = cluster.members().iter().position(|one| one.id() == leader) {
                return Ok(at);
            }
        }
        anyhow::bail!("nobody knows one")
    })
    .await
}

/// Kills members without warning; those that were hit.
pub async fn kill(cluster: &mut Cluster, victim: Victim) -> Result<Vec<usize>> {
    let all = cluster.members().len();
    let victims: Vec<usize> = match victim {
        Victim::All => (0..all).collect(),
        Victim::Leader => vec![leader(cluster).await?],
        Victim::Follower => vec![(leader(cluster).await? + 1) % all],
        Victim::Minority => {
            let leader = leader(cluster).await?;
            (0..(all - 1) / 2)
                .map(|next| (leader + next) % all)
                .collect()
        }
    };
    ensure!(!victims.is_empty(), "{all} members have no {victim:?}");
    for index in &victims {
        ensure!(
            cluster.member(*index).kill()? == Ending::Signal(9),
            "member {index} had ended by itself"
        );
    }
    Ok(victims)
}

/// Starts members that were killed and waits until each serves clients.
pub async fn revive(cluster: &mut Cluster, members: &[usize], witnesses: &Witnesses) -> Result<()> {
    for index in members {
        witnesses.restarts(*index);
        cluster.member(*index).launch()?;
    }
    for index in members {
        let member = cluster.member(*index);
        member
            .ready()
            .await
            .with_context(|| member.name().to_owned())?;
    }
    Ok(())
}
