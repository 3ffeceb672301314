//! metastore-harness
