//! The store as a list of everything that was ever written: slow, and plainly right.

use metastore_mvcc::{KeyValue, Order, Query, Target};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub main: i64,
    pub sub: u32,
    pub key: Vec<u8>,
    /// `None` for a deletion.
    pub put: Option<Put>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    pub create: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naive {
    pub changes: Vec<Change>,
    pub revision: i64,
    pub compacted: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    Compacted,
    Future,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
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
        }
    }
}

impl Change {
    pub fn encoded(&self) -> Vec<u8> {
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
    pub fn record(&self) -> Vec<u8> {
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

pub fn contains(query_key: &[u8], end: &[u8], key: &[u8]) -> bool {
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

    pub fn live_at(&self, at: i64) -> Vec<&Change> {
        let newest = self.newest_at(at).into_iter();
        newest.filter(|change| change.put.is_some()).collect()
    }

    pub fn live_now(&self) -> Vec<&Change> {
        self.live_at(i64::MAX)
    }

    pub fn put(&mut self, main: i64, sub: u32, key: &[u8], value: &[u8], lease: i64) {
        let live = self.live_now();
        let old = live.iter().find(|change| change.key == key);
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
    pub fn delete(&mut self, main: i64, sub: u32, key: &[u8], end: &[u8]) -> Vec<Change> {
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
    pub fn range(&self, query: &Query, current: i64) -> Result<Answer, Refused> {
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
    pub fn kept(&self) -> Vec<&Change> {
        let newest = self.newest_at(self.compacted);
        let kept = |change: &&Change| {
            change.main > self.compacted
                || newest.iter().any(|kept| {
                    *kept == *change && (kept.put.is_some() || kept.main == self.compacted)
                })
        };
        self.changes.iter().filter(kept).collect()
    }

    /// etcd's `hashByRev` over what a finished compaction leaves.
    pub fn hash(&self, revision: i64) -> u32 {
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
            let mut key = change.main.to_be_bytes().to_vec();
            key.push(b'_');
            key.extend_from_slice(&u64::from(change.sub).to_be_bytes());
            if change.put.is_none() {
                key.push(b't');
            }
            hash = crc32c::crc32c_append(hash, &key);
            hash = crc32c::crc32c_append(hash, &change.record());
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
