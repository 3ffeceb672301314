//! Durability and clusters, end to end; see the crate's documentation. What is ignored here is long, and run by
//! `make soak`.

mod cluster;
mod damage;
mod disk;
mod fsync;
mod kill;
mod leases;
mod linearizable;
mod maintenance;
mod memory;
mod power;
mod snapshot;
mod strangers;
