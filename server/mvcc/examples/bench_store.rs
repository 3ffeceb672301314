//! What the store costs, over the memory engine. Run with `cargo run --release --example bench_store -- [part]...`
//! where a part is one of: put-short put page count hot restart bytes compaction readers. Prints a line for each figure.

#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metastore_engine::{Engine, Kind};
use metastore_mvcc::{Options, Query, Store, Writer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Transactions between two marks: what one log entry brings under load.
const PER_MARK: u64 = 32;

struct Bench {
    _directory: tempfile::TempDir,
    engine: Arc<dyn Engine>,
    store: Store,
    writer: Writer,
    since_mark: u64,
}

impl Bench {
    fn new(options: Options) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let engine = metastore_engine::open(Kind::Memory, directory.path(), Default::default())
            .expect("a memory engine");
        let (store, writer) = Store::open(engine.clone(), options).expect("an empty store");
        Self {
            _directory: directory,
            engine,
            store,
            writer,
            since_mark: 0,
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let mut txn = self.writer.begin();
        txn.put(key, value, 0);
        txn.commit();
        self.since_mark += 1;
        if self.since_mark == PER_MARK {
            self.mark();
        }
    }

    fn mark(&mut self) {
        self.since_mark = 0;
        let revision = self.store.revision();
        self.writer.set_applied(&revision.to_be_bytes());
    }

    fn settle(&mut self) {
        self.mark();
        self.store.snapshot().expect("drained");
    }
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

fn registry_key(number: u64) -> String {
    format!(
        "/registry/pods/namespace-{:03}/pod-{:09}",
        number % 100,
        number
    )
}

/// Processor time of the whole process, and of the main thread.
fn processor() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own: u64 = stat
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut total = own;
    for task in std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = task.path();
        if path
            .file_name()
            .is_some_and(|name| *name == *std::process::id().to_string())
        {
            continue;
        }
        let stat = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        total += stat
            .split(' ')
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0);
    }
    (Duration::from_nanos(total), Duration::from_nanos(own))
}

fn measure(name: &str, count: u64, run: impl FnOnce()) {
    let (start, used) = (Instant::now(), processor());
    run();
    let (wall, now) = (start.elapsed(), processor());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{name}: {:.3} us each of wall time, {:.3} us of processor, {:.3} us of it in the calling thread ({count} times)",
        each(wall),
        each(now.0.saturating_sub(used.0)),
        each(now.1.saturating_sub(used.1)),
    );
}

/// About a million, and a power of two.
const MILLION: u64 = 1 << 20;

/// The number that comes at place `at` when all below a million come once, as if at random.
fn shuffled(at: u64) -> u64 {
    at.wrapping_mul(0x9e37_79b1) & (MILLION - 1)
}

fn short(number: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(&number.to_be_bytes());
}

/// As [`registry_key`], at the price of a copy.
fn long(number: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(b"/registry/pods/namespace-000/pod-000000000");
    let mut digits = |mut at: usize, mut number: u64| {
        while number > 0 {
            key[at] = b'0' + (number % 10) as u8;
            number /= 10;
            at -= 1;
        }
    };
    digits(27, number % 100);
    digits(41, number);
}

fn put(name: &str, fill: fn(u64, &mut Vec<u8>)) {
    let value = [b'v'; 256];
    let mut bench = Bench::new(Options::default());
    let mut key = Vec::new();
    let mut put = |bench: &mut Bench, number: u64| {
        key.clear();
        fill(number, &mut key);
        bench.put(&key, &value);
    };
    measure(&format!("put, sequential new, {name}"), MILLION, || {
        for number in 0..MILLION {
            put(&mut bench, number);
        }
        bench.settle();
    });
    measure(&format!("put, random of 1 M, {name}"), MILLION, || {
        for at in 0..MILLION {
            put(&mut bench, shuffled(at));
        }
        bench.settle();
    });
    let mut bench = Bench::new(Options::default());
    measure(&format!("put, random new, {name}"), MILLION, || {
        for at in 0..MILLION {
            put(&mut bench, shuffled(at));
        }
        bench.settle();
    });
}

fn page() {
    let mut bench = Bench::new(Options::default());
    for number in 0..100_000 {
        bench.put(registry_key(number).as_bytes(), &[b'v'; 256]);
    }
    bench.settle();
    let pages = 5_000;
    let mut random = SmallRng::seed_from_u64(1);
    let query = |from: u64, revision| Query {
        limit: 1000,
        revision,
        ..Query::range(registry_key(from), "\0")
    };
    measure("key of a page of 1000 of 100 k", pages * 1000, || {
        for _ in 0..pages {
            let page = bench.store.range(&query(random.random_range(0..98), 0));
            assert_eq!(page.expect("a page").kv_count, 1000);
        }
    });
    let keys_only = Query {
        keys_only: true,
        ..query(0, 0)
    };
    measure("key of a keys-only page", pages * 1000, || {
        for _ in 0..pages {
            assert_eq!(
                bench.store.range(&keys_only).expect("a page").kv_count,
                1000
            );
        }
    });
    let pinned = bench.store.revision();
    for _ in 0..10_000 {
        bench.put(
            registry_key(random.random_range(0..100_000)).as_bytes(),
            &[b'w'; 256],
        );
    }
    bench.settle();
    let pages = 500;
    measure("page of 1000, pinned 10 k writes ago", pages, || {
        for _ in 0..pages {
            let page = bench
                .store
                .range(&query(random.random_range(0..98), pinned));
            assert_eq!(page.expect("a page").kv_count, 1000);
        }
    });
    let one = Query::one(registry_key(7));
    measure("range of one key", 1_000_000, || {
        for _ in 0..1_000_000 {
            assert_eq!(bench.store.range(&one).expect("a page").kv_count, 1);
        }
    });
}

fn count() {
    let mut bench = Bench::new(Options::default());
    for number in 0..1_000_000 {
        bench.put(&key(number), b"");
    }
    bench.settle();
    let query = |revision| Query {
        count_only: true,
        revision,
        ..Query::range(key(1000).to_vec(), key(990_000).to_vec())
    };
    measure("count of 1 M, newest", 1_000_000, || {
        for _ in 0..1_000_000 {
            assert_eq!(
                bench.store.range(&query(0)).expect("a count").count,
                989_000
            );
        }
    });
    for back in [1, 100, 10_000, 900_000] {
        let revision = bench.store.revision() - back;
        measure(
            &format!("count of 1 M, pinned {back} writes ago"),
            20,
            || {
                for _ in 0..20 {
                    bench.store.range(&query(revision)).expect("a count");
                }
            },
        );
    }
}

fn hot() {
    let mut bench = Bench::new(Options::default());
    let mut slowest = Duration::ZERO;
    for part in 0..4 {
        measure(&format!("put of one key, part {part}"), 250_000, || {
            for _ in 0..250_000 {
                let start = Instant::now();
                bench.put(b"hot", &[b'v'; 64]);
                slowest = slowest.max(start.elapsed());
            }
        });
    }
    println!("slowest put of one key: {slowest:.2?}");
    bench.settle();
    let middle = Query {
        revision: 500_000,
        ..Query::one("hot")
    };
    measure("range of one key, 500 k revisions ago", 200_000, || {
        for _ in 0..200_000 {
            bench.store.range(&middle).expect("a page");
        }
    });
    compact(&mut bench, "compaction of 1 M revisions of one key");
}

fn compact(bench: &mut Bench, name: &str) {
    let revision = bench.store.revision();
    let start = Instant::now();
    bench.writer.compact(revision).expect("not compacted yet");
    bench.mark();
    let (tell, told) = std::sync::mpsc::channel();
    bench
        .store
        .when_compacted(revision, Box::new(move || tell.send(()).expect("waiting")));
    told.recv().expect("told");
    let removed = bench.store.counters().compacted_revisions;
    println!("{name}: {removed} removed in {:.2?}", start.elapsed());
}

fn restart() {
    for kept in [0, 1] {
        let mut bench = Bench::new(Options::default());
        for _ in 0..=kept {
            for number in 0..1_000_000 {
                bench.put(registry_key(number).as_bytes(), b"value");
            }
        }
        bench.settle();
        let Bench {
            engine,
            store,
            writer,
            _directory,
            ..
        } = bench;
        drop((store, writer));
        measure(
            &format!("restart of 1 M keys with {kept} older revision each"),
            1,
            || {
                let opened = Store::open(engine, Options::default()).expect("the store again");
                assert_eq!(opened.0.key_count(), 1_000_000);
            },
        );
    }
}

fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().expect("statistics");
    tikv_jemalloc_ctl::stats::allocated::read().expect("statistics")
}

fn bytes() {
    // The engine's own memory is not ours: it gets nothing, since nothing is marked. The recent changes would hold
    // everything then, so that what they hold is measured and subtracted.
    for (name, random) in [("in order", false), ("at random", true)] {
        for len in [8usize, 48] {
            let mut numbers: Vec<u64> = (0..1_000_000).collect();
            if random {
                let mut rng = SmallRng::seed_from_u64(1);
                for at in (1..numbers.len()).rev() {
                    numbers.swap(at, rng.random_range(0..=at));
                }
            }
            let directory = tempfile::tempdir().expect("a temporary directory");
            let engine = metastore_engine::open(Kind::Memory, directory.path(), Default::default());
            let engine = engine.expect("a memory engine");
            let options = Options {
                value_cache_bytes: 0,
                recent_bytes: 0,
                ..Options::default()
            };
            let (store, mut writer) = Store::open(engine.clone(), options).expect("a store");
            for (at, number) in numbers.iter().enumerate() {
                writer.begin().put(format!("{number:0len$}"), b"", 0);
                if at % 1000 == 999 {
                    writer.set_applied(b"");
                }
            }
            store.snapshot().expect("drained");
            let before = allocated();
            drop((store, writer));
            let freed = before - allocated();
            println!(
                "index memory, {len}-byte keys inserted {name}: {:.1} bytes per key beside the key",
                freed as f64 / 1e6 - len as f64
            );
        }
    }
}

fn percentiles(name: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "{name}: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us, p99.99 {:.1} us, slowest {:.1} us",
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        at(1.0)
    );
}

/// Puts at a steady pace for a while, and how long each took.
fn paced_puts(bench: &mut Bench, keys: u64, duration: Duration) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(2);
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < duration {
        for _ in 0..10 {
            let key = registry_key(random.random_range(0..keys));
            let start = Instant::now();
            bench.put(key.as_bytes(), &[b'v'; 256]);
            times.push(start.elapsed().as_nanos() as u64);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    times
}

fn compaction() {
    let mut bench = Bench::new(Options::default());
    for _ in 0..3 {
        for number in 0..300_000 {
            bench.put(registry_key(number).as_bytes(), &[b'v'; 256]);
        }
    }
    bench.settle();
    let quiet = paced_puts(&mut bench, 300_000, Duration::from_secs(3));
    percentiles("put at a steady pace, without compaction", quiet);
    let revision = bench.store.revision();
    let start = Instant::now();
    bench.writer.compact(revision).expect("not compacted yet");
    bench.mark();
    let mut times = Vec::new();
    while !bench.store.compaction_done(revision) {
        times.extend(paced_puts(&mut bench, 300_000, Duration::from_millis(100)));
    }
    let removed = bench.store.counters().compacted_revisions;
    println!(
        "compaction of {removed} revisions took {:.2?}",
        start.elapsed()
    );
    percentiles("put at a steady pace, during compaction", times);
}

fn readers() {
    let mut bench = Bench::new(Options::default());
    for number in 0..100_000 {
        bench.put(registry_key(number).as_bytes(), &[b'v'; 256]);
    }
    bench.settle();
    let stop = Arc::new(AtomicBool::new(false));
    let pages = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (store, stop, pages) = (bench.store.clone(), stop.clone(), pages.clone());
            std::thread::spawn(move || {
                let query = Query::range(registry_key(0), "\0");
                while !stop.load(Ordering::Relaxed) {
                    store.range(&query).expect("a page");
                    pages.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let times = paced_puts(&mut bench, 100_000, Duration::from_secs(5));
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a reader");
    }
    percentiles(
        "put at a steady pace, beside two readers of everything",
        times,
    );
    println!(
        "lists of 100 k keys meanwhile: {}",
        pages.load(Ordering::Relaxed)
    );
}

fn main() {
    let parts: [(&str, fn()); 9] = [
        ("put-short", || put("8-byte keys", short)),
        ("put", || put("42-byte keys", long)),
        ("page", page),
        ("count", count),
        ("hot", hot),
        ("restart", restart),
        ("bytes", bytes),
        ("compaction", compaction),
        ("readers", readers),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, run) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
