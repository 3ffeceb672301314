//! The state machine from the outside: entries in, outcomes and state out.

mod apply;
mod determinism;
mod etcd;
mod member;
