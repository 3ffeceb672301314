//! A compaction: in force at once, its space given back later (etcd: `apply/backend.go`).

use metastore_proto::etcdserverpb::CompactionRequest;

use crate::fault::Halt;
use crate::{Applied, CompactionHandle, Response, StateMachine};

pub(super) fn apply(
    machine: &mut StateMachine,
    request: &CompactionRequest,
) -> Result<Applied, Halt> {
    machine.writer.compact(request.revision)?;
    let done = CompactionHandle {
        store: machine.store.clone(),
        revision: request.revision,
    };
    Ok(Applied {
        revision: machine.store.revision(),
        response: Response::Compaction { done },
    })
}
