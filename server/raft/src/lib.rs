//! metastore-raft
