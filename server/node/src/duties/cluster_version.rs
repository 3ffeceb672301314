//! The leader decides the cluster's version: the lowest that all members run, as etcd's monitor
//! does (server/etcdserver/version/monitor.go).

use std::time::Duration;

use metastore_proto::commandpb::{ClusterVersion, Command, command::Request};

use crate::node::Node;

/// How often it is looked at when nothing changes.
const LOOK: Duration = Duration::from_secs(4);

/// Runs until the member stops.
pub(crate) async fn set_cluster_version(node: Node) {
    let mut status = node.watch_status();
    while !node.is_stopped() {
        if status.borrow_and_update().is_leader()
            && node.view().members().cluster_version().is_none()
        {
            let version = node.versions().cluster_version();
            let request = Request::ClusterVersion(ClusterVersion { version });
            if let Err(error) = node
                .propose(Command {
                    caller: None,
                    request: Some(request),
                })
                .await
            {
                tracing::debug!(error = %error, "the cluster version could not be set yet");
            }
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
