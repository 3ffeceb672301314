//! The whole store against a naive one, through random histories of writes, reads, compactions and restarts.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod naive;
#[path = "../recording/mod.rs"]
mod recording;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use metastore_engine::Engine;
use metastore_mvcc::{
    Error, EventKind, EventLimits, KeyValue, Options, Order, Page, Prev, Query, Store, Target,
    Writer,
};
use naive::{Answer, Change, Naive, Refused, contains};
use proptest::prelude::*;
use recording::Recording;

#[derive(Debug, Clone)]
enum Write {
    Put(Vec<u8>, Vec<u8>, i64),
    Delete(Vec<u8>, Vec<u8>, bool),
    Read(Query),
}

#[derive(Debug, Clone)]
enum Step {
    Txn(Vec<Write>),
    /// So many puts of few keys, each a transaction.
    Burst(u16),
    Compact(u8),
    Read(Query, u8),
    Events(u8, usize),
    Hash(u8),
    /// Marks the state, and so lets it reach the engine.
    Mark,
    /// Waits until compaction has done its work.
    Settle,
    Restart,
    /// Goes back to what the engine had after some batch.
    Crash(u16),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'c')], 1..4)
}

fn span() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    prop_oneof![
        2 => key().prop_map(|key| (key, vec![])),
        2 => (key(), key()),
        1 => key().prop_map(|key| (key, vec![0])),
        2 => Just((vec![0], vec![0])),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let order = prop_oneof![Just(Order::None), Just(Order::Ascend), Just(Order::Descend)];
    let target = prop_oneof![
        3 => Just(Target::Key),
        1 => Just(Target::Version),
        1 => Just(Target::Create),
        1 => Just(Target::Mod),
        1 => Just(Target::Value),
    ];
    let bound = prop_oneof![4 => Just(0i64), 1 => 1..40i64];
    let bounds = (bound.clone(), bound.clone(), bound.clone(), bound);
    let flags = (
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.15),
    );
    (span(), 0..8i64, order, target, flags, bounds).prop_map(
        |((key, end), limit, order, target, (keys_only, count_only), bounds)| Query {
            key: key.into(),
            end: end.into(),
            limit: (limit - 1).max(0),
            revision: 0,
            order,
            target,
            keys_only,
            count_only,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        5 => (key(), proptest::collection::vec(any::<u8>(), 0..12), 0..3i64)
            .prop_map(|(key, value, lease)| Write::Put(key, value, lease)),
        2 => (span(), any::<bool>()).prop_map(|((key, end), prev)| Write::Delete(key, end, prev)),
        1 => query().prop_map(Write::Read),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(write(), 1..5).prop_map(Step::Txn),
        1 => (1..400u16).prop_map(Step::Burst),
        2 => any::<u8>().prop_map(Step::Compact),
        8 => (query(), any::<u8>()).prop_map(|(query, back)| Step::Read(query, back)),
        3 => (any::<u8>(), 1..20usize).prop_map(|(back, limit)| Step::Events(back, limit)),
        3 => any::<u8>().prop_map(Step::Hash),
        4 => Just(Step::Mark),
        2 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => any::<u16>().prop_map(Step::Crash),
    ]
}

struct Run {
    engine: Arc<Recording>,
    options: Options,
    store: Store,
    writer: Option<Writer>,
    model: Naive,
    /// The models at the marks, by their number, which is the applied value.
    marked: Vec<Naive>,
}

impl Run {
    fn new(options: Options) -> Self {
        let engine = Arc::new(Recording::new());
        let (store, writer) = Store::open(engine.clone(), options.clone()).unwrap();
        Self {
            engine,
            options,
            store,
            writer: Some(writer),
            model: Naive::default(),
            marked: vec![Naive::default()],
        }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    /// A revision some steps back, or one ahead.
    fn back(&self, back: u8) -> i64 {
        let span = self.model.revision - self.model.compacted.max(0) + 4;
        (self.model.revision + 1 - i64::from(back) % span).max(1)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Txn(writes) => self.txn(&writes),
            Step::Burst(count) => {
                for number in 0..count {
                    let key = [b"abc"[usize::from(number) % 3]; 2];
                    self.txn(&[Write::Put(key.to_vec(), vec![b'x'; 9], 0)]);
                }
            }
            Step::Compact(back) => self.compact(self.back(back)),
            Step::Read(query, back) => {
                let revision = if back < 100 { 0 } else { self.back(back) };
                self.read(&Query { revision, ..query });
            }
            Step::Events(back, limit) => self.events(self.back(back), limit),
            Step::Hash(back) => {
                self.hash(self.back(back));
                self.hash_of_nothing(-1 - i64::from(back));
            }
            Step::Mark => self.mark(),
            Step::Settle => self.settle(),
            Step::Restart => self.restart(),
            Step::Crash(batch) => self.crash(usize::from(batch)),
        }
    }

    fn txn(&mut self, writes: &[Write]) {
        let main = self.model.revision + 1;
        let model = &mut self.model;
        let mut txn = self.writer.as_mut().unwrap().begin();
        let mut sub = 0;
        for write in writes {
            match write {
                Write::Put(key, value, lease) => {
                    let old = model.changes.iter().rfind(|change| change.key == *key);
                    let old = old.filter(|change| change.put.is_some());
                    let old = old.map(|change| (change.encoded(), change.clone()));
                    let prior = txn.put(key, value, *lease);
                    let prev = txn.resolve(&prior.prev).unwrap();
                    assert_eq!(prev.as_deref(), old.as_ref().map(|(kv, _)| &kv[..]));
                    assert_eq!(
                        prior.meta.map(|meta| meta.lease),
                        old.map(|(_, old)| old.put.unwrap().lease)
                    );
                    model.put(main, sub, key, value, *lease);
                    sub += 1;
                }
                Write::Delete(key, end, prev) => {
                    let deleted = txn.delete_range(key, end, *prev).unwrap();
                    let expected = model.delete(main, sub, key, end);
                    sub += expected.len() as u32;
                    assert_eq!(deleted.count, expected.len() as i64);
                    if *prev {
                        let kvs: Vec<_> = expected.iter().map(Change::encoded).collect();
                        assert_eq!(elements(&deleted.kvs, 0x1a), kvs);
                    }
                    let leased = expected
                        .iter()
                        .filter(|change| change.put.as_ref().unwrap().lease != 0);
                    assert_eq!(deleted.leased.len(), leased.count());
                }
                Write::Read(query) => {
                    let current = if sub > 0 { main } else { main - 1 };
                    compare(txn.range(query), model.range(query, current));
                    let mut visited = Vec::new();
                    txn.visit(&query.key, &query.end, &mut |key| {
                        visited.push(key.kv().unwrap().to_vec());
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                    let mut live = model.live_now();
                    live.retain(|change| contains(&query.key, &query.end, &change.key));
                    let live: Vec<_> = live.into_iter().map(Change::encoded).collect();
                    assert_eq!(visited, live);
                    let one = txn.value(&query.key).unwrap();
                    let live = model
                        .live_now()
                        .into_iter()
                        .find(|change| change.key == query.key);
                    assert_eq!(one.as_deref(), live.map(Change::encoded).as_deref());
                    let outside = Query {
                        revision: 0,
                        ..query.clone()
                    };
                    let mut before = model.clone();
                    before.changes.retain(|change| change.main < main);
                    compare(self.store.range(&outside), before.range(&outside, main - 1));
                }
            }
        }
        let revision = txn.commit();
        if sub > 0 {
            model.revision = main;
        }
        assert_eq!(revision, model.revision);
        assert_eq!(self.store.revision(), revision);
        assert_eq!(self.store.key_count(), model.live_now().len() as i64);
    }

    fn compact(&mut self, revision: i64) {
        let result = self.writer().compact(revision);
        if revision <= self.model.compacted {
            assert!(matches!(result, Err(Error::Compacted { .. })));
        } else if revision > self.model.revision {
            assert!(matches!(result, Err(Error::FutureRevision { .. })));
        } else {
            result.unwrap();
            self.model.previous = self.model.compacted;
            self.model.compacted = revision;
        }
        assert_eq!(self.store.compact_revision(), self.model.compacted);
    }

    fn read(&self, query: &Query) {
        compare(
            self.store.range(query),
            self.model.range(query, self.model.revision),
        );
        let walk = self.store.walk(query.clone()).and_then(|mut walk| {
            let mut whole = Page::default();
            while let Some(page) = walk.next(20)? {
                whole.kvs.extend_from_slice(&page.kvs);
                whole.kv_count += page.kv_count;
                whole = Page {
                    kvs: whole.kvs,
                    kv_count: whole.kv_count,
                    ..page
                };
            }
            Ok(whole)
        });
        compare(walk, self.model.range(query, self.model.revision));
    }

    fn events(&self, from: i64, limit: usize) {
        let limits = EventLimits {
            events: limit,
            ..EventLimits::default()
        };
        let mut next = from;
        let mut events = Vec::new();
        while next <= self.model.revision {
            match self.store.events(next, &limits) {
                Ok(found) => {
                    assert!(found.next > next);
                    next = found.next;
                    events.extend(found.events);
                }
                Err(Error::Compacted { .. }) => {
                    assert!(next < self.model.compacted);
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(from >= self.model.compacted || from > self.model.revision);
        // What one transaction wrote twice may have been compacted.
        let kept = self.model.kept();
        let kept = |main, sub| {
            main != self.model.compacted || kept.iter().any(|k| (k.main, k.sub) == (main, sub))
        };
        events.retain(|event| kept(event.revision.main, event.revision.sub));
        let mut expected: Vec<_> = self.model.changes.iter().collect();
        expected.retain(|change| change.main >= from && kept(change.main, change.sub));
        assert_eq!(events.len(), expected.len());
        for (event, change) in events.iter().zip(expected) {
            assert_eq!(
                (event.revision.main, event.revision.sub),
                (change.main, change.sub)
            );
            assert_eq!(event.key(), change.key);
            assert_eq!(event.kind == EventKind::Put, change.put.is_some());
            match &change.put {
                Some(put) => {
                    assert_eq!(event.kv[..], change.encoded());
                    assert_eq!(event.lease, put.lease);
                }
                None => {
                    let kv = KeyValue::decode(&event.kv).unwrap();
                    assert_eq!(
                        (kv.mod_revision, kv.version, kv.create_revision),
                        (change.main, 0, 0)
                    );
                }
            }
            self.check_previous(&event.prev, change);
        }
    }

    fn check_previous(&self, prev: &Prev, change: &Change) {
        let before = |other: &&Change| other.key == change.key && other.main < change.main;
        let created = change.put.as_ref().map(|put| put.create) == Some(change.main);
        let old = self.model.changes.iter().rfind(before);
        let old = old.filter(|_| !created);
        let old = old.filter(|old| old.put.is_some()).map(Change::encoded);
        let found = self.store.resolve(prev).unwrap();
        if change.main > self.model.compacted || found.is_some() {
            assert_eq!(found.as_deref(), old.as_deref());
        }
    }

    fn hash(&self, revision: i64) {
        match self.store.hash_kv(revision) {
            Ok(hash) if hash.compact_revision == self.model.compacted => {
                assert_eq!(hash.hash, self.model.hash(revision), "at {revision}");
                assert_eq!(hash.hash_revision, revision);
            }
            Ok(hash) => {
                assert_eq!(hash.compact_revision, self.model.previous);
                assert_eq!(hash.hash_revision, self.model.compacted);
                assert_eq!(hash.hash, self.model.compaction_hash(), "of the compaction");
            }
            Err(Error::Compacted { .. }) => assert!(revision < self.model.compacted),
            Err(Error::FutureRevision { .. }) => assert!(revision > self.model.revision),
            Err(error) => panic!("{error}"),
        }
    }

    fn hash_of_nothing(&self, revision: i64) {
        let hash = self.store.hash_kv(revision).unwrap();
        assert_eq!(hash.hash, crc32c::crc32c(b"key"));
        assert_eq!(hash.hash_revision, revision);
        assert_eq!(hash.compact_revision, self.model.compacted);
        assert_eq!(hash.current_revision, self.model.revision);
    }

    fn mark(&mut self) {
        let number = self.marked.len();
        self.marked.push(self.model.clone());
        self.writer().set_applied(number.to_string().as_bytes());
    }

    fn settle(&mut self) {
        self.mark();
        let (tell, told) = std::sync::mpsc::channel();
        let done = Box::new(move || tell.send(()).unwrap());
        self.store.when_compacted(self.model.compacted, done);
        told.recv_timeout(Duration::from_secs(30)).unwrap();
        let bytes = |change: &Change| change.record().len() as u64 + 33;
        let logical: u64 = self.model.kept().into_iter().map(bytes).sum();
        let in_use: u64 = self.model.live_now().into_iter().map(bytes).sum();
        assert_eq!(self.store.logical_bytes(), 20480 + logical);
        assert_eq!(self.store.in_use_bytes(), 20480 + in_use);
    }

    fn restart(&mut self) {
        self.mark();
        let applied = self.store.flush().unwrap();
        self.reopen(self.engine.clone());
        assert_eq!(self.store.applied(), applied);
        assert_eq!(
            applied.unwrap(),
            (self.marked.len() - 1).to_string().as_bytes()
        );
    }

    fn crash(&mut self, batch: usize) {
        self.writer = None;
        let batches = self.engine.len();
        let engine = Arc::new(self.engine.prefix(batch % (batches + 1)));
        self.reopen(engine);
        let number: usize = match self.store.applied() {
            Some(applied) => String::from_utf8(applied).unwrap().parse().unwrap(),
            None => 0,
        };
        self.model = self.marked[number].clone();
        self.marked.truncate(number + 1);
        assert_eq!(self.store.revision(), self.model.revision);
        assert_eq!(self.store.compact_revision(), self.model.compacted);
    }

    fn reopen(&mut self, engine: Arc<Recording>) {
        self.writer = None;
        self.engine = engine;
        let engine: Arc<dyn Engine> = self.engine.clone();
        let (store, writer) = Store::open(engine, self.options.clone()).unwrap();
        self.store = store;
        self.writer = Some(writer);
        let mut leased = Vec::new();
        self.store
            .leased_keys(&mut |key, lease| leased.push((key.to_vec(), lease)));
        if self.store.revision() == self.model.revision {
            let live = self.model.live_now().into_iter();
            let live = live.map(|change| (change.key.clone(), change.put.as_ref().unwrap().lease));
            assert_eq!(
                leased,
                live.filter(|(_, lease)| *lease != 0).collect::<Vec<_>>()
            );
        }
    }
}

fn elements(mut kvs: &[u8], tag: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some((first, mut rest)) = kvs.split_first() {
        assert_eq!(*first, tag);
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (kv, rest) = rest.split_at(len);
        found.push(kv.to_vec());
        kvs = rest;
    }
    found
}

fn compare(found: Result<Page, Error>, expected: Result<Answer, Refused>) {
    let found = match found {
        Ok(page) => {
            let kvs = elements(&page.kvs, 0x12);
            assert_eq!(kvs.len(), page.kv_count);
            Ok(Answer {
                kvs,
                more: page.more,
                count: page.count,
                revision: page.revision,
            })
        }
        Err(Error::Compacted { .. }) => Err(Refused::Compacted),
        Err(Error::FutureRevision { .. }) => Err(Refused::Future),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, expected);
}

fn check(steps: Vec<Step>, options: Options) {
    let mut run = Run::new(options);
    for step in steps {
        run.step(step);
    }
    run.settle();
    for revision in run.model.compacted.max(1)..=run.model.revision {
        if run.model.changes.len() < 100 {
            run.hash(revision);
        }
        run.read(&Query {
            revision,
            ..Query::range("\0", "\0")
        });
    }
}

fn tight() -> Options {
    Options {
        value_cache_bytes: 100,
        recent_bytes: 0,
        pending_bytes: 500,
        persist_delay: Duration::ZERO,
        compaction_pause: Duration::ZERO,
        ..Options::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_with_tight_bounds_answers_as_the_naive_one(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        check(steps, tight());
    }

    #[test]
    fn a_store_that_persists_late_answers_as_the_naive_one(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        check(steps, Options { persist_delay: Duration::from_millis(2), ..Options::default() });
    }
}
