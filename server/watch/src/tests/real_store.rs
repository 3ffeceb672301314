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
    let engine = metastore_engine::open(Kind::Memory, directory.path(), EngineOptions::default()).unwrap();
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
        log.extend(changes.into_iter().map(|(key, value)| (revision, key, value)));
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

async fn read(hub: Hub, seed: u64, newest: Arc<AtomicI64>, compacted: Arc<AtomicI64>) -> Vec<Seen> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut stream = hub.stream(StreamOptions {
        response_bytes: [200, 2000, 100_000][rng.random_range(0..3)],
        ..StreamOptions::default()
    });
    let lazy = rng.random_bool(0.3);
    let mut seen = BTreeMap::new();
    let mut asked = false;
    loop {
        if !asked && (seen.len() < 12 && rng.random_bool(0.05) || seen.is_empty()) {
            let (key, end) = match rng.random_range(0..4) {
                0 => ("k".into(), "l".into()),
                1 => (format!("k{}", rng.random_range(0..20)), "k3".into()),
                _ => (format!("k{}", rng.random_range(0..40)), String::new()),
            };
            let start = match rng.random_range(0..3) {
                0 => 0,
                1 => (stream.revision() - rng.random_range(0..1500)).max(1),
                _ => stream.revision() + rng.random_range(0..3),
            };
            if end.is_empty() || key < end {
                let created = stream.create(with_prev(from(start, range(&key, &end)))).unwrap();
                let watch = Seen {
                    from: if start == 0 { created.revision + 1 } else { start },
                    changes: Vec::new(),
                    complete: 0,
                    compacted: false,
                    key,
                    end,
                };
                seen.insert(created.watch_id, watch);
            }
        }
        let end = newest.load(Ordering::SeqCst);
        if end > 0 && !asked {
            asked = true;
            // So that the answer comes: somebody is there, and nobody waits for the future.
            stream.create(on("nothing")).unwrap();
            seen.retain(|id, seen: &mut Seen| seen.from <= end || stream.cancel(*id).is_none());
            stream.request_progress();
        }
        let Ok(notice) = tokio::time::timeout(Duration::from_millis(20), stream.next()).await else {
            continue;
        };
        match Told::of(notice) {
            Told::Events {
                watch,
                events,
                revision,
                ..
            } => {
                let seen: &mut Seen = seen.get_mut(&watch).unwrap();
                for event in events {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    if let Some(prev) = event.prev {
                        assert_eq!(prev.key, event.kv.key);
                        assert!(prev.mod_revision < event.kv.mod_revision);
                    }
                    let change = (event.kv.mod_revision, text(&event.kv.key), text(&event.kv.value));
                    seen.changes.push(change);
                }
                assert!(seen.complete < revision);
                seen.complete = revision;
            }
            Told::Progress(-1, revision) => {
                assert!(revision >= end && asked);
                for seen in seen.values_mut().filter(|seen| !seen.compacted) {
                    seen.complete = revision;
                }
                return seen.into_values().collect();
            }
            Told::Compacted(watch, revision) => {
                let seen: &mut Seen = seen.get_mut(&watch).unwrap();
                assert!(seen.from.max(seen.complete) < revision);
                assert!(revision <= compacted.load(Ordering::SeqCst));
                seen.compacted = true;
            }
            other => panic!("{other:?}"),
        }
        if lazy {
            tokio::time::sleep(Duration::from_micros(rng.random_range(0..3000))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_beside_a_writer_each_get_everything_once() {
    for ring_bytes in [1, 20_000, 32 << 20] {
        let seed: u64 = rand::random();
        println!("seed {seed}");
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
        let reader = |number| tokio::spawn(read(hub.clone(), seed + number, newest.clone(), compacted.clone()));
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
                let to = if seen.compacted { seen.complete } else { i64::MAX };
                let expected = log
                    .iter()
                    .filter(|(revision, key, _)| (seen.from..=to).contains(revision) && inside(key));
                let expected: Vec<_> = expected.cloned().collect();
                assert_eq!(seen.changes, expected, "{}..{} {}", seen.key, seen.end, seen.compacted);
                watches += 1;
                events += seen.changes.len();
                ended += usize::from(seen.compacted);
            }
        }
        println!("{watches} watches, {events} events, {ended} compacted");
        assert_eq!(hub.counts(), crate::Counts {
            events: hub.counts().events,
            ..Default::default()
        });
    }
}
