//! What a member and a cluster must live through: kills, pauses, full disks, power cuts, cut connections.
//!
//! Real member processes under a [`load`] whose every answer is remembered, [`witness`]es that ask each endpoint for
//! its revision all the while, and after the trouble one question, [`verify`]: is everything there that was
//! acknowledged, and do all members hold the same? The trouble comes from the harness (signals), from [`disk`] (a
//! small file system that fills up), from [`power`] (a file system that forgets what was not synced) and from
//! [`proxy`] (a connection that is cut). [`history`] decides whether answers to concurrent clients are linearizable.
//!
//! Knows etcd's protocol and its promises; knows nothing of MetaStore's inside but the names of its files.

pub mod client;
pub mod disk;
pub mod history;
pub mod load;
pub mod power;
pub mod proxy;
pub mod soak;
pub mod trouble;
pub mod verify;
pub mod witness;
