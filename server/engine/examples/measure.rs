//! Measures an engine as a member uses it and prints the figures.
//!
//! `cargo run --release -p metastore-engine --example measure -- [memory|rocksdb] [rows] [folder]`

#![allow(clippy::print_stdout)]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metastore_engine::{Batch, Engine, Error, Kind, Options, Space};

const BATCH_ROWS: u64 = 100;
const RECORD_BYTES: usize = 288;
const META_BYTES: usize = 48;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_else(|| "memory".to_owned());
    let kind: Kind = kind.parse().expect("memory or rocksdb");
    let rows = arguments
        .next()
        .map_or(1_000_000, |rows| rows.parse().expect("rows"));
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("metastore-engine-measure-{}", std::process::id()));
    let measured = measure(kind, rows, &folder);
    fs::remove_dir_all(&folder).expect("the folder was created");
    measured
}

fn measure(kind: Kind, rows: u64, folder: &Path) -> Result<(), Error> {
    println!(
        "{} engine, {rows} rows of 300 B and as many of 60 B",
        kind.name()
    );
    let rss_before = rss();
    let engine = open(kind, folder)?;
    write(&*engine, 0, rows)?;
    report("flush of the rest", 1, || engine.flush())?;
    report("reads after a write, one row", 100_000, || {
        get(&*engine, rows, 100_000)
    })?;
    report("get_many of 1000 adjacent rows", 1_000_000, || {
        get_many(&*engine, rows, 1)
    })?;
    report("get_many of 1000 rows far apart", 100_000, || {
        get_many(&*engine, rows, 997)
    })?;
    report("scan of Meta", rows, || scan(&*engine, Space::Meta))?;
    report("scan of Record", rows, || scan(&*engine, Space::Record))?;
    println!(
        "{:<34} {:>8.1} MiB engine, {:.1} MiB resident more, {:.1} MiB disk, {} stalls",
        "memory",
        mib(engine.memory_bytes()),
        mib(rss() - rss_before),
        mib(engine.disk_bytes()),
        engine.stalls()
    );
    drop(engine);

    let (started, cpu_before) = (Instant::now(), cpu());
    let engine = open(kind, folder)?;
    println!(
        "{:<34} {:>8.1} ms, {:.0} ms of CPU",
        "open",
        millis(started.elapsed()),
        millis(cpu() - cpu_before)
    );
    report("first scan of Meta", rows, || scan(&*engine, Space::Meta))?;
    beside_flushes(&engine, rows)?;
    delete(&*engine, rows)?;
    report("reclaim of nine tenths", rows * 9 / 10, || {
        engine.reclaim(&|_| ControlFlow::Continue(()))
    })?;
    report_space(&*engine, "afterwards");
    report("append and delete one row pair", 2 * rows, || {
        churn(&*engine, 2 * rows, 2 * rows)
    })?;
    report_space(&*engine, "afterwards");
    report("flush", 1, || engine.flush())?;
    report("get_many of 1000 adjacent rows", 1_000_000, || {
        get_many_from(&*engine, 3 * rows, rows, 1)
    })?;
    report("scan of Meta", rows, || scan(&*engine, Space::Meta))?;
    Ok(())
}

fn open(kind: Kind, folder: &Path) -> Result<Arc<dyn Engine>, Error> {
    metastore_engine::open(kind, folder, Options::default())
}

fn key(main: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key
}

/// Fills `value` so that half of it compresses.
fn fill(value: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let half = value.len() / 2;
    for chunk in value[..half].chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Appends rows and prints what that costs, apart from making up the rows.
fn write(engine: &dyn Engine, from: u64, to: u64) -> Result<(), Error> {
    let (mut record, mut meta) = ([b'r'; RECORD_BYTES], [b'm'; META_BYTES]);
    let mut batch = Batch::new();
    let (mut in_engine, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let cpu_before = cpu();
    let mut making_up = Duration::ZERO;
    for main in (from..to).step_by(BATCH_ROWS as usize) {
        let cpu_started = thread_cpu();
        batch.clear();
        for main in main..main + BATCH_ROWS {
            fill(&mut record, main);
            fill(&mut meta, main);
            batch.put(Space::Record, &key(main), &record);
            batch.put(Space::Meta, &key(main), &meta);
        }
        batch.put(Space::System, b"applied", &main.to_le_bytes());
        making_up += thread_cpu().saturating_sub(cpu_started);
        let made = Instant::now();
        engine.write(&batch)?;
        in_engine += made.elapsed();
        slowest = slowest.max(made.elapsed());
    }
    let batches = ((to - from) / BATCH_ROWS) as f64;
    let cpu = (cpu() - cpu_before).saturating_sub(making_up);
    println!(
        "{:<34} {:>8.0} /s, {:.2} us in write, {:.2} us of CPU a row pair, slowest {:.1} ms",
        "batches of 100 row pairs",
        batches / in_engine.as_secs_f64(),
        micros(in_engine) / batches / BATCH_ROWS as f64,
        micros(cpu) / batches / BATCH_ROWS as f64,
        millis(slowest)
    );
    Ok(())
}

fn get(engine: &dyn Engine, rows: u64, count: u64) -> Result<(), Error> {
    for number in 0..count {
        let row = engine.get(Space::Record, &key(number * 7919 % rows))?;
        assert!(row.is_some());
    }
    Ok(())
}

/// Appends rows and deletes as many old ones, as a store under Kubernetes does: of every ten rows
/// nine live for as long as `rows / 2` later ones, and one stays.
fn churn(engine: &dyn Engine, first: u64, rows: u64) -> Result<(), Error> {
    let mut batch = Batch::new();
    let (mut record, mut meta) = ([b'r'; RECORD_BYTES], [b'm'; META_BYTES]);
    for main in first..first + rows {
        fill(&mut record, main);
        fill(&mut meta, main);
        batch.put(Space::Record, &key(main), &record);
        batch.put(Space::Meta, &key(main), &meta);
        let old = main - rows / 2;
        if old >= first && !old.is_multiple_of(10) {
            batch.delete(Space::Record, &key(old));
            batch.delete(Space::Meta, &key(old));
        }
        if batch.len() >= 1000 {
            engine.write(&batch)?;
            batch.clear();
        }
    }
    engine.write(&batch)
}

fn report_space(engine: &dyn Engine, when: &str) {
    println!(
        "{when:<34} {:>8.1} MiB engine, {:.1} MiB disk, {} stalls",
        mib(engine.memory_bytes()),
        mib(engine.disk_bytes()),
        engine.stalls()
    );
}

/// Gets a thousand rows at a time, of which each is `step` rows behind the one before it.
fn get_many(engine: &dyn Engine, rows: u64, step: u64) -> Result<(), Error> {
    get_many_from(engine, 0, rows, step)
}

fn get_many_from(engine: &dyn Engine, first: u64, rows: u64, step: u64) -> Result<(), Error> {
    let rounds = if step == 1 { 1000 } else { 100 };
    for round in 0..rounds {
        let from = first + round * 104_729 % (rows - 1000 * step);
        let keys: Vec<[u8; 12]> = (0..1000).map(|number| key(from + number * step)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let values = engine.get_many(Space::Record, &keys)?;
        assert!(values.iter().all(Option::is_some));
    }
    Ok(())
}

fn scan(engine: &dyn Engine, space: Space) -> Result<(), Error> {
    let mut bytes = 0;
    engine.scan(space, &[], None, &mut |key, value| {
        bytes += key.len() + value.len();
        ControlFlow::Continue(())
    })?;
    assert!(bytes > 0);
    Ok(())
}

/// Reads and writes while another thread flushes all the time.
fn beside_flushes(engine: &Arc<dyn Engine>, rows: u64) -> Result<(), Error> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flushes = scope.spawn(|| -> Result<Duration, Error> {
            let mut slowest = Duration::ZERO;
            while !is_done.load(Ordering::Acquire) {
                let started = Instant::now();
                engine.flush()?;
                slowest = slowest.max(started.elapsed());
            }
            Ok(slowest)
        });
        let mut slowest = Duration::ZERO;
        let reads = scope.spawn(|| -> Result<Vec<Duration>, Error> {
            let mut times = Vec::new();
            let mut number = 0u64;
            while !is_done.load(Ordering::Acquire) {
                let started = Instant::now();
                engine.get(Space::Record, &key(number * 7919 % rows))?;
                times.push(started.elapsed());
                number += 1;
                std::thread::sleep(Duration::from_micros(50));
            }
            times.sort_unstable();
            Ok(times)
        });
        let mut batch = Batch::new();
        for main in (rows..rows + rows / 10).step_by(10) {
            batch.clear();
            for main in main..main + 10 {
                batch.put(Space::Record, &key(main), &[1; RECORD_BYTES]);
                batch.put(Space::Meta, &key(main), &[1; META_BYTES]);
            }
            let started = Instant::now();
            engine.write(&batch)?;
            slowest = slowest.max(started.elapsed());
            std::thread::sleep(Duration::from_micros(100));
        }
        is_done.store(true, Ordering::Release);
        let times = reads.join().expect("no panic")?;
        let flush = flushes.join().expect("no panic")?;
        println!(
            "{:<34} {:>8.1} ms at most; beside them reads p50 {:.1} us, p99 {:.1} us, slowest {:.2} ms; slowest write {:.2} ms",
            "flushes",
            millis(flush),
            micros(times[times.len() / 2]),
            micros(times[times.len() * 99 / 100]),
            millis(times[times.len() - 1]),
            millis(slowest)
        );
        Ok(())
    })
}

/// Deletes nine rows of ten, a thousand in a batch, as a compaction does.
fn delete(engine: &dyn Engine, rows: u64) -> Result<(), Error> {
    report("deletes of one row pair", rows * 9 / 10, || {
        let mut batch = Batch::new();
        for main in (0..rows).filter(|main| main % 10 != 0) {
            batch.delete(Space::Record, &key(main));
            batch.delete(Space::Meta, &key(main));
            if batch.len() >= 1000 {
                engine.write(&batch)?;
                batch.clear();
            }
        }
        engine.write(&batch)
    })
}

fn report(what: &str, count: u64, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let (started, cpu_before) = (Instant::now(), cpu());
    work()?;
    let (elapsed, cpu) = (started.elapsed(), cpu() - cpu_before);
    println!(
        "{what:<34} {:>8.1} ms, {:>9.0} rows/s, {:.2} us each, {:.2} us of CPU",
        millis(elapsed),
        count as f64 / elapsed.as_secs_f64(),
        micros(elapsed) / count as f64,
        micros(cpu) / count as f64
    );
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// CPU time of this process, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(
        ticks
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum::<u64>()
            * 10,
    )
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat
        .split_whitespace()
        .next()
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
