//! The client's door: etcd's gRPC services and HTTP pages on the client's port.
//!
//! Promises etcd 3.7's texts, codes, headers, pages and metric names. It checks what comes in, asks the
//! member (`metastore-node`) and writes down what the member says; it decides nothing about the data.
//! It must not know openraft or RocksDB.

pub mod check;
mod cluster;
mod door;
pub mod encoded;
pub mod grpc;
mod health;
mod http;
mod kv;
mod leader_loss;
mod lease;
mod maintenance;
pub mod metrics;
mod serve;
mod slow;
pub mod status;
mod watch;

pub use self::http::{AccessControl, Pages};
pub use door::{Door, Options};
pub use metrics::Feature;
pub use serve::{Connections, Listener, Port, TlsSource, Traffic};
