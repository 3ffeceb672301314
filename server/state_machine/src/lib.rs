//! metastore-state-machine
