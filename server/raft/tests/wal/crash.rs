//! Kills a process that writes a log, and looks whether everything it was told of is there.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;

use metastore_raft::wal::{Options, Position};

use crate::scratch::{Log, at, directory, item, options};

const DIRECTORY: &str = "METASTORE_TEST_LOG";
const ROUNDS: u64 = 20;

fn child_options(directory: &Path) -> Options {
    let mut options = options(directory);
    options.segment_bytes = 256 << 10;
    options
}

fn term_of(index: u64) -> u64 {
    1 + index / 500
}

fn length_of(index: u64) -> usize {
    (index * 37 % 1500) as usize
}

/// Not a test of its own: the process that is killed. Tells on its output what is durable.
#[test]
fn writer_process() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let log = Log::open(child_options(Path::new(&directory))).unwrap();
    let first = log.history().last.map_or(0, |last| last.index + 1);
    let (room, taken) = sync_channel::<()>(64);
    for index in first.. {
        room.send(()).unwrap();
        let taken = taken.recv();
        let items = vec![item(term_of(index), index, length_of(index))];
        let done = Box::new(move |result: Result<(), _>| {
            result.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "durable {index}").unwrap();
            out.flush().unwrap();
        });
        taken.unwrap();
        log.append(items, done).unwrap();
        if index % 50 == 49 {
            log.save_committed(at(term_of(index - 20), index - 20))
                .unwrap();
        }
        if index % 400 == 399 {
            log.purge(at(term_of(index - 300), index - 300)).unwrap();
        }
    }
}

fn start(directory: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["crash::writer_process", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn everything_that_was_reported_durable_is_there_after_a_kill() {
    let directory = directory();
    let mut durable = None;
    for round in 0..ROUNDS {
        let mut child = start(directory.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let wanted = 1 + round * 61 % 997;
        let reported = lines
            .by_ref()
            .filter_map(|line| Some(line.split_once("durable ")?.1.parse::<u64>().unwrap()));
        durable = reported.take(wanted as usize).last().or(durable);
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died.
        durable = lines
            .filter_map(|line| {
                line.split_once("durable ")
                    .and_then(|(_, index)| index.parse().ok())
            })
            .last()
            .or(durable);

        let log = Log::open(child_options(directory.path())).unwrap();
        let history = log.history();
        assert!(history.last.map(|last| last.index) >= durable);
        let first = history.first_index().unwrap();
        let all = log.read(0..u64::MAX).unwrap();
        assert_eq!(all.first().unwrap().at.index, first);
        for (index, entry) in (first..).zip(&all) {
            assert_eq!(*entry, item(term_of(index), index, length_of(index)));
        }
        assert!(history.committed <= history.last);
        assert_eq!(
            history.purged,
            first.checked_sub(1).map(|index| Position {
                term: term_of(index),
                index
            })
        );
    }
    assert!(durable.unwrap() > 1000);
}
