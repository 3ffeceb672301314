//! An engine that remembers every batch, so that a crash after any of them can be played, and that fails on demand.

// Each test uses a part of it.
#![allow(dead_code)]

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use metastore_engine::{Batch, Engine, Error, Kind, Progress, Read, Space, View, open};
use parking_lot::Mutex;

pub(crate) struct Recording {
    _directory: tempfile::TempDir,
    engine: Arc<dyn Engine>,
    batches: Mutex<Vec<Batch>>,
    failure: Mutex<Option<ErrorKind>>,
}

impl Recording {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(Kind::Memory, directory.path(), Default::default()).unwrap();
        Self {
            _directory: directory,
            engine,
            batches: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Makes every write fail from now on, or none.
    pub(crate) fn fail(&self, failure: Option<ErrorKind>) {
        *self.failure.lock() = failure;
    }

    /// How many batches were written.
    pub(crate) fn len(&self) -> usize {
        self.batches.lock().len()
    }

    /// An engine with the first batches only.
    pub(crate) fn prefix(&self, batches: usize) -> Self {
        let other = Self::new();
        for batch in &self.batches.lock()[..batches] {
            other.write(batch).unwrap();
        }
        other
    }
}

impl Read for Recording {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.engine.get(space, key)
    }

    fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        assert!(keys.is_sorted(), "keys ascend");
        self.engine.get_many(space, keys)
    }

    fn scan(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.engine.scan(space, from, to, visit)
    }
}

impl Engine for Recording {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        if let Some(kind) = *self.failure.lock() {
            return Err(Error::Io {
                action: "write",
                path: "disk".into(),
                source: kind.into(),
            });
        }
        let mut batches = self.batches.lock();
        self.engine.write(batch)?;
        batches.push(batch.clone());
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn flush_cost_bytes(&self) -> u64 {
        0
    }

    fn view(&self) -> Result<Box<dyn View>, Error> {
        self.engine.view()
    }

    fn reclaim(&self, progress: &dyn Fn(Progress) -> ControlFlow<()>) -> Result<(), Error> {
        self.engine.reclaim(progress)
    }

    fn disk_bytes(&self) -> u64 {
        0
    }

    fn memory_bytes(&self) -> u64 {
        0
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
