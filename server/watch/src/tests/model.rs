//! Random life of streams against a model: each watch gets exactly what the model says, whatever the order of things.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::store::Logged;
use super::*;
use crate::history::Source;

const KEYS: [&str; 6] = ["a", "b", "ba", "bb", "c", "d"];

/// A stream with what the model knows about it.
#[derive(Debug)]
struct Client {
    stream: Stream,
    alarm: Arc<Alarm>,
    watches: BTreeMap<i64, Expected>,
    /// How many have been created so far.
    created: usize,
    /// How often it was woken when it last had nothing to tell; `None` when it may have something.
    asleep: Option<usize>,
    /// The unanswered requests for progress.
    requested: Vec<Request>,
    /// Requests were made that may or may not be answered, since for a while there was no watch.
    forgotten: bool,
    told_progress: i64,
}

/// A request for progress.
#[derive(Debug)]
struct Request {
    /// The newest revision then.
    revision: i64,
    /// How many watches had been created.
    watches: usize,
}

/// What a watch is to get.
#[derive(Debug)]
struct Expected {
    /// How many were created before it.
    number: usize,
    subscription: Subscription,
    /// The first revision for it.
    from: i64,
    start: i64,
    /// Events of the log that were looked at: all before were told or are not for it.
    at: usize,
    /// It has been told that it has everything up to here.
    complete: i64,
    in_fragments: bool,
    over: bool,
}

impl Expected {
    fn wants(&self, logged: &Logged) -> bool {
        let key = &logged.kv.key[..];
        let Subscription {
            key: from,
            end,
            filters,
            ..
        } = &self.subscription;
        let inside = match &end[..] {
            b"" => key == from,
            b"\0" => key >= &from[..],
            end => key >= &from[..] && key < end,
        };
        let filtered = match logged.kind {
            EventKind::Put => filters.no_put,
            EventKind::Delete => filters.no_delete,
        };
        inside && !filtered && logged.kv.mod_revision >= self.from
    }

    /// The next event for it.
    fn next<'log>(&mut self, log: &'log [Logged]) -> Option<&'log Logged> {
        while let Some(logged) = log.get(self.at) {
            if self.wants(logged) {
                return Some(logged);
            }
            self.at += 1;
        }
        None
    }

    /// It says to have everything up to `revision`.
    fn check_complete(&mut self, log: &[Logged], revision: i64) {
        assert!(
            revision >= self.complete,
            "revision {revision} after {}",
            self.complete
        );
        if let Some(missing) = self.next(log) {
            assert!(
                missing.kv.mod_revision > revision,
                "{missing:?} is missing at {revision}"
            );
        }
        self.complete = revision;
    }

    fn check_events(&mut self, log: &[Logged], events: &[Event], compacted: i64) {
        assert!(!events.is_empty());
        for event in events {
            let wanted = self.next(log).expect("an event that never was");
            assert_eq!((event.kind, &event.kv), (wanted.kind, &wanted.kv));
            match &event.prev {
                Some(_) => assert!(self.subscription.prev_kv && event.prev == wanted.before),
                None if self.subscription.prev_kv && wanted.kv.mod_revision > compacted => {
                    assert_eq!(wanted.before, None);
                }
                None => {}
            }
            self.at += 1;
        }
    }
}

impl Client {
    fn new(hub: &Hub, rng: &mut StdRng) -> Self {
        let options = StreamOptions {
            response_bytes: *[1, 300, 1000, 100_000].choose(rng).unwrap(),
            fragment_bytes: *[200, 2 << 20].choose(rng).unwrap(),
            ..StreamOptions::default()
        };
        Self {
            stream: hub.stream(options),
            alarm: Arc::default(),
            watches: BTreeMap::new(),
            created: 0,
            asleep: None,
            requested: Vec::new(),
            forgotten: false,
            told_progress: 0,
        }
    }

    fn create(&mut self, rng: &mut StdRng, newest: i64) {
        let key = *KEYS.choose(rng).unwrap();
        let end = *["", "", "\0", "b", "c", "e"].choose(rng).unwrap();
        let start = match rng.random_range(0..6) {
            0..3 => 0,
            3 => newest + rng.random_range(0..5),
            _ => rng.random_range(1..=newest),
        };
        let subscription = Subscription {
            id: rng.random_bool(0.2).then(|| rng.random_range(0..8)),
            prev_kv: rng.random_bool(0.3),
            fragment: rng.random_bool(0.3),
            filters: Filters {
                no_put: rng.random_bool(0.1),
                no_delete: rng.random_bool(0.1),
            },
            ..from(start, range(key, end))
        };
        self.asleep = None;
        let id = subscription.id.unwrap_or(0);
        match self.stream.create(subscription.clone()) {
            Ok(created) => {
                assert_eq!(created.revision, newest);
                assert!(id == 0 || id == created.watch_id);
                let expected = Expected {
                    number: self.created,
                    from: if start == 0 { newest + 1 } else { start },
                    start,
                    at: 0,
                    complete: 0,
                    in_fragments: false,
                    over: false,
                    subscription,
                };
                self.created += 1;
                assert!(self.watches.insert(created.watch_id, expected).is_none());
            }
            Err(crate::CreateError::DuplicateId) => assert!(self.watches.contains_key(&id)),
            Err(crate::CreateError::EmptyRange) => {
                assert!(key >= end && end.len() == 1 && end != "\0")
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn cancel(&mut self, rng: &mut StdRng) {
        let id = rng.random_range(0..8);
        let known = self.watches.remove(&id).is_some();
        assert_eq!(self.stream.cancel(id).is_some(), known);
        self.asleep = None;
        self.forget_requests();
    }

    /// Without watches requests are not answered: nor is one when all watches that there were are over, since the stream
    /// has known that before the client made new ones.
    fn forget_requests(&mut self) {
        let open = self.watches.values().filter(|watch| !watch.over);
        let oldest = open.map(|watch| watch.number).min();
        let lives = |request: &Request| oldest.is_some_and(|oldest| oldest < request.watches);
        let before = self.requested.len();
        self.requested.retain(lives);
        self.forgotten |= self.requested.len() < before;
    }

    fn request_progress(&mut self, newest: i64) {
        self.stream.request_progress();
        self.asleep = None;
        if self.watches.values().any(|watch| !watch.over) {
            self.requested.push(Request {
                revision: newest,
                watches: self.created,
            });
        }
    }

    /// Reads once and checks; whether there was something.
    fn read(&mut self, store: &TestStore) -> bool {
        let waker = Waker::from(self.alarm.clone());
        let woken = self.alarm.0.load(Ordering::SeqCst);
        let rested = self.asleep == Some(woken) && store.is_resident();
        match self.stream.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                self.asleep = Some(woken);
                false
            }
            Poll::Ready(notice) => {
                assert!(!rested, "{notice:?} came without a wake");
                self.asleep = None;
                self.check(Told::of(notice), store);
                true
            }
        }
    }

    fn check(&mut self, told: Told, store: &TestStore) {
        let log = store.log();
        let compacted = store.compact_revision();
        match told {
            Told::Events {
                watch,
                revision,
                events,
                fragment,
            } => {
                let fragmented =
                    |watch: (&i64, &Expected)| watch.1.in_fragments.then_some(*watch.0);
                let open = self.watches.iter().find_map(fragmented);
                assert!(
                    open.is_none_or(|open| open == watch),
                    "another watch between fragments"
                );
                let expected = self.watches.get_mut(&watch).expect("an unknown watch");
                assert!(!expected.over);
                assert!(!fragment || expected.subscription.fragment);
                expected.check_events(&log, &events, compacted);
                expected.in_fragments = fragment;
                assert!(revision <= store.revision());
                if !fragment {
                    assert!(revision >= events.last().unwrap().kv.mod_revision);
                    expected.check_complete(&log, revision);
                    self.told_progress = self.told_progress.max(revision);
                }
            }
            Told::Progress(-1, revision) => {
                let forgotten = std::mem::take(&mut self.forgotten).then_some(0);
                let first = forgotten.or(self.requested.first().map(|first| first.revision));
                let first = first.expect("a progress that nobody asked for");
                assert!(first <= revision && revision <= store.revision());
                self.requested
                    .retain(|requested| requested.revision > revision);
                assert!(revision >= self.told_progress);
                self.told_progress = revision;
                for watch in self.watches.values_mut().filter(|watch| !watch.over) {
                    assert!(watch.start <= revision, "progress before a start revision");
                    watch.check_complete(&log, revision);
                }
            }
            Told::Compacted(watch, revision) => {
                let expected = self.watches.get_mut(&watch).expect("an unknown watch");
                assert!(revision <= compacted);
                assert!(!expected.over && !expected.in_fragments);
                assert!(expected.from < revision && expected.complete < revision);
                expected.over = true;
                self.forget_requests();
            }
            other => panic!("{other:?}"),
        }
    }

    /// Reads until every watch has everything.
    fn finish(&mut self, store: &TestStore) {
        let log = store.log();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let newest = store.revision();
        let future = self
            .watches
            .values()
            .any(|watch| !watch.over && watch.start > newest);
        loop {
            while self.read(store) {}
            let open = self.watches.values_mut().filter(|watch| !watch.over);
            let missing = open.filter_map(|watch| watch.next(&log)).count();
            let idle = self.watches.values().all(|watch| watch.over);
            let settled = !store.is_resident() || !self.woken();
            if missing == 0 && settled && (self.requested.is_empty() || future || idle) {
                return;
            }
            let lost = store.is_resident() && !self.woken();
            assert!(
                !lost,
                "a wake was lost: {missing} events, requests {:?}: {self:?}",
                self.requested
            );
            assert!(
                std::time::Instant::now() < deadline,
                "{missing} events never came"
            );
            std::thread::yield_now();
        }
    }

    fn woken(&self) -> bool {
        self.asleep != Some(self.alarm.0.load(Ordering::SeqCst))
    }
}

fn transaction(rng: &mut StdRng, number: usize) -> Vec<Op> {
    let mut ops = Vec::new();
    for key in KEYS {
        match rng.random_range(0..12) {
            0..2 => ops.push(store::put(key, &number.to_string())),
            2 => ops.push(store::put(key, &"x".repeat(rng.random_range(0..400)))),
            3 => ops.push(store::delete(key)),
            _ => {}
        }
    }
    ops
}

fn live(seed: u64, slow: bool, steps: usize) {
    eprintln!("seed {seed}");
    let rng = &mut StdRng::seed_from_u64(seed);
    let fixture = Fixture::with_options(Options {
        ring_bytes: *[1, 2000, 20_000, 1 << 20].choose(rng).unwrap(),
        history_readers: 2,
    });
    let store = &fixture.store;
    store.slow.store(slow, Ordering::Relaxed);
    let mut clients: Vec<Client> = Vec::new();
    let busy = rng.random_bool(0.3);
    for number in 0..steps {
        let newest = store.revision();
        match rng.random_range(0..100) {
            0..30 => {
                for _ in 0..if busy { 60 } else { 1 } {
                    store.commit(&transaction(rng, number));
                }
            }
            30..50 => fixture.hub.pump(),
            50..52 if clients.len() < 4 => clients.push(Client::new(&fixture.hub, rng)),
            52 if !clients.is_empty() => {
                clients.swap_remove(rng.random_range(0..clients.len()));
            }
            53 => store.compact(rng.random_range(1..=newest)),
            54 => store
                .hide_prevs
                .store(rng.random_bool(0.5), Ordering::Relaxed),
            action => {
                let count = clients.len();
                if count == 0 {
                    continue;
                }
                let client = &mut clients[rng.random_range(0..count)];
                match action {
                    55..62 => client.create(rng, newest),
                    62..65 => client.cancel(rng),
                    65..69 => client.request_progress(newest),
                    _ => {
                        for _ in 0..rng.random_range(1..10) {
                            client.read(store);
                        }
                    }
                }
            }
        }
    }
    fixture.hub.pump();
    for client in &mut clients {
        client.finish(store);
    }
    let counts = fixture.hub.counts();
    if !slow {
        assert_eq!((counts.pending_events, counts.slow_watchers), (0, 0));
    }
    let watches: usize = clients.iter().map(|client| client.watches.len()).sum();
    assert_eq!(counts.watchers, watches as i64);
    drop(clients);
    assert_eq!(fixture.hub.counts().watchers, 0);
}

/// One seed can be played again with `WATCH_SEED=<seed>`.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("WATCH_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).map(|_| rand::random()).collect(),
    }
}

#[test]
fn every_watch_gets_exactly_what_the_model_says() {
    for seed in seeds(100) {
        live(seed, false, 600);
    }
}

#[test]
fn every_watch_gets_exactly_that_when_history_comes_late_too() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    for seed in seeds(30) {
        live(seed, true, 600);
    }
}
