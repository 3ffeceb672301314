//! The memory engine: every row in memory, the whole state in one file at each flush.
//!
//! A batch is applied under a lock that readers of single rows take for the length of one lookup.
//! Longer reads, views and flushes clone the trees' roots, which costs three reference counts and
//! pins a batch boundary; so nothing waits for them. Must not know what rows mean.

mod dump;
mod leaf;
mod tree;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::batch::Operation;
use crate::directory::{self, Directory};
use crate::{Batch, Engine, Error, Kind, Progress, Read, Space, View, Visit};
use tree::Tree;

/// An engine in memory. See the module for what its calls cost.
pub(crate) struct MemoryEngine {
    directory: Directory,
    spaces: RwLock<Spaces>,
    flushed: Mutex<Flushed>,
}

/// The state at one batch boundary.
#[derive(Clone, Debug, Default)]
struct Spaces {
    trees: [Tree; 3],
    /// Batches applied since the engine was opened.
    batches: u64,
}

/// What the newest dump holds.
struct Flushed {
    generation: u64,
    batches: u64,
}

impl MemoryEngine {
    /// Reads the newest dump in `path`, or starts empty.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let directory = Directory::open(path, Kind::Memory)?;
        let (generation, spaces) = dump::read(directory.path())?;
        Ok(Self {
            directory,
            spaces: RwLock::new(spaces),
            flushed: Mutex::new(Flushed {
                generation,
                batches: 0,
            }),
        })
    }

    fn pin(&self) -> Spaces {
        self.spaces.read().clone()
    }

    /// A sum over the trees' sizes.
    fn sum(&self, of: impl Fn(tree::Size) -> usize) -> u64 {
        let spaces = self.spaces.read();
        spaces.trees.iter().map(|tree| of(tree.size()) as u64).sum()
    }
}

impl Spaces {
    fn tree(&self, space: Space) -> &Tree {
        &self.trees[space as usize]
    }

    fn apply(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Put { space, key, value } => {
                self.trees[space as usize].insert(key, value);
            }
            Operation::Delete { space, key } => self.trees[space as usize].remove(key),
            Operation::DeleteRange { space, from, to } => {
                self.trees[space as usize].remove_range(from, to);
            }
        }
    }
}

impl Read for Spaces {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.tree(space).get(key).map(<[u8]>::to_vec))
    }

    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let tree = self.tree(space);
        let value = |key: &&[u8]| tree.get(key).map(<[u8]>::to_vec);
        Ok(keys.iter().map(value).collect())
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Error> {
        if to.is_none_or(|to| from < to) {
            // Where it stopped is the visitor's business.
            let _ = self.tree(space).scan(from, to, visit);
        }
        Ok(())
    }
}

impl View for Spaces {}

impl Read for MemoryEngine {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.spaces.read().get(space, key)
    }

    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.pin().get_many(space, keys)
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Error> {
        self.pin().scan(space, from, to, visit)
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        let mut spaces = self.spaces.write();
        for operation in batch.operations() {
            spaces.apply(operation);
        }
        spaces.batches += 1;
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let mut flushed = self.flushed.lock();
        let spaces = self.pin();
        if spaces.batches == flushed.batches {
            return Ok(());
        }
        dump::write(self.directory.path(), flushed.generation + 1, &spaces)?;
        flushed.generation += 1;
        flushed.batches = spaces.batches;
        Ok(())
    }

    fn flush_cost_bytes(&self) -> u64 {
        self.sum(|size| size.live)
    }

    fn view(&self) -> Result<Box<dyn View>, Error> {
        Ok(Box::new(self.pin()))
    }

    fn reclaim(&self, progress: &dyn Fn(Progress) -> ControlFlow<()>) -> Result<(), Error> {
        self.flush()?;
        let _ = progress(Progress { done: 1, total: 1 });
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        directory::file_bytes(self.directory.path())
    }

    fn memory_bytes(&self) -> u64 {
        self.sum(|size| size.held)
    }

    fn stalls(&self) -> u64 {
        0
    }

    fn stall_time(&self) -> Duration {
        Duration::ZERO
    }

    fn kind(&self) -> Kind {
        Kind::Memory
    }
}
