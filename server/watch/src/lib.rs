//! metastore-watch
