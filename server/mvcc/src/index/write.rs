//! Writing to the index: what a put and a deletion make of a key.

use std::sync::Arc;

use crate::event::{Event, EventKind, Prev};
use crate::index::{Entry, Version};
use crate::read::events::deletion_kv;
use crate::record::{self, KeyValue};
use crate::revision::Revision;
use crate::shared::Index;
use crate::write::{Meta, Prior, Replaced};

/// What was there before a write.
struct Before {
    version: Version,
    lease: i64,
    value: Option<Arc<[u8]>>,
    /// When this transaction has written the key already: what was there before the transaction.
    outside: Option<Prev>,
}

impl Before {
    /// What is there before the write at `revision`.
    fn of(entry: &mut Entry, revision: Revision) -> Self {
        let rewritten = entry.current.main == revision.main;
        Self {
            version: entry.current,
            lease: entry.lease,
            value: entry.value.take(),
            outside: rewritten.then(|| entry.before_transaction(revision.main)),
        }
    }

    fn meta(&self) -> Meta {
        Meta::of(&self.version, self.lease)
    }

    /// The change of this transaction that is replaced, by its number.
    fn own(&self) -> Option<u32> {
        self.outside.is_some().then_some(self.version.sub)
    }

    /// The value goes over to the event as it is: to count another owner would cost a wait for memory.
    fn into_prev(self) -> Prev {
        match (self.outside, self.value) {
            (Some(prev), _) => prev,
            _ if !self.version.is_live() => Prev::None,
            (None, Some(kv)) => Prev::Cached(kv),
            (None, None) => Prev::At(self.version.revision()),
        }
    }
}

impl Index {
    /// Writes a key at `revision`, which must be above all others; `scratch` is a buffer to use.
    pub(crate) fn put(
        &mut self,
        (key, value): (&[u8], &[u8]),
        lease: i64,
        revision: Revision,
        scratch: &mut Vec<u8>,
    ) -> Prior {
        let caches = self.caches();
        let mut before = None;
        let mut written: Option<(Arc<[u8]>, Version)> = None;
        self.tree.edit(key, &mut |entry| {
            let old = entry.as_ref().map(|entry| entry.current);
            let (kv, version) = encode(key, value, lease, revision, old, scratch);
            written = Some((Arc::clone(&kv), version));
            let cached = caches.then_some(kv);
            match entry {
                Some(entry) => {
                    before = Some(Before::of(entry, revision));
                    entry.supersede(version, lease);
                    entry.value = cached;
                    None
                }
                None => Some(Entry {
                    value: cached,
                    older: None,
                    current: version,
                    lease,
                }),
            }
        });
        let (kv, version) = written.expect("an edit calls back");
        self.tip = revision.main;
        self.count_write(&version, before.as_ref().map(|before| &before.version));
        let uncached = before
            .as_ref()
            .and_then(|before| before.value.as_ref())
            .map_or(0, |value| value.len());
        self.count_cached(if caches { kv.len() } else { 0 }, uncached);
        let live = before.as_ref().filter(|before| before.version.is_live());
        let meta = live.map(Before::meta);
        let own = live.and_then(Before::own);
        // To a watcher a key that this revision creates has nothing before it, even if it was deleted by it first.
        let before = before.filter(|_| version.create != revision.main);
        self.open.push(Event {
            kind: EventKind::Put,
            revision,
            key: record::key_range(&kv).expect("a record starts with its key"),
            kv,
            prev: before.map_or(Prev::None, Before::into_prev),
            lease,
        });
        Prior {
            meta,
            prev: Replaced { by: revision, own },
        }
    }

    /// Deletes a key at `revision`; says what it was, or `None` when there was no such key.
    pub(crate) fn delete(
        &mut self,
        key: &[u8],
        revision: Revision,
        scratch: &mut Vec<u8>,
    ) -> Option<Meta> {
        scratch.clear();
        let deleted = KeyValue {
            key,
            ..KeyValue::default()
        };
        deleted.encode(scratch);
        let version = Version {
            main: revision.main,
            create: 0,
            version: 0,
            sub: revision.sub,
            record_len: scratch.len() as u32,
        };
        let mut before = None;
        self.tree.edit(key, &mut |entry| {
            if let Some(entry) = entry.filter(|entry| entry.is_live()) {
                before = Some(Before::of(entry, revision));
                entry.supersede(version, 0);
            }
            None
        });
        let before = before?;
        self.tip = revision.main;
        self.count_write(&version, Some(&before.version));
        self.count_cached(0, before.value.as_ref().map_or(0, |value| value.len()));
        let meta = before.meta();
        self.open.push(Event {
            kind: EventKind::Delete,
            revision,
            kv: deletion_kv(scratch, revision.main),
            key: record::key_range(scratch).expect("a record starts with its key"),
            prev: before.into_prev(),
            lease: 0,
        });
        Some(meta)
    }
}

fn encode(
    key: &[u8],
    value: &[u8],
    lease: i64,
    revision: Revision,
    old: Option<Version>,
    scratch: &mut Vec<u8>,
) -> (Arc<[u8]>, Version) {
    let (create, version) = match old.filter(Version::is_live) {
        Some(old) => (old.create, old.version + 1),
        None => (revision.main, 1),
    };
    scratch.clear();
    let kv = KeyValue {
        key,
        create_revision: create,
        mod_revision: revision.main,
        version,
        value,
        lease,
    };
    kv.encode(scratch);
    let version = Version {
        main: revision.main,
        create,
        version,
        sub: revision.sub,
        record_len: scratch.len() as u32,
    };
    (Arc::from(&scratch[..]), version)
}
