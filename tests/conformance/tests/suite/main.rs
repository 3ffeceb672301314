//! The rules, one case each; see the crate's documentation for how a case is run.

mod compaction;
mod delete;
mod kubernetes;
mod lease;
mod put;
mod range;
mod range_stream;
mod requests;
mod txn;
mod txn_checks;
mod watch;
mod watch_history;
