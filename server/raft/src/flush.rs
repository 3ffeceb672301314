//! Making the applied state durable, and how far it is: what openraft calls a snapshot of this member's own.
//!
//! openraft takes an error of a snapshot for the end; a full disk is none. So the flush runs outside of it, may fail
//! and be tried again, and openraft is only told of one that has succeeded.

use std::io;
use std::sync::Arc;

use metastore_mvcc::{Error, Snapshot, Store};
use metastore_state_machine::Bookkeeping;
use parking_lot::Mutex;

use crate::types::{self, SnapshotMeta};

/// The durable state's position.
pub(crate) struct Flush {
    store: Store,
    durable: Mutex<SnapshotMeta>,
}

impl Flush {
    /// What the store was opened with is durable.
    pub(crate) fn new(store: Store) -> io::Result<Self> {
        let snapshot = store.snapshot().map_err(failed)?;
        let durable = Mutex::new(position(&snapshot)?);
        Ok(Self { store, durable })
    }

    /// Makes everything durable that was applied before the call; may take as long as the disk takes.
    ///
    /// # Errors
    /// When the engine cannot; then what was durable still is. [`io::ErrorKind::StorageFull`] and
    /// [`io::ErrorKind::Interrupted`] (another state has taken the place of this one) are worth another try.
    pub(crate) fn run(&self) -> io::Result<()> {
        let engine = self.store.engine();
        self.run_once().map_err(|error| {
            let replaced = !Arc::ptr_eq(&engine, &self.store.engine());
            match replaced {
                true => io::Error::new(io::ErrorKind::Interrupted, error),
                false => error,
            }
        })
    }

    fn run_once(&self) -> io::Result<()> {
        // The position is read before the flush: the flush covers it.
        let snapshot = self.store.snapshot().map_err(failed)?;
        let position = position(&snapshot)?;
        drop(snapshot);
        self.store.flush().map_err(failed)?;
        self.advance(position);
        Ok(())
    }

    /// A state was put in the place of the store's, durable up to `position`.
    pub(crate) fn advance(&self, position: SnapshotMeta) {
        let mut durable = self.durable.lock();
        if position.last_log_id > durable.last_log_id {
            *durable = position;
        }
    }

    /// How far the state is durable.
    pub(crate) fn durable(&self) -> SnapshotMeta {
        self.durable.lock().clone()
    }
}

fn position(snapshot: &Snapshot) -> io::Result<SnapshotMeta> {
    let bookkeeping = Bookkeeping::of(snapshot).map_err(io::Error::other)?;
    types::position_of(&bookkeeping)
}

fn failed(error: Error) -> io::Error {
    match &error {
        Error::Engine(cause) if cause.is_out_of_space() => {
            io::Error::new(io::ErrorKind::StorageFull, error)
        }
        Error::Stopped => io::Error::new(io::ErrorKind::Interrupted, error),
        _ => io::Error::other(error),
    }
}
