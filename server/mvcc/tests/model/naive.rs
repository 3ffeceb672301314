//! The store as a list of everything that was ever written: slow, and plainly right.

use metastore_mvcc::{KeyValue, Order, Query, Target};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub main: i64,
    pub sub: u32,
    pub key: Vec<u8>,
    /// `None` for a deletion.
    pub put: Option<Put>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub create: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naive {
    pub changes: Vec<Change>,
    pub revision: i64,
    pub compacted: i64,
    /// The compaction revision before that.
    pub previous: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Compacted,
    Future,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub kvs: Vec<Vec<u8>>,
    pub more: bool,
    pub count: i64,
    pub revision: i64,
}

impl Default for Naive {
    fn default() -> Self {
        Self {
            changes: Vec::new(),
            revision: 1,
            compacted: -1,
            previous: -1,
        }
    }
}

impl Change {
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.encoded_as(false)
    }

    fn encoded_as(&self, bare: bool) -> Vec<u8> {
        let put = self.put.as_ref().expect("a put");
        let mut out = Vec::new();
        let kv = KeyValue {
            key: &self.key,
            create_revision: put.create,
            mod_revision: self.main,
            version: put.version,
            value: if bare { b"" } else { &put.value },
            lease: put.lease,
        };
        kv.encode(&mut out);
        out
    }

    /// What etcd stores.
    pub(crate) fn record(&self) -> Vec<u8> {
        if self.put.is_some() {
            return self.encoded();
        }
        let mut out = Vec::new();
        let kv = KeyValue {
            key: &self.key,
            ..KeyValue::default()
        };
        kv.encode(&mut out);
        out
    }
}

impl Change {
    fn hash(&self, hash: u32) -> u32 {
        let mut key = self.main.to_be_bytes().to_vec();
        key.push(b'_');
        key.extend_from_slice(&u64::from(self.sub).to_be_bytes());
        if self.put.is_none() {
            key.push(b't');
        }
        let hash = crc32c::crc32c_append(hash, &key);
        crc32c::crc32c_append(hash, &self.record())
    }
}

pub(crate) fn contains(query_key: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] => key == query_key,
        [0] => key >= query_key,
        end => key >= query_key && key < end,
    }
}

impl Naive {
    /// The state of each key that was ever written at or before `at`, in the order of keys.
    fn newest_at(&self, at: i64) -> Vec<&Change> {
        let mut newest: std::collections::BTreeMap<&[u8], &Change> = Default::default();
        for change in self.changes.iter().filter(|change| change.main <= at) {
            newest.insert(&change.key, change);
        }
        newest.into_values().collect()
    }

    pub(crate) fn live_at(&self, at: i64) -> Vec<&Change> {
        let newest = self.newest_at(at).into_iter();
        newest.filter(|change| change.put.is_some()).collect()
    }

    pub(crate) fn live_now(&self) -> Vec<&Change> {
        self.live_at(i64::MAX)
    }

    pub(crate) fn put(&mut self, main: i64, sub: u32, key: &[u8], value: &[u8], lease: i64) {
        let old = self.changes.iter().rfind(|change| change.key == key);
        let (create, version) = match old.and_then(|change| change.put.as_ref()) {
            Some(put) => (put.create, put.version + 1),
            None => (main, 1),
        };
        self.changes.push(Change {
            main,
            sub,
            key: key.to_vec(),
            put: Some(Put {
                create,
                version,
                value: value.to_vec(),
                lease,
            }),
        });
    }

    /// Returns the key-values deleted.
    pub(crate) fn delete(&mut self, main: i64, sub: u32, key: &[u8], end: &[u8]) -> Vec<Change> {
        let live = self.live_now().into_iter();
        let deleted: Vec<Change> = live
            .filter(|change| contains(key, end, &change.key))
            .cloned()
            .collect();
        for (at, change) in deleted.iter().enumerate() {
            self.changes.push(Change {
                main,
                sub: sub + at as u32,
                key: change.key.clone(),
                put: None,
            });
        }
        deleted
    }

    /// etcd's `txn/range.go`, line by line.
    pub(crate) fn range(&self, query: &Query, current: i64) -> Result<Answer, Refused> {
        if query.revision > current {
            return Err(Refused::Future);
        }
        let at = if query.revision <= 0 {
            current
        } else {
            query.revision
        };
        if at < self.compacted {
            return Err(Refused::Compacted);
        }
        let mut found = self.live_at(at);
        found.retain(|change| contains(&query.key, &query.end, &change.key));
        let count = found.len() as i64;
        if query.count_only {
            found.clear();
        }
        let filters = [
            query.min_mod_revision,
            query.max_mod_revision,
            query.min_create_revision,
            query.max_create_revision,
        ];
        let filtered = filters.iter().any(|bound| *bound != 0);
        let default_order = query.order == Order::None
            || (query.target == Target::Key && query.order == Order::Ascend);
        if query.limit > 0 && default_order && !filtered {
            found.truncate(query.limit as usize + 1);
        }
        found.retain(|change| {
            let create = change.put.as_ref().unwrap().create;
            let [min_mod, max_mod, min_create, max_create] = filters;
            !(max_mod != 0 && change.main > max_mod
                || min_mod != 0 && change.main < min_mod
                || max_create != 0 && create > max_create
                || min_create != 0 && create < min_create)
        });
        sort(&mut found, query);
        let more = query.limit > 0 && found.len() > query.limit as usize;
        if more {
            found.truncate(query.limit as usize);
        }
        let kvs = found.into_iter().map(|change| {
            let mut kv = change.clone();
            if query.keys_only && query.target != Target::Value {
                kv.put.as_mut().unwrap().lease = 0;
            }
            kv.encoded_as(query.keys_only)
        });
        Ok(Answer {
            kvs: kvs.collect(),
            more,
            count,
            revision: current,
        })
    }

    /// What is left after a finished compaction, by etcd's rules.
    pub(crate) fn kept(&self) -> Vec<&Change> {
        self.kept_by(self.compacted)
    }

    fn kept_by(&self, at: i64) -> Vec<&Change> {
        let available = self.available(at);
        let changes = self.changes.iter();
        changes
            .filter(|change| change.main > at || available.contains(change))
            .collect()
    }

    /// What a compaction at `at` keeps of what is not after it.
    fn available(&self, at: i64) -> Vec<&Change> {
        let mut newest = self.newest_at(at);
        newest.retain(|change| change.put.is_some() || change.main == at);
        newest
    }

    /// The hash that etcd computes while it compacts, and remembers.
    pub(crate) fn compaction_hash(&self) -> u32 {
        let available = self.available(self.compacted);
        let mut hash = crc32c::crc32c(b"key");
        for change in self.kept_by(self.previous) {
            let is_old = change.main <= self.previous;
            if change.main > self.compacted
                || is_old && !available.is_empty() && !available.contains(&change)
                || change.main == self.previous && change.put.is_none()
            {
                continue;
            }
            hash = change.hash(hash);
        }
        hash
    }

    /// etcd's `hashByRev` over what a finished compaction leaves.
    pub(crate) fn hash(&self, revision: i64) -> u32 {
        let live = self.live_at(revision);
        let mut hash = crc32c::crc32c(b"key");
        for change in self.kept() {
            if change.main > revision {
                continue;
            }
            if change.main <= self.compacted && !live.is_empty() && !live.contains(&change) {
                continue;
            }
            if change.main == self.compacted && change.put.is_none() {
                continue;
            }
            hash = change.hash(hash);
        }
        hash
    }
}

fn sort(found: &mut [&Change], query: &Query) {
    let put = |change: &Change| change.put.clone().unwrap();
    let by = |a: &&Change, b: &&Change| match query.target {
        Target::Key => a.key.cmp(&b.key),
        Target::Version => put(a).version.cmp(&put(b).version),
        Target::Create => put(a).create.cmp(&put(b).create),
        Target::Mod => a.main.cmp(&b.main),
        Target::Value => put(a).value.cmp(&put(b).value),
    };
    match query.order {
        Order::Descend => found.sort_by(|a, b| by(b, a)),
        Order::None | Order::Ascend => found.sort_by(by),
    }
}
