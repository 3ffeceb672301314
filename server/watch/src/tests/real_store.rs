//! The room over the store of a member, with a writer and many readers at once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use metastore_engine::{Kind, Options as EngineOptions};
use metastore_mvcc::{Options as StoreOptions, Store, Writer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

struct Member {
    store: Store,
    writer: Writer,
    _directory: tempfile::TempDir,
}

fn member() -> Member {
    let directory = tempfile::tempdir().unwrap();
    let engine =
        metastore_engine::open(Kind::Memory, directory.path(), EngineOptions::default()).unwrap();
    // As little as possible stays in memory, so that history is read from the engine.
    let options = StoreOptions {
        recent_bytes: 1,
        value_cache_bytes: 10_000,
        persist_delay: Duration::from_millis(1),
        ..StoreOptions::default()
    };
    let (store, writer) = Store::open(engine, options).unwrap();
    Member {
        store,
        writer,
        _directory: directory,
    }
}

async fn brief(stream: &mut Stream) -> String {
    Told::of(stream.next().await).brief()
}

#[tokio::test]
async fn events_of_the_store_reach_their_watches() {
    let Member {
        store, mut writer, ..
    } = member();
    let hub = Hub::new(store);
    let mut stream = hub.stream(StreamOptions::default());
    stream.create(with_prev(range("a", "c"))).unwrap();
    let mut txn = writer.begin();
    txn.put("a", "1", 0);
    txn.put("b", "1", 0);
    txn.put("c", "1", 0);
    txn.commit();
    assert_eq!(brief(&mut stream).await, "0@2: a=1 b=1");
    let mut txn = writer.begin();
    txn.put("a", "2", 0);
    txn.delete_range("b", "", false).unwrap();
    txn.commit();
    assert_eq!(brief(&mut stream).await, "0@3: a=2(1) b-(1)");
    writer.set_applied(b"1");
    stream.request_progress();
    assert_eq!(brief(&mut stream).await, "-1@3");
    stream.create(with_prev(from(2, on("a")))).unwrap();
    assert_eq!(brief(&mut stream).await, "1@3: a=1 a=2(1)");
    writer.compact(3).unwrap();
    stream.create(from(2, on("a"))).unwrap();
    stream.create(with_prev(from(3, everything()))).unwrap();
    assert_eq!(brief(&mut stream).await, "2 compacted 3");
    assert_eq!(brief(&mut stream).await, "3@3: a=2 b-");
}

#[tokio::test]
async fn the_hubs_task_ends_with_the_hub() {
    let Member { store, .. } = member();
    let hub = Hub::new(store);
    let stream = hub.stream(StreamOptions::default());
    drop(hub);
    let metrics = tokio::runtime::Handle::current().metrics();
    tokio::task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), 1, "the stream needs it");
    drop(stream);
    tokio::task::yield_now().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}

/// (revision, key, value; an empty value is a deletion)
type Change = (i64, String, String);

/// Commits and compacts, and returns what happened.
fn write(mut writer: Writer, compacted: &AtomicI64, seed: u64, commits: usize) -> Vec<Change> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut log = Vec::new();
    for number in 0..commits {
        let mut txn = writer.begin();
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let key = format!("k{}", rng.random_range(0..40));
            if changes.iter().any(|(changed, _)| *changed == key) {
                continue;
            }
            if rng.random_bool(0.2) {
                if txn.delete_range(&key, "", false).unwrap().count > 0 {
                    changes.push((key, String::new()));
                }
            } else {
                let value = format!("{number}");
                txn.put(&key, &value, 0);
                changes.push((key, value));
            }
        }
        let revision = txn.commit();
        log.extend(
            changes
                .into_iter()
                .map(|(key, value)| (revision, key, value)),
        );
        if number % 7 == 0 {
            writer.set_applied(&number.to_be_bytes());
        }
        if number % 500 == 499 {
            let to = revision - 700;
            if to > 1 {
                // First told, then done: nobody may be surprised.
                compacted.store(to, Ordering::SeqCst);
                writer.compact(to).unwrap();
            }
        }
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_micros(rng.random_range(0..2000)));
        }
    }
    log
}

/// What a client was told of a watch.
#[derive(Debug)]
struct Seen {
    key: String,
    end: String,
    from: i64,
    changes: Vec<Change>,
    complete: i64,
    compacted: bool,
}

struct Reader {
    stream: Stream,
    rng: StdRng,
    seen: BTreeMap<i64, Seen>,
    /// The newest revision when the writer had ended; 0 before.
    end: i64,
    compacted: Arc<AtomicI64>,
}

impl Reader {
    fn new(hub: &Hub, seed: u64, compacted: Arc<AtomicI64>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = StreamOptions {
            response_bytes: [200, 2000, 100_000][rng.random_range(0..3)],
            ..StreamOptions::default()
        };
        Self {
            stream: hub.stream(options),
            rng,
            seen: BTreeMap::new(),
            end: 0,
            compacted,
        }
    }

    async fn run(mut self, newest: Arc<AtomicI64>) -> Vec<Seen> {
        let lazy = self.rng.random_bool(0.3);
        loop {
            if self.end == 0 {
                self.end = newest.load(Ordering::SeqCst);
                match self.end {
                    0 => self.subscribe(),
                    _ => self.ask(),
                }
            }
            let next = tokio::time::timeout(Duration::from_millis(20), self.stream.next());
            if let Ok(notice) = next.await
                && self.note(Told::of(notice))
            {
                return self.seen.into_values().collect();
            }
            if lazy {
                let pause = self.rng.random_range(0..3000);
                tokio::time::sleep(Duration::from_micros(pause)).await;
            }
        }
    }

    /// Now and then a new watch.
    fn subscribe(&mut self) {
        let rng = &mut self.rng;
        if !self.seen.is_empty() && (self.seen.len() == 12 || rng.random_bool(0.95)) {
            return;
        }
        let (key, end) = match rng.random_range(0..4) {
            0 => ("k".into(), "l".into()),
            1 => (format!("k{}", rng.random_range(0..20)), "k3".into()),
            _ => (format!("k{}", rng.random_range(0..40)), String::new()),
        };
        if !end.is_empty() && key >= end {
            return;
        }
        let start = match rng.random_range(0..3) {
            0 => 0,
            1 => (self.stream.revision() - rng.random_range(0..1500)).max(1),
            _ => self.stream.revision() + rng.random_range(0..3),
        };
        let created = self
            .stream
            .create(with_prev(from(start, range(&key, &end))))
            .unwrap();
        let seen = Seen {
            from: if start == 0 {
                created.revision + 1
            } else {
                start
            },
            changes: Vec::new(),
            complete: 0,
            compacted: false,
            key,
            end,
        };
        self.seen.insert(created.watch_id, seen);
    }

    /// Asks for the progress with which all ends.
    fn ask(&mut self) {
        // So that the answer comes: somebody is there, and nobody waits for the future.
        self.stream.create(on("nothing")).unwrap();
        let Self {
            seen, stream, end, ..
        } = self;
        seen.retain(|id, seen| seen.from <= *end || stream.cancel(*id).is_none());
        stream.request_progress();
    }

    /// Whether that was the last.
    fn note(&mut self, told: Told) -> bool {
        match told {
            Told::Events {
                watch,
                events,
                revision,
                ..
            } => {
                let seen = self.seen.get_mut(&watch).unwrap();
                seen.changes.extend(events.into_iter().map(|event| {
                    if let Some(prev) = event.prev {
                        assert_eq!(prev.key, event.kv.key);
                        assert!(prev.mod_revision < event.kv.mod_revision);
                    }
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    (
                        event.kv.mod_revision,
                        text(&event.kv.key),
                        text(&event.kv.value),
                    )
                }));
                assert!(seen.complete < revision);
                seen.complete = revision;
                false
            }
            Told::Progress(-1, revision) => {
                assert!(revision >= self.end && self.end > 0);
                for seen in self.seen.values_mut().filter(|seen| !seen.compacted) {
                    seen.complete = revision;
                }
                true
            }
            Told::Compacted(watch, revision) => {
                let seen = self.seen.get_mut(&watch).unwrap();
                assert!(seen.from.max(seen.complete) < revision);
                assert!(revision <= self.compacted.load(Ordering::SeqCst));
                seen.compacted = true;
                false
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_beside_a_writer_each_get_everything_once() {
    for ring_bytes in [1, 20_000, 32 << 20] {
        let seed: u64 = rand::random();
        eprintln!("seed {seed}");
        let Member {
            store,
            writer,
            _directory,
        } = member();
        let options = Options {
            ring_bytes,
            ..Options::default()
        };
        let hub = Hub::with_options(store.clone(), options);
        let newest = Arc::<AtomicI64>::default();
        let compacted = Arc::<AtomicI64>::default();
        let reader = |number| {
            let reader = Reader::new(&hub, seed + number, compacted.clone());
            tokio::spawn(reader.run(newest.clone()))
        };
        let readers: Vec<_> = (1..25).map(reader).collect();
        let watermark = compacted.clone();
        let log = tokio::task::spawn_blocking(move || write(writer, &watermark, seed, 4000));
        let log = log.await.unwrap();
        newest.store(store.revision(), Ordering::SeqCst);
        let (mut watches, mut events, mut ended) = (0, 0, 0);
        for reader in readers {
            for seen in reader.await.unwrap() {
                let inside = |key: &str| match &seen.end[..] {
                    "" => key == seen.key,
                    end => key >= &seen.key[..] && key < end,
                };
                let to = if seen.compacted {
                    seen.complete
                } else {
                    i64::MAX
                };
                let expected = log.iter().filter(|(revision, key, _)| {
                    (seen.from..=to).contains(revision) && inside(key)
                });
                let expected: Vec<_> = expected.cloned().collect();
                assert_eq!(
                    seen.changes, expected,
                    "{}..{} {}",
                    seen.key, seen.end, seen.compacted
                );
                watches += 1;
                events += seen.changes.len();
                ended += usize::from(seen.compacted);
            }
        }
        eprintln!("{watches} watches, {events} events, {ended} compacted");
        assert_eq!(
            hub.counts(),
            crate::Counts {
                events: hub.counts().events,
                ..Default::default()
            }
        );
    }
}
