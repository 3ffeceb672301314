//! The state machine from the outside: entries in, outcomes and state out.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod apply;
mod determinism;
mod etcd;
mod member;
