//! Real kube-apiservers on MetaStore: starts them beside a member and speaks to them as their clients do.
//!
//! Promises that an apiserver is ready when `check` hands it over, that both its log and the members' are at
//! hand when a case fails, and that nothing survives the test. Knows Kubernetes' API as a client does, and nothing of
//! what the store should answer: the same cases run against etcd (`METASTORE_APISERVER_STORES=etcd`).

mod apiserver;
mod client;
mod informer;
mod kubectl;
mod metrics;
pub mod objects;
mod runner;
mod version;
mod watching;
mod workload;

pub use apiserver::{Address, ApiServer, Options, StoreTls};
pub use client::{Answer, Client, Refused};
pub use informer::{Informer, Seen};
pub use kubectl::{Finished, Kubectl};
pub use metrics::Metrics;
pub use runner::{Setup, World, check, eventually};
pub use version::Version;
pub use watching::{Change, Watching};
pub use workload::{create_many, for_each};
