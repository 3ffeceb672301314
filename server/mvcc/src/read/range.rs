//! Answering a range request (etcd's `server/etcdserver/txn/range.go`).

use std::sync::Arc;

use crate::read::count::count_now;
use crate::read::fetch::Fetched;
use crate::read::scan::{Found, Next, Scan};
use crate::read::span::Span;
use crate::record::{KeyValue, put_element};
use crate::revision::Revision;
use crate::shared::Shared;
use crate::{Error, Page, Query, Target};

/// The tag of `RangeResponse.kvs`.
pub(crate) const TAG_RANGE_KVS: u8 = 0x12;
/// The tag of `DeleteRangeResponse.prev_kvs`.
pub(crate) const TAG_PREV_KVS: u8 = 0x1a;

/// Values admitted to the cache per lock.
const ADMITTED: usize = 32;

/// The revision that a read is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Read at this revision.
    pub(crate) at: i64,
    /// The newest one that the reader may know.
    pub(crate) current: i64,
}

impl Shared {
    /// Resolves the revision of a request; to be called under the index lock. `own` is the revision that an open
    /// transaction reads at.
    pub(crate) fn moment(&self, revision: i64, own: Option<i64>) -> Result<Moment, Error> {
        let current = own.unwrap_or_else(|| self.revision());
        if revision > current {
            return Err(Error::FutureRevision { revision: current });
        }
        let at = if revision <= 0 { current } else { revision };
        if at < self.compact_revision() {
            return Err(self.compacted());
        }
        Ok(Moment { at, current })
    }

    pub(crate) fn range(&self, query: &Query, own: Option<i64>) -> Result<Page, Error> {
        if query.count_only {
            self.count_only(query, own)
        } else if query.target == Target::Key {
            self.range_in_order(query, own, TAG_RANGE_KVS)
        } else {
            self.range_sorted(query, own)
        }
    }

    fn count_only(&self, query: &Query, own: Option<i64>) -> Result<Page, Error> {
        let span = Span::decode(&query.key, &query.end);
        let index = self.index.read();
        let moment = self.moment(query.revision, own)?;
        let count = match count_now(&index, span, moment.at) {
            Some(count) => count,
            None => {
                let pin = self.pins.pin(moment.at);
                drop(index);
                self.count_at(span, moment.at, &pin)?
            }
        };
        Ok(Page {
            count,
            revision: moment.current,
            ..Page::default()
        })
    }

    /// The keys in their own order, up or down, each key-value as an element of the repeated field `tag`.
    pub(crate) fn range_in_order(
        &self,
        query: &Query,
        own: Option<i64>,
        tag: u8,
    ) -> Result<Page, Error> {
        let span = Span::decode(&query.key, &query.end);
        let mut sink = Sink::new(query, tag);
        let (moment, mut scan, count) = {
            let index = self.index.read();
            let moment = self.moment(query.revision, own)?;
            let mut scan = Scan::new(span, moment.at, query.direction());
            scan.grab(self, &index, sink.wanted())?;
            (moment, scan, count_now(&index, span, moment.at))
        };
        scan.look(&mut |found| sink.take(&found));
        sink.fill(self, &scan)?;
        while !scan.is_done() {
            scan.step(self, sink.wanted(), &mut |found| sink.take(&found))?;
            sink.fill(self, &scan)?;
        }
        let count = match (count, scan.pin()) {
            (Some(count), _) => count,
            (None, Some(pin)) => self.count_at(span, moment.at, pin)?,
            (None, None) => unreachable!("a scan of more than one key keeps its revision"),
        };
        Ok(Page {
            kvs: sink.out,
            kv_count: sink.taken,
            more: sink.more,
            count,
            revision: moment.current,
        })
    }
}

/// Where the key-values of an answer are put together.
pub(crate) struct Sink<'q> {
    query: &'q Query,
    tag: u8,
    limit: usize,
    pub(crate) out: Vec<u8>,
    pub(crate) taken: usize,
    pub(crate) more: bool,
    holes: Vec<Hole>,
    scratch: Vec<u8>,
    key: Vec<u8>,
}

/// After so many keys the size of a page is guessed.
const SAMPLED: usize = 32;
/// Room that a guess may take.
const ROOM_BYTES: usize = 512 << 10;

/// A place in the answer whose key-value has to be fetched.
struct Hole {
    at: usize,
    revision: Revision,
    is_current: bool,
}

impl<'q> Sink<'q> {
    pub(crate) fn new(query: &'q Query, tag: u8) -> Self {
        let limit = usize::try_from(query.limit).unwrap_or(0);
        Self {
            query,
            tag,
            limit: if limit == 0 { usize::MAX } else { limit },
            out: Vec::new(),
            taken: 0,
            more: false,
            holes: Vec::new(),
            scratch: Vec::new(),
            key: Vec::new(),
        }
    }

    /// As [`Sink::new`], when `sent` keys of the answer have been given out already.
    pub(crate) fn after(query: &'q Query, tag: u8, sent: usize) -> Self {
        let mut sink = Self::new(query, tag);
        if sink.limit != usize::MAX {
            sink.limit -= sent;
        }
        sink
    }

    /// How many keys it takes to know the answer, if all are admitted.
    pub(crate) fn wanted(&self) -> usize {
        (self.limit - self.taken).saturating_add(1)
    }

    /// Whether the limit is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.taken == self.limit
    }

    /// Takes one key, or says that the limit is reached.
    pub(crate) fn take(&mut self, found: &Found<'_>) -> Next {
        let version = found.version;
        if !self.query.admits(version.create, version.main) {
            return Next::Go(0);
        }
        if self.is_full() {
            self.more = true;
            return Next::Stop;
        }
        if self.taken == SAMPLED {
            self.make_room();
        }
        self.taken += 1;
        let before = self.out.len();
        if self.query.keys_only {
            self.scratch.clear();
            let kv = KeyValue {
                key: found.key.read_into(&mut self.key),
                create_revision: version.create,
                mod_revision: version.main,
                version: version.version,
                value: b"",
                lease: 0,
            };
            kv.encode(&mut self.scratch);
            put_element(&mut self.out, self.tag, &self.scratch);
        } else if let Some(kv) = found.value {
            put_element(&mut self.out, self.tag, kv);
        } else {
            self.holes.push(Hole {
                at: before,
                revision: version.revision(),
                is_current: version.revision() == found.entry.current.revision(),
            });
            return Next::Go(version.record_len as usize);
        }
        Next::Go(self.out.len() - before)
    }

    /// Makes room for the rest of a page by what has been taken so far, rather than grow and copy step by step.
    fn make_room(&mut self) {
        if self.limit != usize::MAX {
            let rest = self.limit.saturating_sub(self.taken);
            let bytes = (self.out.len() / SAMPLED).saturating_mul(rest);
            self.out.reserve(bytes.min(ROOM_BYTES));
        }
    }

    /// Fills the holes of the last step; no lock may be held.
    pub(crate) fn fill(&mut self, shared: &Shared, scan: &Scan<'_>) -> Result<(), Error> {
        let Some(first) = self.holes.first() else {
            return Ok(());
        };
        let start = first.at;
        let revisions: Vec<_> = self.holes.iter().map(|hole| hole.revision).collect();
        let fetched = shared.fetch(&revisions)?;
        let tail = self.out.split_off(start);
        let mut copied = 0;
        let mut fresh = Vec::new();
        for (hole, kv) in self.holes.drain(..).zip(fetched) {
            let Some(kv) = kv else {
                scan.check(shared)?;
                return Err(shared.lost(hole.revision));
            };
            self.out.extend_from_slice(&tail[copied..hole.at - start]);
            copied = hole.at - start;
            put_element(&mut self.out, self.tag, &kv);
            if hole.is_current {
                fresh.push((hole.revision, kv));
            }
        }
        self.out.extend_from_slice(&tail[copied..]);
        shared.admit(fresh, self.query.end.is_empty());
        Ok(())
    }
}

impl Shared {
    /// Offers values just fetched to the cache. A long list gets only what is free there; a `wanted` one evicts others.
    pub(crate) fn admit(&self, fetched: Vec<(Revision, Fetched)>, wanted: bool) {
        let mut fetched = fetched.into_iter().peekable();
        while fetched.peek().is_some() {
            let Some(mut index) = self.index.try_write() else {
                return;
            };
            for (revision, kv) in fetched.by_ref().take(ADMITTED) {
                if !index.caches() || !(wanted || index.has_room(kv.len())) {
                    return;
                }
                let kv: Arc<[u8]> = kv.into();
                if let Some(decoded) = KeyValue::decode(&kv) {
                    let key = decoded.key;
                    index.admit(key, revision, Arc::clone(&kv));
                }
            }
        }
    }
}
