//! A put, alone or in a transaction (etcd: `server/etcdserver/txn/put.go`).

use metastore_mvcc as mvcc;
use metastore_mvcc::{Prior, Txn};
use metastore_proto::etcdserverpb::PutRequest;

use crate::fault::Halt;
use crate::view::Tables;
use crate::{Applied, Error, Response, StateMachine};

pub(super) fn apply(
    machine: &mut StateMachine,
    request: &PutRequest,
    answers: bool,
) -> Result<Applied, Halt> {
    let mut txn = machine.writer.begin();
    check(&txn, &machine.tables, request)?;
    let prior = write(&mut txn, &machine.tables, request)?;
    let prev = if answers && request.prev_kv {
        txn.resolve(&prior.prev)?
    } else {
        None
    };
    let revision = txn.commit();
    Ok(Applied {
        revision,
        response: Response::Put { prev },
    })
}

/// Refuses a put that cannot be carried out; afterwards [`write`] does not fail for the request's sake.
pub(super) fn check(txn: &Txn<'_>, tables: &Tables, request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.lease != 0 && !tables.leases.read().contains(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    if keeps(request) && txn.meta(&request.key).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Whether something of the key as it is now is to be kept.
pub(super) fn keeps(request: &PutRequest) -> bool {
    request.ignore_value || request.ignore_lease
}

/// Counts the range with which etcd looks for what a put keeps or shows.
pub(super) fn note_range(txn: &Txn<'_>, request: &PutRequest) {
    if request.prev_kv || keeps(request) {
        txn.note_range();
    }
}

/// Writes the key and moves it from its old lease to the new one. A value or lease to be kept is there: that was checked.
pub(super) fn write(
    txn: &mut Txn<'_>,
    tables: &Tables,
    request: &PutRequest,
) -> Result<Prior, mvcc::Error> {
    note_range(txn, request);
    let lease = if request.ignore_lease {
        txn.meta(&request.key).map_or(0, |meta| meta.lease)
    } else {
        request.lease
    };
    let prior = if request.ignore_value {
        let value = present_value(txn, &request.key)?;
        txn.put(&request.key, value, lease)
    } else {
        txn.put(&request.key, &request.value, lease)
    };
    let old = prior.meta.map_or(0, |meta| meta.lease);
    if old != lease {
        tables.leases.write().move_key(&request.key, old, lease);
    }
    Ok(prior)
}

fn present_value(txn: &Txn<'_>, key: &[u8]) -> Result<Vec<u8>, mvcc::Error> {
    let mut value = Ok(Vec::new());
    txn.visit(key, &[], &mut |found| {
        value = found.value();
        std::ops::ControlFlow::Break(())
    })?;
    value
}
