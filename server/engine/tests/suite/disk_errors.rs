//! A full disk: a small file system of its own in a mount namespace, where the machine allows it.
//! Other refused writes: a process that may not write files beyond a size.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use metastore_engine::{Engine, Error, Kind, Space};

use super::support::{all, noise, number, open, revision};

const DIRECTORY: &str = "METASTORE_ENGINE_FULL_DIRECTORY";
const ENGINE: &str = "METASTORE_ENGINE_FULL_KIND";

const MIB: usize = 1 << 20;

/// The first rows are small.
fn value(main: u64) -> Vec<u8> {
    noise(main, if main <= 2 { 1000 } else { MIB / 2 })
}

/// Mounts a file system of 64 MiB for one command.
const MOUNT: &str = "mount -t tmpfs -o size=64m tmpfs \"$0\" || exit 77; exec \"$@\"";
const NOT_MOUNTED: i32 = 77;

pub(crate) fn an_engine_that_ran_out_of_room_says_so_and_loses_nothing(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_runs_out_of_room", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env(ENGINE, kind.name())
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) => return eprintln!("not tested: no mount namespace: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let cannot_unshare = text.contains("unshare failed") || text.contains("unshare:");
    if output.status.code() == Some(NOT_MOUNTED) || cannot_unshare {
        return eprintln!("not tested: no mount namespace: {text}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{text}");
    assert!(said.contains("lost nothing"), "{said}\n{text}");
}

fn append(engine: &dyn Engine, main: u64) -> Result<(), Error> {
    let mut batch = metastore_engine::Batch::new();
    batch.put(Space::Record, &revision(main, 0), &value(main));
    batch.put(Space::System, b"applied", &main.to_le_bytes());
    engine.write(&batch)
}

fn check(engine: &dyn Engine, expected: u64) {
    assert_eq!(
        number(engine.get(Space::System, b"applied").unwrap()),
        expected
    );
    let rows = all(engine, Space::Record);
    assert_eq!(rows.len() as u64, expected);
    for (main, (key, found)) in (1..).zip(rows) {
        assert!(key == revision(main, 0) && found == value(main));
    }
}

/// Repeats a call until it succeeds: RocksDB looks for room every five seconds.
fn retry(mut call: impl FnMut() -> Result<(), Error>) {
    let start = Instant::now();
    while let Err(error) = call() {
        assert!(error.is_out_of_space(), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "{error:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a child was told; None where this process is not one.
fn told() -> Option<(PathBuf, Kind)> {
    let directory = std::env::var(DIRECTORY).ok()?;
    let kind = std::env::var(ENGINE).ok()?;
    Some((directory.into(), kind.parse().unwrap()))
}

/// The child's whole life; returns at once where this process is not one.
pub(crate) fn child_without_room() {
    let Some((directory, kind)) = told() else {
        return;
    };
    let filler = directory.join("filler");
    let directory = directory.join("engine");
    let engine = open(kind, &directory);
    let mut applied = 0;
    for _ in 0..4 {
        applied += 1;
        append(&*engine, applied).unwrap();
    }
    engine.flush().unwrap();
    fs::write(&filler, vec![0; 56 * MIB]).unwrap();
    let error = loop {
        match append(&*engine, applied + 1).and_then(|()| {
            applied += 1;
            engine.flush()
        }) {
            Ok(()) => assert!(applied < 1000),
            Err(error) => break error,
        }
    };
    assert!(error.is_out_of_space(), "{error:?}");
    // The state is still readable, and still an error rather than a lie.
    check(&*engine, applied);
    assert!(engine.flush().unwrap_err().is_out_of_space());
    check(&*engine, applied);

    fs::remove_file(&filler).unwrap();
    retry(|| engine.flush());
    for _ in 0..4 {
        retry(|| append(&*engine, applied + 1));
        applied += 1;
    }
    retry(|| engine.flush());
    check(&*engine, applied);
    drop(engine);
    check(&*open(kind, &directory), applied);
    println!("lost nothing");
}

/// Ignores the signal that would end the process, and allows files of 400 KiB.
const LIMIT: &str = "trap '' XFSZ; ulimit -f 800; exec \"$@\"";

pub(crate) fn a_write_that_the_system_refuses_is_never_taken_for_durable(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", LIMIT, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_is_refused_large_files", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .env(ENGINE, kind.name())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
    let durable = said.split_once("durable ").expect("the child tells").1;
    let durable: u64 = durable.lines().next().unwrap().parse().unwrap();
    let engine = open(kind, directory.path());
    let applied = number(engine.get(Space::System, b"applied").unwrap());
    assert!(applied >= durable, "{applied} of {durable}");
    check(&*engine, applied);
}

/// The child's whole life; returns at once where this process is not one.
pub(crate) fn child_with_small_files() {
    let Some((directory, kind)) = told() else {
        return;
    };
    let engine = open(kind, &directory);
    append(&*engine, 1).unwrap();
    append(&*engine, 2).unwrap();
    engine.flush().unwrap();
    let mut applied = 2;
    while applied < 100 && append(&*engine, applied + 1).is_ok() {
        applied += 1;
    }
    for _ in 0..3 {
        let error = engine.flush().unwrap_err();
        assert!(!error.is_out_of_space(), "{error:?}");
        check(&*engine, applied);
    }
    println!("\ndurable 2");
}
