//! The Maintenance service (`server/etcdserver/api/v3rpc/maintenance.go`).

use bytes::Bytes;
use metastore_proto::commandpb::command::Request;
use metastore_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentResponse, DowngradeInfo,
    HashKvRequest, HashKvResponse, HashResponse, StatusResponse,
};
use metastore_state_machine::Response;

use crate::door::Door;
use crate::encoded::Encoded;
use crate::grpc::decode;
use crate::kv::unexpected;
use crate::metrics::RequestKind;
use crate::status::{self, Refusal};

impl Door {
    /// Maintenance.Status.
    pub(crate) fn status(&self) -> Encoded {
        let status = self.node.status();
        let versions = self.node.versions();
        let store = self.node.store();
        let mut errors = Vec::new();
        if !status.has_leader() {
            errors.push(status::NO_LEADER.text().to_owned());
        }
        errors.extend(
            self.node
                .view()
                .alarms(AlarmType::None)
                .iter()
                .map(describe),
        );
        Encoded::of(&StatusResponse {
            header: Some(self.header_now()),
            version: versions.server.clone(),
            db_size: bytes(store.logical_bytes()),
            leader: status.leader,
            raft_index: status.committed_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: bytes(store.in_use_bytes()),
            is_learner: status.is_learner,
            storage_version: versions.cluster_version(),
            db_size_quota: quota(self.node.limits().quota_backend_bytes),
            downgrade_info: Some(DowngradeInfo::default()),
        })
    }

    /// Maintenance.Alarm: reads, raises or disarms alarms, through the log in each case.
    pub(crate) async fn alarm(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request: AlarmRequest = decode(message)?;
        let applied = self
            .propose(RequestKind::Alarm, Request::Alarm(request), size)
            .await?;
        let Response::Alarm { alarms } = applied.response else {
            return Err(unexpected(&applied.response));
        };
        Ok(Encoded::of(&AlarmResponse {
            header: Some(self.node.header(applied.revision)),
            alarms,
        }))
    }

    /// Maintenance.Defragment. etcd's answer has no header.
    pub(crate) async fn defragment(&self) -> Result<Encoded, Refusal> {
        tracing::info!("starting defragment");
        if let Err(error) = self.node.defragment().await {
            tracing::warn!(%error, "failed to defragment");
            return Err(error.into());
        }
        tracing::info!("finished defragment");
        Ok(Encoded::of(&DefragmentResponse::default()))
    }

    /// Maintenance.Hash.
    pub(crate) async fn hash(&self) -> Result<Encoded, Refusal> {
        let header = self.header_now();
        let hash = self.node.hash().await?;
        Ok(Encoded::of(&HashResponse {
            header: Some(header),
            hash,
        }))
    }

    /// Maintenance.HashKV.
    pub(crate) async fn hash_kv(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let request: HashKvRequest = decode(message)?;
        let hash = self.node.hash_kv(request.revision).await?;
        Ok(Encoded::of(&HashKvResponse {
            header: Some(self.node.header(hash.current_revision)),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }))
    }
}

/// An alarm in protobuf's text form, as it stands in etcd's `errors`.
fn describe(alarm: &AlarmMember) -> String {
    format!(
        "memberID:{} alarm:{}",
        alarm.member_id,
        alarm.alarm().as_str_name()
    )
}

/// The quota as etcd tells it: -1 where there is none.
fn quota(limit: u64) -> i64 {
    if limit == 0 { -1 } else { bytes(limit) }
}

fn bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_reads_as_in_etcd() {
        let alarm = AlarmMember {
            member_id: 10_276_657_743_932_975_437,
            alarm: AlarmType::Nospace as i32,
        };
        assert_eq!(
            describe(&alarm),
            "memberID:10276657743932975437 alarm:NOSPACE"
        );
    }
}
