//! metastore-api
