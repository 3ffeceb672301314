//! Small steps that the tests share.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use metastore_engine::{Batch, Engine, Kind, Options, Read, Space};

pub(crate) type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Small limits, so that tests meet them.
pub(crate) fn options() -> Options {
    Options {
        memory_budget_bytes: 8 << 20,
        ..Options::default()
    }
}

pub(crate) fn open(kind: Kind, directory: &Path) -> Arc<dyn Engine> {
    metastore_engine::open(kind, directory, options()).unwrap()
}

pub(crate) fn fresh(kind: Kind) -> (tempfile::TempDir, Arc<dyn Engine>) {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(kind, directory.path());
    (directory, engine)
}

pub(crate) fn scan<R: Read + ?Sized>(
    read: &R,
    space: Space,
    from: &[u8],
    to: Option<&[u8]>,
) -> Rows {
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    read.scan(space, from, to, &mut visit).unwrap();
    rows
}

pub(crate) fn all<R: Read + ?Sized>(read: &R, space: Space) -> Rows {
    scan(read, space, &[], None)
}

/// Writes one batch that `fill` makes.
pub(crate) fn write(engine: &dyn Engine, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    engine.write(&batch).unwrap();
}

/// A revision's key, as `mvcc` writes it.
pub(crate) fn revision(main: u64, sub: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8..].copy_from_slice(&sub.to_be_bytes());
    key
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn number(bytes: Option<Vec<u8>>) -> u64 {
    bytes.map_or(0, |bytes| {
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    })
}
