//! A process is killed in the middle of its writes and flushes.
//!
//! The child appends rows by a fixed rule, so that the state after `n` batches is known, flushes
//! in a second thread all the time and tells which batches it knows to be durable.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metastore_engine::{Batch, Engine, Kind, Space};

use super::support::{all, noise, number, open, revision};

const DIRECTORY: &str = "METASTORE_ENGINE_CRASH_DIRECTORY";
const ENGINE: &str = "METASTORE_ENGINE_CRASH_KIND";

/// Rows of this many batches are kept.
const WINDOW: u64 = 200;

fn rows(batch: u64) -> u32 {
    (batch % 13) as u32 + 1
}

fn value(batch: u64, sub: u32) -> Vec<u8> {
    let seed = batch * 100 + u64::from(sub);
    noise(seed, (seed % 7 * 150) as usize)
}

fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    for space in [Space::Record, Space::Meta] {
        for sub in 0..rows(number) {
            batch.put(space, &revision(number, sub), &value(number, sub));
        }
        let Some(old) = number.checked_sub(WINDOW) else {
            continue;
        };
        if number.is_multiple_of(7) {
            batch.delete_range(space, &revision(old, 0), &revision(old + 1, 0));
        } else {
            for sub in 0..rows(old) {
                batch.delete(space, &revision(old, sub));
            }
        }
    }
    batch.put(Space::System, b"written", &number.to_le_bytes());
    batch.put(Space::System, &[(number % 10) as u8], &number.to_le_bytes());
    batch
}

/// What `written` batches leave in Record and in Meta.
fn expected(written: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let oldest = written.saturating_sub(WINDOW - 1).max(1);
    (oldest..=written)
        .flat_map(|batch| (0..rows(batch)).map(move |sub| (batch, sub)))
        .map(|(batch, sub)| (revision(batch, sub).to_vec(), value(batch, sub)))
        .collect()
}

fn check(engine: &dyn Engine) -> u64 {
    let written = number(engine.get(Space::System, b"written").unwrap());
    let expected = expected(written);
    assert!(
        all(engine, Space::Record) == expected,
        "records after {written}"
    );
    assert!(
        all(engine, Space::Meta) == expected,
        "index rows after {written}"
    );
    let mut system = BTreeMap::new();
    for batch in 1..=written {
        system.insert(vec![(batch % 10) as u8], batch.to_le_bytes().to_vec());
        system.insert(b"written".to_vec(), batch.to_le_bytes().to_vec());
    }
    assert!(all(engine, Space::System) == system.into_iter().collect::<Vec<_>>());
    written
}

/// The child's whole life; returns at once where this process is not one.
pub(crate) fn child() {
    let (Ok(directory), Ok(kind)) = (std::env::var(DIRECTORY), std::env::var(ENGINE)) else {
        return;
    };
    let engine = open(kind.parse().unwrap(), Path::new(&directory));
    let start = number(engine.get(Space::System, b"written").unwrap());
    let written = AtomicU64::new(start);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let known = written.load(Ordering::Acquire);
                engine.flush().unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "durable {known}").unwrap();
                out.flush().unwrap();
            }
        });
        for number in start + 1.. {
            engine.write(&batch(number)).unwrap();
            written.store(number, Ordering::Release);
        }
    });
}

/// Runs a child until it has flushed `flushes` times and some microseconds more, and kills it.
/// Returns the last batch that it said is durable.
fn run_and_kill(kind: Kind, directory: &Path, flushes: usize, micros: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ENGINE, kind.name())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut durable = 0;
    // False at the end of the output and at a line that was cut off.
    let mut next = |flushes: &mut usize| {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        if let Some(known) = line
            .strip_prefix("durable ")
            .and_then(|rest| rest.strip_suffix('\n'))
        {
            durable = known.parse().unwrap();
            *flushes += 1;
        }
        line.ends_with('\n')
    };
    let mut seen = 0;
    while seen < flushes {
        assert!(next(&mut seen), "the child died by itself");
    }
    std::thread::sleep(Duration::from_micros(micros));
    child.kill().unwrap();
    child.wait().unwrap();
    while next(&mut seen) {}
    durable
}

pub(crate) fn a_killed_process_leaves_a_prefix_of_its_batches(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..12u64 {
        let random = noise(round, 2);
        let flushes = usize::from(random[0] % 8);
        let micros = u64::from(random[1]) * 100;
        let durable = run_and_kill(kind, directory.path(), flushes, micros);
        let engine = open(kind, directory.path());
        let written = check(&*engine);
        assert!(
            written >= durable.max(before),
            "{written} < {durable} or {before}"
        );
        before = written;
    }
    assert!(before > 0);
}
