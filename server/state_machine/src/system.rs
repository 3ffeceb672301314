//! Every row that the state machine keeps in the key space `System`: name and bytes.
//!
//! | name | value | life |
//! |---|---|---|
//! | `lease/` id | ttl, remaining ttl (i64 BE each, seconds) | from grant to revoke |
//! | `alarm/` kind member | empty | from raise to disarm |
//! | `member/` id | encoded `etcdserverpb.Member` | while a member |
//! | `removed/` id | empty | for ever: an id is not used again |
//! | `cluster_id` | u64 BE | for ever |
//! | `cluster_version` | text, `major.minor.patch` | overwritten |
//! | `raft_membership` | the raft room's own | overwritten |
//!
//! Numbers in names are big-endian: 8 bytes for ids, 4 for an alarm's kind. The applied position is handed to mvcc, which
//! names its row itself: term, then index (u64 BE each).

use std::ops::ControlFlow;

use metastore_mvcc::Store;
use metastore_proto::etcdserverpb::Member;
use prost::Message;

use crate::{Fault, LogPosition};

pub(crate) const LEASE: &[u8] = b"lease/";
pub(crate) const ALARM: &[u8] = b"alarm/";
pub(crate) const MEMBER: &[u8] = b"member/";
pub(crate) const REMOVED: &[u8] = b"removed/";
pub(crate) const CLUSTER_ID: &[u8] = b"cluster_id";
pub(crate) const CLUSTER_VERSION: &[u8] = b"cluster_version";
pub(crate) const RAFT_MEMBERSHIP: &[u8] = b"raft_membership";

/// The name of a row that is known by an id.
pub(crate) fn name_of_id(prefix: &[u8], id: u64) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

/// The name of a lease's row.
pub(crate) fn lease_name(id: i64) -> Vec<u8> {
    name_of_id(LEASE, id.cast_unsigned())
}

/// A lease's row.
pub(crate) fn lease_row(ttl: i64, remaining: i64) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&ttl.to_be_bytes());
    row[8..].copy_from_slice(&remaining.to_be_bytes());
    row
}

/// The name of an alarm's row.
pub(crate) fn alarm_name(kind: i32, member: u64) -> Vec<u8> {
    [ALARM, &kind.to_be_bytes()[..], &member.to_be_bytes()[..]].concat()
}

/// The bytes of an applied position.
pub(crate) fn position_row(position: LogPosition) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&position.term.to_be_bytes());
    row[8..].copy_from_slice(&position.index.to_be_bytes());
    row
}

/// The inverse of [`position_row`].
pub(crate) fn read_position(row: &[u8]) -> Result<LogPosition, Fault> {
    let (term, index) = halves(row).ok_or_else(|| damaged(b"applied position"))?;
    Ok(LogPosition {
        term: u64::from_be_bytes(term),
        index: u64::from_be_bytes(index),
    })
}

/// Every lease: id, ttl, remaining ttl.
pub(crate) fn read_leases(store: &Store) -> Result<Vec<(i64, i64, i64)>, Fault> {
    read_rows(store, LEASE, |id, row| {
        let (ttl, remaining) = halves(row)?;
        let id = i64::from_be_bytes(id.try_into().ok()?);
        Some((id, i64::from_be_bytes(ttl), i64::from_be_bytes(remaining)))
    })
}

/// Every alarm: kind, member.
pub(crate) fn read_alarms(store: &Store) -> Result<Vec<(i32, u64)>, Fault> {
    read_rows(store, ALARM, |name, _| {
        let (kind, member) = name.split_first_chunk::<4>()?;
        let member = u64::from_be_bytes(member.try_into().ok()?);
        Some((i32::from_be_bytes(*kind), member))
    })
}

/// Every member.
pub(crate) fn read_members(store: &Store) -> Result<Vec<Member>, Fault> {
    read_rows(store, MEMBER, |id, row| {
        let id = u64::from_be_bytes(id.try_into().ok()?);
        Member::decode(row).ok().filter(|member| member.id == id)
    })
}

/// The ids of removed members.
pub(crate) fn read_removed(store: &Store) -> Result<Vec<u64>, Fault> {
    read_rows(store, REMOVED, |id, _| {
        Some(u64::from_be_bytes(id.try_into().ok()?))
    })
}

/// The id of the cluster that the store belongs to.
pub(crate) fn read_cluster_id(store: &Store) -> Result<Option<u64>, Fault> {
    let Some(row) = store.read_system(CLUSTER_ID)? else {
        return Ok(None);
    };
    let id = row.try_into().map_err(|_| damaged(CLUSTER_ID))?;
    Ok(Some(u64::from_be_bytes(id)))
}

/// The cluster's version.
pub(crate) fn read_cluster_version(store: &Store) -> Result<Option<String>, Fault> {
    let row = store.read_system(CLUSTER_VERSION)?;
    row.map(|row| String::from_utf8(row).map_err(|_| damaged(CLUSTER_VERSION)))
        .transpose()
}

/// Reads the rows under `prefix`; `read` gets the rest of the name and the value.
fn read_rows<T>(
    store: &Store,
    prefix: &[u8],
    read: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    let mut rows = Vec::new();
    let mut bad = None;
    store.scan_system(
        prefix,
        &mut |name, row| match read(&name[prefix.len()..], row) {
            Some(value) => {
                rows.push(value);
                ControlFlow::Continue(())
            }
            None => {
                bad = Some(damaged(name));
                ControlFlow::Break(())
            }
        },
    )?;
    bad.map_or(Ok(rows), Err)
}

fn halves(row: &[u8]) -> Option<([u8; 8], [u8; 8])> {
    let (first, second) = row.split_first_chunk::<8>()?;
    Some((*first, second.try_into().ok()?))
}

fn damaged(name: &[u8]) -> Fault {
    Fault::Damaged {
        row: name.escape_ascii().to_string(),
    }
}
