//! metastore-mvcc
