//! A disk that becomes full: a small file system of its own in a mount namespace, where the machine
//! allows one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use std::{env, fs};

use metastore_raft::wal::{Error, Options, Space, Vote};

use crate::room::eventually;
use crate::scratch::{Item, Log, append, at, item, items, options, segments};

const DIRECTORY: &str = "METASTORE_TEST_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=16m tmpfs \"$0\" || exit 77; exec \"$@\"";
const NOT_MOUNTED: i32 = 77;
const LEN: usize = 60_000;

/// Runs a test of this program again, with a small file system.
fn on_a_small_disk(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT])
        .arg(directory.path())
        .arg(env::current_exe().unwrap())
        .args([&format!("full_disk::{test}"), "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .output();
    let output = match run {
        Ok(output) => output,
        Err(error) => return eprintln!("not tested: no mount namespace: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NOT_MOUNTED) || text.contains("unshare:") {
        return eprintln!("not tested: no mount namespace: {text}");
    }
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{text}");
    assert!(said.contains("lost nothing"), "{said}\n{text}");
}

/// In the program that has the small file system: where it is.
fn small_disk() -> Option<PathBuf> {
    env::var_os(DIRECTORY).map(PathBuf::from)
}

fn small_options(directory: &Path) -> Options {
    let mut options = options(directory);
    options.segment_bytes = 2 << 20;
    options.first_segment_bytes = 1 << 20;
    options.reserve_bytes = 1 << 20;
    options
}

/// Appends without waiting.
fn offer(log: &Log, items: Vec<Item>) -> Receiver<Result<(), Error>> {
    let (sender, done) = channel();
    log.append(items, Box::new(move |result| sender.send(result).unwrap()))
        .unwrap();
    done
}

#[test]
fn a_log_that_fills_the_disk_says_so_waits_and_goes_on_when_it_is_purged() {
    let Some(directory) = small_disk() else {
        return on_a_small_disk(
            "a_log_that_fills_the_disk_says_so_waits_and_goes_on_when_it_is_purged",
        );
    };
    let log = Log::open(small_options(&directory)).unwrap();
    let mut next = 0;
    while log.space() == Space::Enough {
        append(&log, vec![item(1, next, LEN)]);
        next += 1;
        assert!(next < 300, "the disk is full");
    }
    // It was told with room for more than a few.
    let told = next;
    append(&log, items(1, next..next + 10, LEN));
    next += 10;
    let waiting = offer(&log, items(1, next..next + 80, LEN));
    next += 80;
    assert_eq!(
        waiting.recv_timeout(Duration::from_secs(3)).unwrap_err(),
        RecvTimeoutError::Timeout
    );
    assert_eq!(log.read(0..next).unwrap(), items(1, 0..next, LEN));
    log.purge(at(1, told / 2)).unwrap();
    waiting
        .recv_timeout(Duration::from_secs(30))
        .unwrap()
        .unwrap();
    log.purge(at(1, told)).unwrap();
    eventually("there is room again", || log.space() == Space::Enough);
    drop(log);
    let log = Log::open(small_options(&directory)).unwrap();
    assert_eq!(log.read(0..next).unwrap(), items(1, told + 1..next, LEN));
    append(&log, vec![item(1, next, LEN)]);
    println!("lost nothing");
}

#[test]
fn a_disk_that_others_fill_is_noticed_and_the_log_goes_on_when_they_go() {
    let Some(directory) = small_disk() else {
        return on_a_small_disk(
            "a_disk_that_others_fill_is_noticed_and_the_log_goes_on_when_they_go",
        );
    };
    let log = Log::open(small_options(&directory)).unwrap();
    append(&log, items(1, 0..5, LEN));
    eventually("the reserve is there", || {
        segments(&small_options(&directory)).len() == 2
    });
    let hog = directory.join("hog");
    // As much as there is.
    let _ = fs::write(&hog, vec![1; 20 << 20]);
    eventually("it is noticed", || log.space() == Space::Full);
    // What was prepared before is still good: a segment, and most of another.
    append(&log, items(1, 5..30, LEN));
    let waiting = offer(&log, items(1, 30..100, LEN));
    assert_eq!(
        waiting.recv_timeout(Duration::from_secs(3)).unwrap_err(),
        RecvTimeoutError::Timeout
    );
    // A start on the full disk is no different: nothing that was durable is gone.
    drop(log);
    assert!(matches!(waiting.recv().unwrap(), Err(Error::Closed)));
    let log = Log::open(small_options(&directory)).unwrap();
    let durable = log.history().last.unwrap().index + 1;
    assert!(durable >= 30);
    assert_eq!(log.read(0..100).unwrap(), items(1, 0..durable, LEN));
    eventually("it is noticed", || log.space() == Space::Full);
    let waiting = offer(&log, items(1, durable..100, LEN));
    fs::remove_file(&hog).unwrap();
    waiting
        .recv_timeout(Duration::from_secs(30))
        .unwrap()
        .unwrap();
    eventually("there is room again", || log.space() == Space::Enough);
    assert_eq!(log.read(0..100).unwrap(), items(1, 0..100, LEN));
    println!("lost nothing");
}

const LIMITED: &str = "METASTORE_TEST_LIMITED_FILES";
/// Ignores the signal and limits files to 16 KiB; dash counts in sectors, other shells in KiB.
const LIMIT: &str = "trap '' XFSZ; ulimit -f 32; exec \"$@\"";

fn limited_options(directory: &Path) -> Options {
    let mut options = options(directory);
    options.segment_bytes = 256 << 10;
    options.first_segment_bytes = 256 << 10;
    options
}

/// Not a test of its own: the process whose writes fail.
#[test]
fn process_with_limited_files() {
    let Some(directory) = env::var_os(LIMITED) else {
        return;
    };
    let log = Log::open(limited_options(Path::new(&directory))).unwrap();
    let next = log.history().last.unwrap().index + 1;
    for index in next.. {
        match offer(&log, vec![item(1, index, 1000)]).recv().unwrap() {
            Ok(()) => println!("\ndurable {index}"),
            Err(error) => {
                assert!(matches!(error, Error::Io { what: "write", .. }), "{error}");
                break;
            }
        }
    }
    // From now on everything is refused, even what would fit; what was read before can be read.
    let last = log.history().last.unwrap().index;
    let refused = log.append(
        items(1, last + 1..last + 2, 1),
        Box::new(|_| panic!("not queued")),
    );
    assert!(matches!(refused, Err(Error::Io { .. })));
    let vote = Vote {
        term: 9,
        member: 1,
        granted: false,
    };
    assert!(
        log.save_vote(vote, Box::new(|_| panic!("not queued")))
            .is_err()
    );
    assert!(log.save_committed(at(1, 0)).is_err());
    assert!(log.truncate_after(None).is_err());
    assert!(log.purge(at(1, 1)).is_err());
    assert_eq!(log.read(0..last).unwrap(), items(1, 0..last, 1000));
    println!("\nrefused the rest");
}

#[test]
fn after_a_write_that_failed_nothing_more_is_written_and_nothing_durable_is_lost() {
    let directory = crate::scratch::directory();
    append(
        &Log::open(limited_options(directory.path())).unwrap(),
        items(1, 0..2, 1000),
    );
    let output = Command::new("sh")
        .args(["-c", LIMIT, "sh"])
        .arg(env::current_exe().unwrap())
        .args([
            "full_disk::process_with_limited_files",
            "--exact",
            "--nocapture",
        ])
        .env(LIMITED, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("refused the rest"),
        "{said}\n{text}"
    );
    let mut told = said
        .lines()
        .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
    let durable = told.next_back().unwrap() + 1;
    let log = Log::open(limited_options(directory.path())).unwrap();
    assert_eq!(log.read(0..u64::MAX).unwrap(), items(1, 0..durable, 1000));
    append(&log, items(1, durable..durable + 50, 1000));
}
