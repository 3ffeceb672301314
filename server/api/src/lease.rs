//! The Lease service (`server/etcdserver/api/v3rpc/lease.go`).

use bytes::Bytes;
use metastore_node::Error as NodeError;
use metastore_proto::commandpb::command::Request;
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use metastore_state_machine::Response;

use crate::door::Door;
use crate::encoded::Encoded;
use crate::grpc::{Inbox, Outbox, decode, decode_streamed};
use crate::kv::unexpected;
use crate::metrics::RequestKind;
use crate::status::Refusal;

/// The time to live of a lease that does not exist.
const NO_LEASE: i64 = -1;

impl Door {
    /// Lease.LeaseGrant: chooses an id if none is asked for; the shortest TTL is this member's.
    pub(crate) async fn lease_grant(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let mut request: LeaseGrantRequest = decode(message)?;
        while request.id == 0 {
            request.id = self.node.new_lease_id();
        }
        request.ttl = request.ttl.max(self.node.min_lease_ttl());
        let request = Request::LeaseGrant(request);
        self.node.check_quota(&request).await?;
        let applied = self.propose(RequestKind::LeaseGrant, request, size).await?;
        let Response::LeaseGrant { id, ttl } = applied.response else {
            return Err(unexpected(&applied.response));
        };
        Ok(Encoded::of(&LeaseGrantResponse {
            header: Some(self.node.header(applied.revision)),
            id,
            ttl,
            error: String::new(),
        }))
    }

    /// Lease.LeaseRevoke.
    pub(crate) async fn lease_revoke(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request: LeaseRevokeRequest = decode(message)?;
        let request = Request::LeaseRevoke(request);
        let applied = self
            .propose(RequestKind::LeaseRevoke, request, size)
            .await?;
        Ok(Encoded::of(&LeaseRevokeResponse {
            header: Some(self.node.header(applied.revision)),
        }))
    }

    /// Lease.LeaseKeepAlive: answers each request in turn; a lease that is gone has a TTL of 0.
    pub(crate) async fn lease_keep_alive(
        &self,
        mut inbox: Inbox,
        mut outbox: Outbox,
    ) -> Result<(), Refusal> {
        let failed = |refusal: &Refusal| self.metrics.stream_failed("lease-keepalive", refusal);
        while let Some(message) = inbox.next().await.inspect_err(failed)? {
            let LeaseKeepAliveRequest { id } = decode_streamed(message).inspect_err(failed)?;
            // Before the renewal: a lease revoked at a revision must not seem alive at it.
            let header = self.header_now();
            let ttl = match self.node.lease_renew(id).await {
                Ok(ttl) => ttl,
                Err(NodeError::LeaseNotFound) => 0,
                Err(error) => return Err(error.into()),
            };
            let answer = LeaseKeepAliveResponse {
                header: Some(header),
                id,
                ttl,
            };
            outbox.send(Encoded::of(&answer)).await;
        }
        Ok(())
    }

    /// Lease.LeaseTimeToLive: a TTL of -1 for a lease that does not exist.
    pub(crate) async fn lease_time_to_live(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let request: LeaseTimeToLiveRequest = decode(message)?;
        let mut answer = LeaseTimeToLiveResponse {
            id: request.id,
            ttl: NO_LEASE,
            ..Default::default()
        };
        match self.node.lease_remaining(request.id).await {
            Ok(seconds) => {
                let view = self.node.view();
                answer.ttl = seconds;
                answer.granted_ttl = view.lease(request.id).map_or(0, |lease| lease.ttl);
                if request.keys {
                    let keys = view.lease_keys(request.id).unwrap_or_default();
                    answer.keys = keys.into_iter().map(Bytes::from).collect();
                }
            }
            Err(NodeError::LeaseNotFound) => {}
            Err(error) => return Err(error.into()),
        }
        answer.header = Some(self.header_now());
        Ok(Encoded::of(&answer))
    }

    /// Lease.LeaseLeases.
    pub(crate) fn lease_leases(&self) -> Result<Encoded, Refusal> {
        let ids = self.node.lease_ids().into_iter();
        Ok(Encoded::of(&LeaseLeasesResponse {
            header: Some(self.header_now()),
            leases: ids.map(|id| LeaseStatus { id }).collect(),
        }))
    }

    /// A header that says the store's revision as it is.
    pub(crate) fn header_now(&self) -> ResponseHeader {
        self.node.header(self.node.store().revision())
    }
}
