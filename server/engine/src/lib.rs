//! metastore-engine
