//! The alarms that are raised (etcd: `server/etcdserver/api/v3alarm`).
//!
//! Promises: at most one alarm of a kind per member, listed by kind and member. Must not know what an alarm forbids:
//! that is the gates' business.

use std::collections::BTreeSet;

use metastore_proto::etcdserverpb::{AlarmMember, AlarmType};

/// The alarms, as pairs of kind and member.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Raises an alarm; false when it was raised already.
    pub(crate) fn raise(&mut self, kind: i32, member: u64) -> bool {
        self.raised.insert((kind, member))
    }

    /// Disarms an alarm; false when it was not raised.
    pub(crate) fn disarm(&mut self, kind: i32, member: u64) -> bool {
        self.raised.remove(&(kind, member))
    }

    /// Whether any member has raised an alarm of this kind.
    pub(crate) fn any(&self, kind: AlarmType) -> bool {
        let kind = kind as i32;
        self.raised
            .range((kind, 0)..=(kind, u64::MAX))
            .next()
            .is_some()
    }

    /// The alarms of a kind; those of all kinds for `NONE`.
    pub(crate) fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let all = kind == AlarmType::None as i32;
        self.raised
            .iter()
            .filter(|(raised, _)| all || *raised == kind)
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_raised_once_per_kind_and_member() {
        let (space, corrupt) = (AlarmType::Nospace as i32, AlarmType::Corrupt as i32);
        let mut alarms = Alarms::default();
        assert!(alarms.raise(corrupt, 1));
        assert!(alarms.raise(space, u64::MAX));
        assert!(!alarms.raise(space, u64::MAX));
        assert!(alarms.any(AlarmType::Nospace) && alarms.any(AlarmType::Corrupt));
        assert_eq!(alarms.list(0).len(), 2);
        assert_eq!(
            alarms.list(corrupt),
            [AlarmMember {
                member_id: 1,
                alarm: corrupt
            }]
        );
        assert!(alarms.disarm(space, u64::MAX));
        assert!(!alarms.disarm(space, u64::MAX));
        assert!(!alarms.any(AlarmType::Nospace));
    }
}
