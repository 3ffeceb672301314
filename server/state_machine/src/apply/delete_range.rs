//! A range deletion, alone or in a transaction (etcd: `server/etcdserver/txn/delete.go`).

use metastore_mvcc as mvcc;
use metastore_mvcc::{Deleted, Txn};
use metastore_proto::etcdserverpb::DeleteRangeRequest;

use crate::fault::Halt;
use crate::view::Tables;
use crate::{Applied, Response, StateMachine};

pub(super) fn apply(
    machine: &mut StateMachine,
    request: &DeleteRangeRequest,
    answers: bool,
) -> Result<Applied, Halt> {
    let mut txn = machine.writer.begin();
    let deleted = write(&mut txn, &machine.tables, request, answers)?;
    let revision = txn.commit();
    Ok(Applied {
        revision,
        response: Response::DeleteRange {
            deleted: deleted.count,
            prev_kvs: deleted.kvs,
        },
    })
}

/// Deletes the keys and takes them off their leases; collects them only for an answer.
pub(super) fn write(
    txn: &mut Txn<'_>,
    tables: &Tables,
    request: &DeleteRangeRequest,
    answers: bool,
) -> Result<Deleted, mvcc::Error> {
    if request.prev_kv {
        txn.note_range();
    }
    let collect = answers && request.prev_kv;
    let deleted = txn.delete_range(&request.key, &request.range_end, collect)?;
    if !deleted.leased.is_empty() {
        let mut leases = tables.leases.write();
        for (key, lease) in &deleted.leased {
            leases.detach(*lease, key);
        }
    }
    Ok(deleted)
}
