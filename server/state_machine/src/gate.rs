//! What is asked of every command before it is carried out.
//!
//! Promises: the gates are asked in the order of [`GATES`], the first refusal counts, and a gate changes nothing. A gate sees the whole
//! command, so who asks (`Command::caller`) is known here too: permissions are gates of their own, behind those
//! of the alarms. etcd's order is corrupt, capped, auth (`apply/uber_applier.go`).

use metastore_proto::commandpb::Command;
use metastore_proto::commandpb::command::Request;
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{AlarmType, RequestOp, TxnRequest};

use crate::Error;
use crate::alarm::Alarms;

/// Whether a command may pass.
type Gate = fn(Standing, &Command) -> Result<(), Error>;

/// The gates, in the order in which they are asked.
pub(crate) const GATES: [Gate; 2] = [corruption, space];

/// What the gates look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    corrupt: bool,
    no_space: bool,
}

impl Standing {
    /// What the alarms say.
    pub(crate) fn of(alarms: &Alarms) -> Self {
        Self {
            corrupt: alarms.any(AlarmType::Corrupt),
            no_space: alarms.any(AlarmType::Nospace),
        }
    }
}

/// While members disagree about the data, nothing touches keys and leases (etcd: `apply/corrupt.go`).
fn corruption(standing: Standing, command: &Command) -> Result<(), Error> {
    if !standing.corrupt {
        return Ok(());
    }
    match &command.request {
        Some(
            Request::Put(_)
            | Request::DeleteRange(_)
            | Request::Txn(_)
            | Request::Compaction(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_),
        ) => Err(Error::Corrupt),
        Some(
            Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::MemberAttributes(_)
            | Request::ClusterVersion(_),
        )
        | None => Ok(()),
    }
}

/// While the quota is used up, nothing that takes space passes (etcd: `apply/capped.go`).
fn space(standing: Standing, command: &Command) -> Result<(), Error> {
    if !standing.no_space {
        return Ok(());
    }
    match &command.request {
        Some(Request::Put(_) | Request::LeaseGrant(_)) => Err(Error::NoSpace),
        Some(Request::Txn(request)) if may_put(request) => Err(Error::NoSpace),
        _ => Ok(()),
    }
}

/// Whether either branch, or a transaction in it, holds a put.
fn may_put(request: &TxnRequest) -> bool {
    let puts = |operation: &RequestOp| match &operation.request {
        Some(Operation::RequestPut(_)) => true,
        Some(Operation::RequestTxn(nested)) => may_put(nested),
        _ => false,
    };
    request.success.iter().any(puts) || request.failure.iter().any(puts)
}
