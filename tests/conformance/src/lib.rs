//! One suite for etcd and MetaStore: a case runs against both, and their answers are compared whole.
//!
//! A case is a function over a [`Session`], a connection that records what was asked and what came back as a
//! transcript. [`check`] runs it on a fresh etcd and on a fresh MetaStore of each engine and size and
//! compares the transcripts under [`mask::MASK`], the one list of fields that may differ. What a rule says
//! beyond "as etcd" a case asserts itself, so etcd is held to it too.
//!
//! Knows the wire and the rules of etcd; knows nothing of MetaStore's inside.

pub mod build;
pub mod coverage;
pub mod differential;
mod generate;
mod keepalive;
pub mod mask;
mod render;
mod runner;
mod session;
mod transcript;
mod watching;
mod wire;

pub use keepalive::KeepAlive;
pub use runner::{Endpoint, Setup, check, check_with, runtime, sizes, targets};
pub use session::{Session, expect, fails};
pub use transcript::{Difference, Entry, Transcript};
pub use watching::{Watching, labelled};
pub use wire::method_messages;
