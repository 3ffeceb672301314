//! metastore-node
