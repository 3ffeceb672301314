//! Leases: granted, revoked with their keys, checkpointed (etcd: `server/lease/lessor.go`).

use metastore_mvcc as mvcc;
use metastore_proto::etcdserverpb::{
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest,
};

use crate::effect::Effect;
use crate::fault::Halt;
use crate::lease::{LEASE_TTL_MAX_SECONDS, Lease};
use crate::{Applied, Error, Fault, Response, StateMachine, system};

/// Grants a lease. Its id, and a time to live not below the cluster's minimum, were chosen before the proposal.
pub(super) fn grant(
    machine: &mut StateMachine,
    request: &LeaseGrantRequest,
) -> Result<Applied, Halt> {
    let (id, ttl) = (request.id, request.ttl);
    if id == 0 {
        return Err(Error::LeaseNotFound.into());
    }
    if ttl > LEASE_TTL_MAX_SECONDS {
        return Err(Error::LeaseTtlTooLarge.into());
    }
    if machine.tables.leases.read().contains(id) {
        return Err(Error::LeaseExists.into());
    }
    let mut txn = machine.writer.begin();
    txn.put_system(&system::lease_name(id), &system::lease_row(ttl, 0));
    let revision = txn.commit();
    machine.tables.leases.write().grant(Lease {
        id,
        ttl,
        remaining: 0,
    });
    machine.unpublished.push(Effect::LeaseGranted { id, ttl });
    Ok(Applied {
        revision,
        response: Response::LeaseGrant { id, ttl },
    })
}

/// Removes a lease, and its keys in ascending order as one transaction.
pub(super) fn revoke(
    machine: &mut StateMachine,
    request: &LeaseRevokeRequest,
) -> Result<Applied, Halt> {
    let id = request.id;
    let Some(keys) = machine.tables.leases.write().revoke(id) else {
        return Err(Error::LeaseNotFound.into());
    };
    let mut txn = machine.writer.begin();
    keys.try_each(|key| txn.delete_range(key, [], false).map(drop))
        .map_err(|error: mvcc::Error| Halt::Fault(Fault::Store(error)))?;
    txn.delete_system(&system::lease_name(id));
    let revision = txn.commit();
    machine.unpublished.push(Effect::LeaseRevoked { id });
    Ok(Applied {
        revision,
        response: Response::LeaseRevoke,
    })
}

/// Notes what remains of leases; those that do not exist any more are let go by.
pub(super) fn checkpoint(
    machine: &mut StateMachine,
    request: &LeaseCheckpointRequest,
) -> Result<Applied, Halt> {
    let mut txn = machine.writer.begin();
    for checkpoint in &request.checkpoints {
        let (id, remaining) = (checkpoint.id, checkpoint.remaining_ttl);
        let Some(lease) = machine.tables.leases.write().checkpoint(id, remaining) else {
            continue;
        };
        let row = system::lease_row(lease.ttl, remaining);
        txn.put_system(&system::lease_name(id), &row);
        let effect = Effect::LeaseCheckpointed { id, remaining };
        machine.unpublished.push(effect);
    }
    let revision = txn.commit();
    Ok(Applied {
        revision,
        response: Response::LeaseCheckpoint,
    })
}
