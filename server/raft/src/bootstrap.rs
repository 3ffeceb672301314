//! How a member begins: a blank one founds the cluster, or waits for the log of one that runs; another one goes on.

use std::sync::Arc;
use std::time::Duration;

use metastore_proto::peerpb::{HelloRequest, HelloResponse};
use tokio::runtime::Handle;

use crate::error::StartError;
use crate::first_election;
use crate::group::Group;
use crate::peers::stranger;
use crate::raft::Options;

/// How long another member may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// A blank member founds the cluster, unless it finds it running; one with a log sees to a leader.
///
/// Members that start together must not all stand for election at once, so they take turns by rank.
pub(crate) async fn run(
    group: &Arc<Group>,
    runtime: &Handle,
    options: &Options,
) -> Result<(), StartError> {
    let initialized = group.raft.is_initialized().await;
    if initialized.map_err(|error| StartError::Other(error.to_string()))? {
        if options.early_election {
            runtime.spawn(first_election::run(
                group.clone(),
                options.cluster_id,
                options.election,
                options.heartbeat,
            ));
        }
        return Ok(());
    }
    if options.initial_members.is_empty() {
        return Ok(());
    }
    if find_running_cluster(options).await? {
        return Ok(());
    }
    let rank = options
        .initial_members
        .keys()
        .position(|id| *id == options.member_id)
        .unwrap_or(0);
    let (group, members) = (group.clone(), options.initial_members.clone());
    let turn = options.election * 2 * u32::try_from(rank).unwrap_or(u32::MAX);
    let found = async move {
        tokio::time::sleep(turn).await;
        // Refused when the log has come from the others meanwhile: then there is nothing to do.
        if let Err(error) = group.raft.initialize(members).await {
            tracing::debug!(error = %error, "the cluster was founded by another member");
        }
    };
    if rank == 0 {
        found.await
    } else {
        drop(runtime.spawn(found))
    }
    Ok(())
}

/// Asks the other members whether the cluster runs already.
async fn find_running_cluster(options: &Options) -> Result<bool, StartError> {
    let mut running = false;
    for (id, node) in options
        .initial_members
        .iter()
        .filter(|(id, _)| **id != options.member_id)
    {
        for url in &node.peer_urls {
            let mut client = stranger(options.connect.clone(), url.clone(), options.peer_silence);
            let question = HelloRequest {
                cluster_id: options.cluster_id,
                member_id: options.member_id,
            };
            let asked = tokio::time::timeout(PATIENCE, client.hello(question)).await;
            let Ok(Ok(answer)) = asked else { continue };
            let answer = answer.into_inner();
            judge(*id, &answer, options)?;
            running |= answer.initialized;
        }
    }
    Ok(running)
}

/// Whether this member may be one with another that has said who it is.
fn judge(id: u64, answer: &HelloResponse, options: &Options) -> Result<(), StartError> {
    if answer.cluster_id != options.cluster_id {
        return Err(StartError::Other(format!(
            "member {id:x} belongs to cluster {:x}, not {:x}",
            answer.cluster_id, options.cluster_id
        )));
    }
    // Also when that one is blank too: once there is a log, neither could change its engine any more.
    let ours = options.identity.engine();
    if answer.engine != ours {
        return Err(StartError::OtherEngine {
            member: id,
            theirs: answer.engine.clone(),
            ours: ours.to_owned(),
        });
    }
    // One that has seen this member before means that its data was lost: it must not vote again.
    if answer.asker_known {
        return Err(StartError::AlreadyBootstrapped(options.member_id));
    }
    Ok(())
}
