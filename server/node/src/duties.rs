//! What the leader does without being asked, and what each member does for its own.

mod auto_compaction;
mod cluster_version;
mod lease_checkpoint;
mod lease_expiry;
mod leases;

pub(crate) use auto_compaction::{compact_by_revision, compact_by_time};
pub(crate) use cluster_version::set_cluster_version;
pub(crate) use lease_checkpoint::checkpoint_leases;
pub(crate) use lease_expiry::expire_leases;
pub(crate) use leases::follow_leases;
