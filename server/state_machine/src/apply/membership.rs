//! What members publish of themselves, and the version of their cluster (etcd: `apply/backend.go`).

use std::sync::Arc;

use metastore_proto::commandpb::{ClusterVersion, MemberAttributes};
use prost::Message;

use crate::effect::Effect;
use crate::fault::Halt;
use crate::membership::is_version;
use crate::{Applied, Error, Response, StateMachine, system};

/// Notes a member's name and client urls; those of an unknown or removed member are let go by.
pub(super) fn attributes(
    machine: &mut StateMachine,
    request: &MemberAttributes,
) -> Result<Applied, Halt> {
    let published = machine.tables.members.read().with_attributes(request);
    if let Some(member) = published {
        let name = system::name_of_id(system::MEMBER, member.id);
        let mut txn = machine.writer.begin();
        txn.put_system(&name, &member.encode_to_vec());
        txn.commit();
        let mut members = machine.tables.members.write();
        Arc::make_mut(&mut members).by_id.insert(member.id, member);
        machine.unpublished.push(Effect::MembersChanged);
    }
    Ok(empty(machine))
}

/// Sets the cluster's version.
pub(super) fn cluster_version(
    machine: &mut StateMachine,
    request: &ClusterVersion,
) -> Result<Applied, Halt> {
    if !is_version(&request.version) {
        return Err(Error::MalformedVersion.into());
    }
    let mut txn = machine.writer.begin();
    txn.put_system(system::CLUSTER_VERSION, request.version.as_bytes());
    txn.commit();
    let mut members = machine.tables.members.write();
    Arc::make_mut(&mut members).cluster_version = Some(request.version.clone());
    drop(members);
    machine.unpublished.push(Effect::ClusterVersionChanged);
    Ok(empty(machine))
}

fn empty(machine: &StateMachine) -> Applied {
    Applied {
        revision: machine.store.revision(),
        response: Response::Empty,
    }
}
