//! A store for tests: everything in memory, nothing happens by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use metastore_mvcc::{EventKind, EventLimits, Prev, Revision};
use metastore_proto::mvccpb::KeyValue;
use parking_lot::Mutex;
use prost::Message;

use crate::history::{Change, Commit, History, HistoryError, Source};

/// What a transaction does to a key.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Put(String, String),
    Delete(String),
}

pub(super) fn put(key: &str, value: &str) -> Op {
    Op::Put(key.into(), value.into())
}

pub(super) fn delete(key: &str) -> Op {
    Op::Delete(key.into())
}

#[derive(Default)]
pub(super) struct TestStore {
    state: Mutex<State>,
    /// Makes streams read history on other threads.
    pub(super) slow: AtomicBool,
    /// Makes previous values of commits to come known by their revision only.
    pub(super) hide_prevs: AtomicBool,
    /// Makes reads fail.
    pub(super) broken: AtomicBool,
    /// Reads of history so far.
    pub(super) reads: AtomicUsize,
    /// Reads of single values so far.
    pub(super) value_reads: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// From revision 2 on.
    commits: Vec<Written>,
    log: Arc<Vec<Logged>>,
    /// The newest version of each key.
    newest: BTreeMap<String, (Revision, KeyValue)>,
    values: BTreeMap<Revision, KeyValue>,
    compact_revision: Option<i64>,
}

struct Written {
    changes: Vec<Logged>,
}

/// A change as it happened.
#[derive(Debug, Clone)]
pub(super) struct Logged {
    pub(super) kind: EventKind,
    pub(super) kv: KeyValue,
    /// What was there before.
    pub(super) before: Option<KeyValue>,
    prev: Prev,
}

impl TestStore {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Commits a transaction; deletions of what does not exist do nothing.
    pub(super) fn commit(&self, ops: &[Op]) -> i64 {
        let mut state = self.state.lock();
        let state = &mut *state;
        let main = state.commits.len() as i64 + 2;
        let mut changes = Vec::new();
        for op in ops {
            let at = Revision {
                main,
                sub: changes.len() as u32,
            };
            let (key, value) = match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            };
            let before = state.newest.remove(key);
            let prev = match &before {
                None => Prev::None,
                Some((revision, _)) if self.hide_prevs.load(Ordering::Relaxed) => {
                    Prev::At(*revision)
                }
                Some((_, kv)) => Prev::Cached(kv.encode_to_vec().into()),
            };
            let key_bytes = Bytes::copy_from_slice(key.as_bytes());
            let Some(value) = value else {
                if before.is_some() {
                    let kv = KeyValue {
                        key: key_bytes,
                        mod_revision: main,
                        ..Default::default()
                    };
                    changes.push(Logged {
                        kind: EventKind::Delete,
                        kv,
                        before: before.map(|(_, kv)| kv),
                        prev,
                    });
                }
                continue;
            };
            let kv = KeyValue {
                key: key_bytes,
                value: Bytes::copy_from_slice(value.as_bytes()),
                create_revision: before.as_ref().map_or(main, |(_, kv)| kv.create_revision),
                mod_revision: main,
                version: before.as_ref().map_or(1, |(_, kv)| kv.version + 1),
                lease: 0,
            };
            state.newest.insert(key.clone(), (at, kv.clone()));
            state.values.insert(at, kv.clone());
            changes.push(Logged {
                kind: EventKind::Put,
                kv,
                before: before.map(|(_, kv)| kv),
                prev,
            });
        }
        if changes.is_empty() {
            return main - 1;
        }
        Arc::make_mut(&mut state.log).extend(changes.iter().cloned());
        state.commits.push(Written { changes });
        main
    }

    /// Everything that ever happened, whether compacted or not.
    pub(super) fn log(&self) -> Arc<Vec<Logged>> {
        self.state.lock().log.clone()
    }

    pub(super) fn compact(&self, revision: i64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.compact_revision = state.compact_revision.max(Some(revision));
        // The version of each key that is valid at the compaction stays.
        let mut valid = BTreeMap::new();
        for (at, kv) in state.values.iter().filter(|(at, _)| at.main <= revision) {
            valid.insert(kv.key.clone(), *at);
        }
        state
            .values
            .retain(|at, kv| at.main > revision || valid.get(&kv.key) == Some(at));
    }
}

impl Source for TestStore {
    fn revision(&self) -> i64 {
        self.state.lock().commits.len() as i64 + 1
    }

    fn compact_revision(&self) -> i64 {
        self.state.lock().compact_revision.unwrap_or(-1)
    }

    fn history(&self, from: i64, limits: &EventLimits) -> Result<History, HistoryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(HistoryError::Failed("the disk is gone".into()));
        }
        let state = self.state.lock();
        if let Some(revision) = state.compact_revision.filter(|revision| from < *revision) {
            return Err(HistoryError::Compacted(revision));
        }
        let mut history = History {
            commits: Vec::new(),
            through: state.commits.len() as i64 + 1,
        };
        let (mut bytes, mut events) = (0, 0);
        let first = usize::try_from(from.max(2) - 2).unwrap();
        for (written, at) in state.commits.iter().skip(first).zip(first as i64 + 2..) {
            let changes = written.changes.iter().map(|logged| {
                let prev = if limits.with_prev {
                    logged.prev.clone()
                } else {
                    Prev::Unresolved
                };
                let encoded = logged.kv.encode_to_vec();
                bytes += encoded.len();
                events += 1;
                Change::new(
                    logged.kind,
                    encoded.into(),
                    2..2 + logged.kv.key.len(),
                    prev,
                )
            });
            let changes = changes.collect();
            history.commits.push(Arc::new(Commit::new(at, changes)));
            if bytes >= limits.bytes || events >= limits.events {
                history.through = at;
                break;
            }
        }
        Ok(history)
    }

    fn value_at(&self, revision: Revision) -> Result<Option<Arc<[u8]>>, HistoryError> {
        self.value_reads.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            return Err(HistoryError::Failed("the disk is gone".into()));
        }
        let state = self.state.lock();
        Ok(state
            .values
            .get(&revision)
            .map(|kv| kv.encode_to_vec().into()))
    }

    fn is_resident(&self) -> bool {
        !self.slow.load(Ordering::Relaxed)
    }
}
