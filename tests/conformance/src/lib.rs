//! metastore-conformance
