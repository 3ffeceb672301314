//! Measures the raft log: `cargo run --release -p metastore-raft --example raft_log -- DIRECTORY [ENTRY_BYTES]`.
//!
//! One appender that waits for each entry, a hundred that do, and for comparison bare write+fdatasync
//! on a file of zeros; then how long a log of a gibibyte takes to open.

#![allow(clippy::print_stdout, reason = "a measurement is printed")]

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use metastore_raft::wal::{self, Options, Position, Wal};

#[derive(Clone)]
struct Entry(Position, Bytes);

impl wal::Entry for Entry {
    fn position(&self) -> Position {
        self.0
    }

    fn byte_len(&self) -> usize {
        self.1.len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.1);
    }

    fn decode(position: Position, bytes: Bytes) -> Result<Self, String> {
        Ok(Self(position, bytes))
    }
}

fn entry(index: u64, bytes: &Bytes) -> Vec<Entry> {
    vec![Entry(Position { term: 1, index }, bytes.clone())]
}

/// Nanoseconds that the threads of this process have been running: all, and the log's own.
fn cpu_nanos() -> Result<(u64, u64), Box<dyn Error>> {
    let (mut all, mut own) = (0, 0);
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let stat = fs::read_to_string(task.join("schedstat"))?;
        let nanos = stat.split(' ').next().unwrap_or("0").parse::<u64>()?;
        all += nanos;
        if fs::read_to_string(task.join("comm"))?.starts_with("raft-log") {
            own += nanos;
        }
    }
    Ok((all, own))
}

fn show_cpu(before: (u64, u64), count: u64) -> Result<(), Box<dyn Error>> {
    let after = cpu_nanos()?;
    let each = |nanos: u64| nanos as f64 / 1e3 / count as f64;
    let (all, own) = (each(after.0 - before.0), each(after.1 - before.1));
    println!(
        "{:28} {all:.2} us of CPU per entry, {own:.2} of them in the log's threads",
        ""
    );
    Ok(())
}

fn show(name: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!(
        "{name:28} p50 {:?} p90 {:?} p99 {:?} max {:?}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn bare(directory: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let path = directory.join("bare");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(&path)?;
    let record = vec![0xa5; 512];
    file.write_all_at(&vec![0; (count + 1) * 512], 0)?;
    file.sync_all()?;
    let (cpu, mut took) = (cpu_nanos()?, Vec::with_capacity(count));
    for at in 0..count {
        let before = Instant::now();
        file.write_all_at(&record, at as u64 * 512)?;
        file.sync_data()?;
        took.push(before.elapsed());
    }
    show("bare write + fdatasync", took);
    show_cpu(cpu, count as u64)?;
    Ok(fs::remove_file(path)?)
}

fn told(sender: &Sender<Instant>) -> wal::Done {
    let (sender, at) = (sender.clone(), Instant::now());
    Box::new(move |result| {
        result.expect("the disk works");
        // The measurement may have ended.
        let _ = sender.send(at);
    })
}

fn one(log: &Wal<Entry>, bytes: &Bytes, count: u64) -> Result<(), Box<dyn Error>> {
    let (sender, done) = channel();
    let (cpu, mut took) = (cpu_nanos()?, Vec::new());
    for index in 0..count {
        log.append(entry(index, bytes), told(&sender))?;
        took.push(done.recv()?.elapsed());
    }
    show("one appender", took);
    show_cpu(cpu, count)
}

fn hundred(log: &Wal<Entry>, bytes: &Bytes, first: u64, count: u64) -> Result<(), Box<dyn Error>> {
    let (sender, done) = channel();
    let (before, start, cpu) = (log.metrics(), Instant::now(), cpu_nanos()?);
    let mut took = Vec::new();
    for index in first..first + 100 {
        log.append(entry(index, bytes), told(&sender))?;
    }
    for index in first + 100..first + count {
        took.push(done.recv()?.elapsed());
        log.append(entry(index, bytes), told(&sender))?;
    }
    for _ in 0..100 {
        took.push(done.recv()?.elapsed());
    }
    let (elapsed, after) = (start.elapsed(), log.metrics());
    show("hundred appenders", took);
    println!(
        "{:28} {:.0} entries/s, {:.1} entries per sync",
        "",
        count as f64 / elapsed.as_secs_f64(),
        count as f64 / (after.syncs - before.syncs) as f64,
    );
    show_cpu(cpu, count)
}

fn gibibyte(directory: &Path) -> Result<(), Box<dyn Error>> {
    let options = Options::new(directory.join("gibibyte"));
    let log = Wal::<Entry>::open(options.clone())?;
    let bytes = Bytes::from(vec![7; 1000]);
    let (sender, done) = channel();
    let start = Instant::now();
    let mut index = 0;
    while log.kept_bytes() < 1 << 30 {
        let batch = (index..index + 1000)
            .flat_map(|index| entry(index, &bytes))
            .collect();
        log.append(batch, told(&sender))?;
        index += 1000;
        if index % 16_000 == 0 {
            (0..16).try_for_each(|_| done.recv().map(drop))?;
        }
    }
    println!(
        "{:28} {index} entries written in {:?}",
        "a gibibyte of log",
        start.elapsed()
    );
    drop(log);
    let start = Instant::now();
    let log = Wal::<Entry>::open(options.clone())?;
    println!("{:28} opened in {:?}", "", start.elapsed());
    let start = Instant::now();
    let (mut from, mut read) = (0, 0);
    while from < index {
        let entries = log.read_some(from..index, 1 << 20)?;
        from += entries.len() as u64;
        read += entries.iter().map(|entry| entry.1.len()).sum::<usize>();
    }
    println!("{:28} read {} MiB in {:?}", "", read >> 20, start.elapsed());
    drop(log);
    Ok(fs::remove_dir_all(&options.directory)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("which directory?")?;
    let directory = Path::new(&directory);
    let bytes = Bytes::from(vec![
        0x55;
        arguments.next().map_or(Ok(300), |text| text.parse())?
    ]);
    bare(directory, 5000)?;
    let options = Options::new(directory.join("log"));
    let start = Instant::now();
    let log = Wal::open(options.clone())?;
    println!("{:28} begun in {:?}", "a new log", start.elapsed());
    one(&log, &bytes, 5000)?;
    hundred(&log, &bytes, 5000, 200_000)?;
    drop(log);
    fs::remove_dir_all(&options.directory)?;
    bare(directory, 5000)?;
    gibibyte(directory)
}
