//! What it costs to tell many watches: `cargo run --release -p metastore-watch --example fan_out`.
//!
//! The store is a member's own, over the memory engine. Each stream encodes what it gets, as the api does, and throws it
//! away. The cost of the commits alone is measured in the same run and taken off.

#![allow(clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use metastore_engine::Kind;
use metastore_mvcc::{Store, Writer};
use metastore_watch::{Hub, Notice, StreamOptions, Subscription};

const VALUE: [u8; 256] = [b'v'; 256];

/// CPU time of this process, in microseconds.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10_000
}

/// Reads everything a stream has to tell, and counts.
async fn read(
    mut stream: metastore_watch::Stream,
    events: Arc<AtomicU64>,
    responses: Arc<AtomicU64>,
) {
    let mut buffer = BytesMut::with_capacity(1 << 20);
    loop {
        if let Notice::Events {
            events: payload, ..
        } = stream.next().await
        {
            buffer.clear();
            payload.encode(&mut buffer);
            responses.fetch_add(1, Ordering::Relaxed);
            events.fetch_add(payload.count() as u64, Ordering::Release);
        }
    }
}

/// How commits follow each other.
#[derive(Clone, Copy)]
enum Pace {
    /// As fast as they can be made.
    Flood,
    /// Each when the last was told to everybody.
    OneByOne,
    /// So many a second.
    Steady(u64),
}

struct Load {
    name: &'static str,
    streams: usize,
    watches: usize,
    /// Keys that are written, in turns of a fixed disorder.
    keys: u64,
    prefix: bool,
    pace: Pace,
    commits: u64,
}

impl Load {
    /// The key of the n-th commit.
    fn key(&self, number: u64) -> String {
        format!(
            "/registry/things/{:06}",
            number.wrapping_mul(7919) % self.keys
        )
    }

    fn write(&self, writer: &mut Writer, told: impl Fn(u64)) {
        let start = Instant::now();
        for number in 0..self.commits {
            let mut txn = writer.begin();
            txn.put(self.key(number), VALUE, 0);
            txn.commit();
            if number % 64 == 0 {
                writer.set_applied(&number.to_be_bytes());
            }
            match self.pace {
                Pace::Flood => {}
                Pace::OneByOne => told(number),
                Pace::Steady(rate) => {
                    let due = start + Duration::from_micros((number + 1) * 1_000_000 / rate);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        }
    }

    fn run(&self) {
        // A part of a name as argument runs only those loads that have it.
        if !std::env::args()
            .skip(1)
            .all(|wanted| self.name.contains(&wanted))
        {
            return;
        }
        let (baseline, _) = self.measure(0);
        let (cost, took) = self.measure(self.streams);
        let per_commit =
            self.streams as u64 * self.watches as u64 / if self.prefix { 1 } else { self.keys };
        let events = self.commits * per_commit;
        println!(
            "{:44} {:9} events, {:9} responses, {:8.0} events/s, {:7.3} us of CPU an event ({:.2} s; commits alone {:.2} s)",
            self.name,
            events,
            cost.1,
            events as f64 / took.as_secs_f64(),
            cost.0.saturating_sub(baseline.0) as f64 / events as f64,
            cost.0 as f64 / 1e6,
            baseline.0 as f64 / 1e6,
        );
    }

    /// CPU in microseconds and responses, and the time it took.
    fn measure(&self, streams: usize) -> ((u64, u64), Duration) {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = metastore_engine::open(Kind::Memory, directory.path(), Default::default())
            .expect("an engine");
        let (store, mut writer) = Store::open(engine, Default::default()).expect("a store");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let _entered = runtime.enter();
        let hub = Hub::new(store);
        let events = Arc::<AtomicU64>::default();
        let responses = Arc::<AtomicU64>::default();
        let mut watched = 0;
        for _ in 0..streams {
            let mut stream = hub.stream(StreamOptions::default());
            for _ in 0..self.watches {
                let (key, end) = if self.prefix {
                    (
                        "/registry/things/".to_string(),
                        "/registry/things0".to_string(),
                    )
                } else {
                    (self.key(watched), String::new())
                };
                watched += 1;
                let subscription = Subscription {
                    key: key.into_bytes().into(),
                    end: end.into_bytes().into(),
                    ..Subscription::default()
                };
                stream.create(subscription).expect("a watch");
            }
            runtime.spawn(read(stream, events.clone(), responses.clone()));
        }
        std::thread::sleep(Duration::from_millis(50));
        let per_commit =
            streams as u64 * self.watches as u64 / if self.prefix { 1 } else { self.keys };
        let wait = |count: u64| {
            while events.load(Ordering::Acquire) < count * per_commit {
                std::thread::yield_now();
            }
        };
        let (cpu_before, start) = (cpu(), Instant::now());
        self.write(&mut writer, |number| {
            let count = (number + 1) * per_commit;
            while events.load(Ordering::Acquire) < count {
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        wait(self.commits);
        (
            (cpu() - cpu_before, responses.load(Ordering::Relaxed)),
            start.elapsed(),
        )
    }
}

fn main() {
    let wide = Load {
        name: "10 x 100 watches of one prefix, flood",
        streams: 10,
        watches: 100,
        keys: 1000,
        prefix: true,
        pace: Pace::Flood,
        commits: 20_000,
    };
    let narrow = Load {
        name: "100 x 100 watches of a key each, flood",
        streams: 100,
        watches: 100,
        keys: 10_000,
        prefix: false,
        pace: Pace::Flood,
        commits: 1_000_000,
    };
    wide.run();
    Load {
        name: "10 x 100 watches of one prefix, 1 000/s",
        pace: Pace::Steady(1000),
        commits: 5_000,
        ..wide
    }
    .run();
    Load {
        name: "10 x 100 watches of one prefix, one by one",
        pace: Pace::OneByOne,
        commits: 3_000,
        ..wide
    }
    .run();
    Load {
        name: "10 x 100 watches of one key, 1 000/s",
        prefix: false,
        keys: 1,
        pace: Pace::Steady(1000),
        commits: 5_000,
        ..wide
    }
    .run();
    narrow.run();
    Load {
        name: "100 x 100 watches of a key each, 10 000/s",
        pace: Pace::Steady(10_000),
        commits: 50_000,
        ..narrow
    }
    .run();
    Load {
        name: "1 x 10 000 watches of a key each, flood",
        streams: 1,
        watches: 10_000,
        commits: 300_000,
        ..narrow
    }
    .run();
    Load {
        name: "10 000 x 1 watches of a key each, 10 000/s",
        streams: 10_000,
        watches: 1,
        pace: Pace::Steady(10_000),
        commits: 50_000,
        ..narrow
    }
    .run();
}
