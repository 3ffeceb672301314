//! `/debug/vars`: etcd's published variables, as far as they have a meaning here.

use rustix::process::{Resource, getrlimit};
use serde_json::json;

use crate::door::Door;

/// One variable a line, in the order of their names. Go's `memstats` has no counterpart and is left out.
pub(super) fn page(door: &Door) -> String {
    let variables = [
        ("cmdline", json!(door.options.command_line)),
        (
            "file_descriptor_limit",
            json!(getrlimit(Resource::Nofile).current),
        ),
        ("raft.status", raft_status(door)),
    ];
    let lines: Vec<_> = variables
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value}"))
        .collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn raft_status(door: &Door) -> serde_json::Value {
    let status = door.node.status();
    let state = match status.leader {
        leader if leader == status.member_id => "StateLeader",
        0 => "StateCandidate",
        _ => "StateFollower",
    };
    json!({
        "id": format!("{:x}", status.member_id),
        "term": status.term,
        "commit": status.committed_index,
        "lead": format!("{:x}", status.leader),
        "raftState": state,
        "applied": status.applied_index,
    })
}
