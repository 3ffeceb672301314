//! A transaction (etcd: `server/etcdserver/txn/txn.go`).
//!
//! Promises etcd's three steps. First every compare is evaluated, those of nested transactions too, against the state before any
//! write. Then every operation on the branches taken is checked against that state, so that a refused transaction has
//! changed nothing. Then they are carried out, and ranges see what was written before them.

use std::ops::ControlFlow;
use std::slice;

use metastore_mvcc as mvcc;
use metastore_mvcc::{Order, Query, Target, Txn};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest, RequestOp, TxnRequest};

use super::{all_hold, delete_range, put};
use crate::fault::Halt;
use crate::view::Tables;
use crate::{Applied, Error, Fault, Response, StateMachine, answer};

/// Which branch each transaction takes: the outer one first, then the nested ones on that branch, depth first.
type Path<'a> = slice::Iter<'a, bool>;

pub(super) fn apply(
    machine: &mut StateMachine,
    request: &TxnRequest,
    answers: bool,
) -> Result<Applied, Halt> {
    let compacted = machine.store.compact_revision();
    let mut txn = machine.writer.begin();
    machine.path.clear();
    choose(&txn, request, &mut machine.path)?;
    let (path, tables) = (&machine.path, &machine.tables);
    let whole = Whole {
        tables,
        compacted,
        request,
        path,
    };
    if whole.check(&txn, request, &mut path.iter())? {
        whole.check_kept()?;
    }
    txn.end_reads();
    let mut body = answers.then(Vec::new);
    // What fails from here on is no property of the request: part of it may be written.
    execute(&mut txn, tables, request, &mut path.iter(), body.as_mut())
        .map_err(|error| Halt::Fault(Fault::Store(error)))?;
    Ok(Applied {
        revision: txn.commit(),
        response: Response::Txn {
            succeeded: path.first().is_some_and(|succeeded| *succeeded),
            body: body.unwrap_or_default(),
        },
    })
}

fn choose(txn: &Txn<'_>, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), mvcc::Error> {
    let succeeded = all_hold(txn, &request.compare)?;
    path.push(succeeded);
    for operation in branch(request, succeeded) {
        if let Some(Operation::RequestTxn(nested)) = &operation.request {
            choose(txn, nested, path)?;
        }
    }
    Ok(())
}

/// A transaction whose branches are chosen, and what its operations are checked against.
struct Whole<'a> {
    tables: &'a Tables,
    compacted: i64,
    request: &'a TxnRequest,
    path: &'a [bool],
}

impl Whole<'_> {
    /// Checks the operations on the branches taken by `part`, which is the transaction or one nested in it. Tells whether
    /// a put among them keeps a value or lease.
    fn check(&self, txn: &Txn<'_>, part: &TxnRequest, path: &mut Path<'_>) -> Result<bool, Error> {
        let mut keeps = false;
        for operation in branch(part, next(path)) {
            match &operation.request {
                Some(Operation::RequestRange(range)) => {
                    check_revision(range, txn.revision(), self.compacted)?;
                }
                Some(Operation::RequestPut(request)) => {
                    put::check(txn, self.tables, request)?;
                    put::note_range(txn, request);
                    keeps |= put::keeps(request);
                }
                Some(Operation::RequestTxn(nested)) => keeps |= self.check(txn, nested, path)?,
                Some(Operation::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(keeps)
    }

    /// Refuses to keep the value or lease of a key that the transaction itself deletes before. etcd does not ask this
    /// and crashes; so it comes after all that etcd asks.
    fn check_kept(&self) -> Result<(), Error> {
        let mut before: Vec<&Operation> = Vec::new();
        let mut kept = true;
        let _ = each(self.request, &mut self.path.iter(), &mut |operation| {
            if let Operation::RequestPut(put) = operation
                && put::keeps(put)
            {
                let last = before.iter().rev();
                kept = last
                    .copied()
                    .find_map(|one| leaves(one, &put.key))
                    .unwrap_or(true);
            }
            before.push(operation);
            if kept {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if kept {
            Ok(())
        } else {
            Err(Error::KeyNotFound)
        }
    }
}

/// Whether `key` exists after the operation; none where that is left as it was.
fn leaves(operation: &Operation, key: &[u8]) -> Option<bool> {
    match operation {
        Operation::RequestPut(put) => (put.key == key).then_some(true),
        Operation::RequestDeleteRange(deletion) => covers(deletion, key).then_some(false),
        Operation::RequestRange(_) | Operation::RequestTxn(_) => None,
    }
}

/// Visits the operations of the branches taken, those of nested transactions in their place.
fn each<'a>(
    request: &'a TxnRequest,
    path: &mut Path<'_>,
    visit: &mut dyn FnMut(&'a Operation) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for operation in branch(request, next(path)) {
        match &operation.request {
            Some(Operation::RequestTxn(nested)) => each(nested, path, visit)?,
            Some(operation) => visit(operation)?,
            None => {}
        }
    }
    ControlFlow::Continue(())
}

/// Whether a deletion takes `key` away.
fn covers(deletion: &DeleteRangeRequest, key: &[u8]) -> bool {
    match &*deletion.range_end {
        [] => deletion.key == key,
        [0] => *deletion.key <= *key,
        end => *deletion.key <= *key && key < end,
    }
}

/// Carries the branches out; ranges and previous values are read only for an answer.
fn execute(
    txn: &mut Txn<'_>,
    tables: &Tables,
    request: &TxnRequest,
    path: &mut Path<'_>,
    mut body: Option<&mut Vec<u8>>,
) -> Result<(), mvcc::Error> {
    let succeeded = next(path);
    if let Some(body) = &mut body {
        answer::succeeded(body, succeeded);
    }
    for operation in branch(request, succeeded) {
        match &operation.request {
            Some(Operation::RequestRange(range)) => {
                if let Some(body) = &mut body {
                    answer::range(body, &txn.range(&query_of(range))?);
                }
            }
            Some(Operation::RequestPut(request)) => {
                let prior = put::write(txn, tables, request)?;
                if let Some(body) = &mut body {
                    let prev = match request.prev_kv {
                        true => txn.resolve(&prior.prev)?,
                        false => None,
                    };
                    answer::put(body, txn.revision(), prev.as_deref());
                }
            }
            Some(Operation::RequestDeleteRange(request)) => {
                let deleted = delete_range::write(txn, tables, request, body.is_some())?;
                if let Some(body) = &mut body {
                    answer::delete_range(body, txn.revision(), deleted.count, &deleted.kvs);
                }
            }
            Some(Operation::RequestTxn(nested)) => {
                let mut inner = body.is_some().then(Vec::new);
                execute(txn, tables, nested, path, inner.as_mut())?;
                if let (Some(body), Some(inner)) = (&mut body, inner) {
                    answer::txn(body, &inner);
                }
            }
            None => {
                if let Some(body) = &mut body {
                    answer::nothing(body);
                }
            }
        }
    }
    Ok(())
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

fn next(path: &mut Path<'_>) -> bool {
    *path
        .next()
        .expect("choose has seen every nested transaction")
}

/// Refuses a range at a revision that `newest` and the compaction revision leave no room for.
pub(crate) fn check_revision(
    range: &RangeRequest,
    newest: i64,
    compacted: i64,
) -> Result<(), Error> {
    match range.revision {
        0 => Ok(()),
        revision if revision > newest => Err(Error::FutureRevision),
        revision if revision < compacted => Err(Error::Compacted),
        _ => Ok(()),
    }
}

/// The range as the store understands it. A sort that does not exist is none; the door refuses it.
pub(crate) fn query_of(range: &RangeRequest) -> Query {
    let target = SortTarget::try_from(range.sort_target);
    let order = SortOrder::try_from(range.sort_order);
    let (target, order) = match (target, order) {
        (Ok(target), Ok(order)) => (target, order),
        _ => (SortTarget::Key, SortOrder::None),
    };
    Query {
        key: range.key.clone(),
        end: range.range_end.clone(),
        limit: range.limit,
        revision: range.revision,
        order: match order {
            SortOrder::None => Order::None,
            SortOrder::Ascend => Order::Ascend,
            SortOrder::Descend => Order::Descend,
        },
        target: match target {
            SortTarget::Key => Target::Key,
            SortTarget::Version => Target::Version,
            SortTarget::Create => Target::Create,
            SortTarget::Mod => Target::Mod,
            SortTarget::Value => Target::Value,
        },
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod_revision,
        max_mod_revision: range.max_mod_revision,
        min_create_revision: range.min_create_revision,
        max_create_revision: range.max_create_revision,
    }
}
