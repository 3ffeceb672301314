//! The engine as its callers see it: spaces, reading, writing, views.
//!
//! The trait is as small as `mvcc` needs it and is not shaped after RocksDB. It promises atomic
//! batches and durability at `flush`, nothing in between: the raft log is the redo log. Must not
//! know revisions, raft or tokio.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use crate::{Batch, Error};

/// One of the ordered byte maps that an engine keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Records by revision. Keys are appended in ascending order, then deleted once.
    Record = 0,
    /// Index rows by revision. Keys are appended in ascending order, then deleted once.
    Meta = 1,
    /// A few thousand named rows, overwritten at will.
    System = 2,
}

impl Space {
    /// Every space, at the index that is its number on disk.
    pub const ALL: [Space; 3] = [Space::Record, Space::Meta, Space::System];
}

/// Which implementation an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// State on disk, in RocksDB.
    RocksDb,
    /// State in memory, written whole at each flush.
    Memory,
}

impl Kind {
    /// The name used in flags, in the FORMAT file and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::RocksDb => "rocksdb",
            Kind::Memory => "memory",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "rocksdb" => Ok(Kind::RocksDb),
            "memory" => Ok(Kind::Memory),
            _ => Err(format!("unknown storage engine {name:?}")),
        }
    }
}

/// Limits of an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// RocksDB: write buffers and block cache together stay within this many bytes. The memory
    /// engine holds everything and ignores it.
    pub memory_budget_bytes: usize,
    /// Bytes per second that flushes and compactions may write to the disk together.
    pub background_bytes_per_second: u64,
    /// RocksDB: table files kept open.
    pub open_files: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 64 << 20,
            background_bytes_per_second: 256 << 20,
            open_files: 512,
        }
    }
}

/// What a scan calls with each row's key and value, and which may stop it.
pub type Visit<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a);

/// Reading rows, from an engine as it is now or from a [`View`].
pub trait Read {
    /// The value of `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// The values of `keys`, in their order; all of the same moment. `keys` ascend.
    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error>;

    /// Visits the rows with `from <= key`, and `key < to` where `to` is given, in ascending order
    /// and all of the same moment, until `visit` breaks. No lock is held while `visit` runs.
    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Error>;
}

/// A point in time, pinned: what is written or deleted later does not show. It costs the engine
/// what has been replaced since, so it is not kept for longer than needed.
pub trait View: Read + Send {}

/// How far a [`Engine::reclaim`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Ranges done.
    pub done: u64,
    /// Ranges in all.
    pub total: u64,
}

/// An ordered key-value engine. Every call may block on the disk; none may be made from an
/// asynchronous task.
pub trait Engine: Read + Send + Sync + 'static {
    /// Applies `batch`: all of it or, on an error, nothing. Visible to readers on return,
    /// volatile until [`Engine::flush`]. After a crash the engine holds some prefix of the
    /// batches written, and at least those written before the last successful flush.
    fn write(&self, batch: &Batch) -> Result<(), Error>;

    /// Makes durable every batch whose `write` returned before this call. Readers and writers go
    /// on meanwhile. After an error (a full disk) nothing is lost; call it again.
    fn flush(&self) -> Result<(), Error>;

    /// About how many bytes a [`Engine::flush`] now would write: the caller decides by it how
    /// often to flush. The memory engine writes its whole state each time.
    fn flush_cost_bytes(&self) -> u64;

    /// Pins the present state.
    fn view(&self) -> Result<Box<dyn View>, Error>;

    /// Gives the disk space of deleted rows back, range by range, while reads and writes go on.
    /// `progress` is called after each range and may break; what is done stays done.
    fn reclaim(&self, progress: &dyn Fn(Progress) -> ControlFlow<()>) -> Result<(), Error>;

    /// Bytes of the engine's files.
    fn disk_bytes(&self) -> u64;

    /// Bytes of memory that the engine holds.
    fn memory_bytes(&self) -> u64;

    /// How often writes were slowed or stopped since `open` because the engine fell behind.
    fn stalls(&self) -> u64;

    /// How long writes were slowed or stopped since `open`, all [`Engine::stalls`] together.
    fn stall_time(&self) -> Duration;

    /// Which implementation this is.
    fn kind(&self) -> Kind;
}
