//! The member's outside: etcd's flags, environment and configuration file, its log, its TLS, its signals and
//! its exit codes, and the wiring of the rooms into one process.
//!
//! Promises that whoever starts, watches and stops an etcd can do so with MetaStore. It decides nothing about
//! requests or data: that is the rooms' business.

pub mod config;
pub mod data_dir;
pub mod dial;
pub mod duration;
pub mod flag;
pub mod go_text;
pub mod init_daemon;
pub mod listen;
pub mod logging;
pub mod process;
pub mod serve;
pub mod signal;
pub mod stream;
pub mod tls;
pub mod url;
pub mod version;
