//! An ordered key-value engine: a small trait and its two implementations, memory and RocksDB.
//!
//! Promises: a written batch is atomic over all spaces; after `flush` it is durable; a crash
//! leaves a prefix of the batches. Must not know revisions, raft or tokio. The only crate that
//! names rocksdb.

mod batch;
mod directory;
mod engine;
mod error;
mod memory;
#[cfg(feature = "rocksdb")]
mod rocks;

use std::path::Path;
use std::sync::Arc;

pub use batch::{Batch, Operation, Operations};
pub use engine::{Engine, Kind, Options, Progress, Read, Space, View, Visit};
pub use error::Error;

/// Opens the engine in `directory`, which is created where it does not exist.
///
/// # Errors
/// [`Error::Foreign`] where the directory is another kind's, a newer format's or somebody else's;
/// [`Error::NotBuilt`] where this build has no such engine; [`Error::Locked`] where it is open
/// already; [`Error::Damaged`] where its files are not what was written.
#[cfg_attr(not(feature = "rocksdb"), allow(unused_variables))]
pub fn open(kind: Kind, directory: &Path, options: Options) -> Result<Arc<dyn Engine>, Error> {
    match kind {
        Kind::Memory => Ok(Arc::new(memory::MemoryEngine::open(directory)?)),
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => Ok(Arc::new(rocks::RocksEngine::open(directory, &options)?)),
        #[cfg(not(feature = "rocksdb"))]
        Kind::RocksDb => Err(Error::NotBuilt),
    }
}
