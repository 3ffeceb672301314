//! The write-ahead log from outside: against a model, damaged, killed, read while it is written, and without
//! room.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the verdict"
)]

mod crash;
mod damage;
mod full_disk;
mod model;
mod readers;
mod room;
mod scratch;
