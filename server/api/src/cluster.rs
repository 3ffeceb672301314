//! The Cluster service (`server/etcdserver/api/v3rpc/member.go`).

use bytes::Bytes;
use metastore_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::door::Door;
use crate::encoded::Encoded;
use crate::grpc::decode;
use crate::status::Refusal;

impl Door {
    /// Cluster.MemberList. The header has no revision, as etcd's.
    pub(crate) async fn member_list(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let request: MemberListRequest = decode(message)?;
        if request.linearizable {
            self.node.read_barrier().await?;
        }
        Ok(Encoded::of(&MemberListResponse {
            header: Some(self.node.header(0)),
            members: self.node.view().members().iter().cloned().collect(),
        }))
    }
}
