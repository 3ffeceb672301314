//! Answers sorted by something else than the key.
//!
//! Promises: etcd's order and its cuts, with ties in the order of the keys; a limit bounds the memory. etcd sorts with
//! an unstable algorithm, so that the order of ties there is nobody's to rely on.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::read::count::count_now;
use crate::read::range::{Moment, TAG_RANGE_KVS};
use crate::read::scan::{Direction, Found, Next, Scan};
use crate::read::span::Span;
use crate::record::{KeyValue, put_element};
use crate::revision::Revision;
use crate::shared::Shared;
use crate::{Error, Order, Page, Query, Target};

/// Values fetched at once.
const FETCHED: usize = 256;

/// A key of the answer.
struct Hit {
    /// Its place in the order of keys.
    place: u64,
    revision: Revision,
    create: i64,
    version: i64,
    /// Only where the answer has no values.
    key: Box<[u8]>,
    kv: Option<Arc<[u8]>>,
}

/// The hits that may still be in the answer.
struct Hits<'q> {
    query: &'q Query,
    hits: Vec<Hit>,
    matched: u64,
    /// Stop after so many: etcd's cut before the sort.
    cut: u64,
    /// At most so many are in the answer.
    limit: usize,
    keys_only: bool,
}

impl Shared {
    pub(crate) fn range_sorted(&self, query: &Query, own: Option<i64>) -> Result<Page, Error> {
        let span = Span::decode(&query.key, &query.end);
        let mut hits = Hits::new(query);
        let (moment, mut scan, count) = {
            let index = self.index.read();
            let moment = self.moment(query.revision, own)?;
            let mut scan = Scan::new(span, moment.at, Direction::Up);
            scan.keep(self);
            (moment, scan, count_now(&index, span, moment.at))
        };
        while !scan.is_done() {
            scan.step(self, usize::MAX, &mut |found| hits.take(&found))?;
            if query.target == Target::Value {
                hits.fetch_values(self, &scan)?;
            }
            hits.prune();
        }
        hits.finish();
        let kvs = hits.encode(self, &scan)?;
        let count = match (count, scan.pin()) {
            (Some(count), _) => count,
            (None, Some(pin)) => self.count_at(span, moment.at, pin)?,
            (None, None) => unreachable!("the scan keeps its revision"),
        };
        Ok(hits.page(kvs, count, moment))
    }
}

impl<'q> Hits<'q> {
    fn new(query: &'q Query) -> Self {
        let limit = u64::try_from(query.limit).unwrap_or(0);
        // etcd takes an unordered request for one in the order of keys when it cuts, and only then sorts.
        let cuts_first = limit > 0 && query.order == Order::None && !query.has_revision_filters();
        Self {
            query,
            hits: Vec::new(),
            matched: 0,
            cut: if cuts_first {
                limit.saturating_add(1)
            } else {
                u64::MAX
            },
            limit: match limit {
                0 => usize::MAX,
                limit => usize::try_from(limit).unwrap_or(usize::MAX),
            },
            keys_only: query.keys_only && query.target != Target::Value,
        }
    }

    fn take(&mut self, found: &Found<'_>) -> Next {
        let version = found.version;
        if !self.query.admits(version.create, version.main) {
            return Next::Go(0);
        }
        if self.matched == self.cut {
            return Next::Stop;
        }
        self.hits.push(Hit {
            place: self.matched,
            revision: version.revision(),
            create: version.create,
            version: version.version,
            key: if self.keys_only {
                found.key.to_boxed()
            } else {
                Box::default()
            },
            kv: found.value.filter(|_| !self.keys_only).cloned(),
        });
        self.matched += 1;
        Next::Go(if self.keys_only { found.key.len() } else { 0 })
    }

    fn fetch_values(&mut self, shared: &Shared, scan: &Scan<'_>) -> Result<(), Error> {
        let mut without: Vec<&mut Hit> = self
            .hits
            .iter_mut()
            .filter(|hit| hit.kv.is_none())
            .collect();
        let revisions: Vec<_> = without.iter().map(|hit| hit.revision).collect();
        let fetched = shared.fetch(&revisions)?;
        for (hit, kv) in without.iter_mut().zip(fetched) {
            let Some(kv) = kv else {
                scan.check(shared)?;
                return Err(shared.lost(hit.revision));
            };
            hit.kv = Some(kv.into());
        }
        Ok(())
    }

    /// Drops what a limit has already decided against, once that is as much as the limit.
    fn prune(&mut self) {
        if self.cut == u64::MAX && self.hits.len() / 2 > self.limit.max(FETCHED) {
            let query = self.query;
            self.hits
                .select_nth_unstable_by(self.limit - 1, |a, b| compare(query, a, b));
            self.hits.truncate(self.limit);
        }
    }

    fn finish(&mut self) {
        let query = self.query;
        self.hits.sort_unstable_by(|a, b| compare(query, a, b));
        self.hits.truncate(self.limit);
    }

    fn encode(&self, shared: &Shared, scan: &Scan<'_>) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut scratch = Vec::new();
        for some in self.hits.chunks(FETCHED) {
            if self.keys_only {
                for hit in some {
                    hit.put_key(&mut scratch, &mut out);
                }
                continue;
            }
            let missing: Vec<_> = some.iter().filter(|hit| hit.kv.is_none()).collect();
            let revisions: Vec<_> = missing.iter().map(|hit| hit.revision).collect();
            let mut fetched = shared.fetch(&revisions)?.into_iter();
            for hit in some {
                if let Some(kv) = &hit.kv {
                    self.put(kv, &mut scratch, &mut out);
                } else if let Some(kv) = fetched.next().flatten() {
                    self.put(&kv, &mut scratch, &mut out);
                } else {
                    scan.check(shared)?;
                    return Err(shared.lost(hit.revision));
                }
            }
        }
        Ok(out)
    }

    fn put(&self, kv: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        if !self.query.keys_only {
            put_element(out, TAG_RANGE_KVS, kv);
        } else if let Some(decoded) = KeyValue::decode(kv) {
            scratch.clear();
            let bare = KeyValue {
                value: b"",
                ..decoded
            };
            bare.encode(scratch);
            put_element(out, TAG_RANGE_KVS, scratch);
        }
    }

    fn page(self, kvs: Vec<u8>, count: i64, moment: Moment) -> Page {
        Page {
            kvs,
            kv_count: self.hits.len(),
            more: self.matched > self.hits.len() as u64,
            count,
            revision: moment.current,
        }
    }
}

impl Hit {
    fn value(&self) -> &[u8] {
        let kv = self.kv.as_deref().and_then(KeyValue::decode);
        kv.map_or(b"", |kv| kv.value)
    }

    fn put_key(&self, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        scratch.clear();
        let kv = KeyValue {
            key: &self.key,
            create_revision: self.create,
            mod_revision: self.revision.main,
            version: self.version,
            value: b"",
            lease: 0,
        };
        kv.encode(scratch);
        put_element(out, TAG_RANGE_KVS, scratch);
    }
}

fn compare(query: &Query, a: &Hit, b: &Hit) -> Ordering {
    let upward = match query.target {
        Target::Key => a.place.cmp(&b.place),
        Target::Version => a.version.cmp(&b.version),
        Target::Create => a.create.cmp(&b.create),
        Target::Mod => a.revision.main.cmp(&b.revision.main),
        Target::Value => a.value().cmp(b.value()),
    };
    let directed = match query.order {
        Order::Descend => upward.reverse(),
        Order::None | Order::Ascend => upward,
    };
    directed.then(a.place.cmp(&b.place))
}
