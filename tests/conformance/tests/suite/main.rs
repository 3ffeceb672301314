//! The rules, one case each; see the crate's documentation for how a case is run.

mod abuse;
mod cluster;
mod compaction;
mod delete;
mod differential;
mod etcdctl;
mod flags;
mod http;
mod kubernetes;
mod lease;
mod maintenance;
mod metrics;
mod put;
mod quota;
mod range;
mod range_stream;
mod requests;
mod services;
mod startup;
mod tls;
mod txn;
mod txn_checks;
mod watch;
mod watch_history;
