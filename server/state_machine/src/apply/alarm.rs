//! Alarms: read, raised, disarmed (etcd: `apply/backend.go`).

use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};

use crate::effect::Effect;
use crate::fault::Halt;
use crate::gate::Standing;
use crate::{Applied, Response, StateMachine, system};

pub(super) fn apply(machine: &mut StateMachine, request: &AlarmRequest) -> Result<Applied, Halt> {
    let concerned = AlarmMember {
        member_id: request.member_id,
        alarm: request.alarm,
    };
    let alarms = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => machine.tables.alarms.read().list(request.alarm),
        Ok(AlarmAction::Activate) if request.alarm == AlarmType::None as i32 => Vec::new(),
        Ok(AlarmAction::Activate) => {
            change(machine, &concerned, true);
            vec![concerned]
        }
        Ok(AlarmAction::Deactivate) if change(machine, &concerned, false) => vec![concerned],
        Ok(AlarmAction::Deactivate) | Err(_) => Vec::new(),
    };
    Ok(Applied {
        revision: machine.store.revision(),
        response: Response::Alarm { alarms },
    })
}

/// Raises or disarms an alarm; false when it was so already.
fn change(machine: &mut StateMachine, concerned: &AlarmMember, raise: bool) -> bool {
    let (kind, member) = (concerned.alarm, concerned.member_id);
    let mut alarms = machine.tables.alarms.write();
    let changed = if raise {
        alarms.raise(kind, member)
    } else {
        alarms.disarm(kind, member)
    };
    if !changed {
        return false;
    }
    machine.standing = Standing::of(&alarms);
    drop(alarms);
    let name = system::alarm_name(kind, member);
    let mut txn = machine.writer.begin();
    if raise {
        txn.put_system(&name, &[]);
    } else {
        txn.delete_system(&name);
    }
    txn.commit();
    machine.unpublished.push(Effect::AlarmsChanged);
    true
}
