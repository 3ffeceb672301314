//! The log store against openraft's own suite, and what the suite does not ask.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "in a test a panic is the verdict"
)]

mod machine;

use std::io;

use futures::StreamExt;
use metastore_proto::commandpb;
use metastore_raft::log_store::LogStore;
use metastore_raft::types::{Entry, LogId, Proposal, TypeConfig, Vote, log_id};
use metastore_raft::wal::Options;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader, StorageError};
use tempfile::TempDir;

use machine::Machine;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let log = LogStore::open(options(&directory)).unwrap();
        Ok((directory, log, Machine::default()))
    }
}

fn options(directory: &TempDir) -> Options {
    let mut options = Options::new(directory.path().join("log"));
    options.segment_bytes = 64 << 10;
    options.first_segment_bytes = 4 << 10;
    options.reserve_bytes = 0;
    options
}

/// So small a cache that almost everything is read from files.
fn uncached(directory: &TempDir) -> Options {
    let mut options = options(directory);
    options.cache_bytes = 1;
    options
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let attributes = commandpb::MemberAttributes {
        name: "x".repeat(size),
        ..Default::default()
    };
    let request = Some(commandpb::command::Request::MemberAttributes(attributes));
    let commands = vec![commandpb::Command {
        caller: None,
        request,
    }];
    let proposal = Proposal::from_entry(commandpb::Entry {
        format: 1,
        origin: 1,
        sequence: index,
        commands,
    });
    Entry {
        log_id: log_id(term, index),
        payload: EntryPayload::Normal(proposal),
    }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) -> io::Result<()> {
    let (sender, done) = TypeConfig::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    done.await.map_err(io::Error::other)?
}

fn ids(entries: &[Entry]) -> Vec<LogId> {
    entries.iter().map(|entry| entry.log_id).collect()
}

#[test]
fn openraft_finds_everything_as_it_expects() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(Suite::test_all(Builder)).unwrap();
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(options(&directory)).unwrap();
    let entries: Vec<Entry> = (0..500)
        .map(|index| entry(1 + index / 200, index, 300))
        .collect();
    for part in entries.chunks(37) {
        append(&mut log, part.to_vec()).await.unwrap();
    }
    log.save_vote(&Vote::new_committed(3, 7)).await.unwrap();
    log.save_committed(Some(log_id(3, 480))).await.unwrap();
    log.purge(log_id(1, 99)).await.unwrap();
    drop(log);

    let mut log = LogStore::open(options(&directory)).unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 99)));
    assert_eq!(state.last_log_id, Some(log_id(3, 499)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(3, 480)));
    let mut reader = log.get_log_reader().await;
    assert_eq!(
        reader.read_vote().await.unwrap(),
        Some(Vote::new_committed(3, 7))
    );
    let read = reader.try_get_log_entries(..).await.unwrap();
    assert_eq!(read, entries[100..]);
    let keys = reader
        .get_key_log_ids(log_id(1, 100)..=log_id(3, 499))
        .await
        .unwrap();
    assert_eq!(keys, [log_id(1, 199), log_id(2, 399), log_id(3, 499)]);
    let keys = reader
        .get_key_log_ids(log_id(1, 150)..=log_id(2, 300))
        .await
        .unwrap();
    assert_eq!(keys, [log_id(1, 199), log_id(2, 300)]);
}

#[tokio::test]
async fn a_message_to_a_follower_is_bounded_in_bytes_but_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    for options in [options(&directory), uncached(&directory)] {
        let mut log = LogStore::open(options).unwrap();
        if log.get_log_state().await.unwrap().last_log_id.is_none() {
            let entries =
                (0..20).map(|index| entry(1, index, if index == 0 { 3 << 20 } else { 200_000 }));
            append(&mut log, entries.collect()).await.unwrap();
        }
        let mut reader = log.get_log_reader().await;
        assert_eq!(
            ids(&reader.limited_get_log_entries(0, 20).await.unwrap()),
            [log_id(1, 0)]
        );
        let some = reader.limited_get_log_entries(1, 20).await.unwrap();
        assert_eq!(
            ids(&some),
            (1..6).map(|index| log_id(1, index)).collect::<Vec<_>>()
        );
        assert_eq!(
            reader.limited_get_log_entries(18, 99).await.unwrap().len(),
            2
        );
        assert!(
            reader
                .limited_get_log_entries(20, 99)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn a_message_never_begins_later_than_asked() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(options(&directory)).unwrap();
    append(&mut log, (0..20).map(|index| entry(1, index, 10)).collect())
        .await
        .unwrap();
    log.purge(log_id(1, 9)).await.unwrap();
    let mut reader = log.get_log_reader().await;
    assert!(
        reader
            .limited_get_log_entries(9, 20)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        reader.limited_get_log_entries(10, 20).await.unwrap().len(),
        10
    );
    assert_eq!(reader.try_get_log_entries(0..20).await.unwrap().len(), 10);
    assert_eq!(reader.entries_stream(0..20).await.count().await, 10);
}

#[tokio::test]
async fn a_stream_reads_what_is_in_files_and_then_what_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(&directory);
    options.cache_bytes = 50_000;
    let mut log = LogStore::open(options).unwrap();
    let entries: Vec<Entry> = (0..3000).map(|index| entry(1, index, 900)).collect();
    append(&mut log, entries.clone()).await.unwrap();
    let mut reader = log.get_log_reader().await;
    let read: Vec<Entry> = reader
        .entries_stream(10..2990)
        .await
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(read, entries[10..2990]);
}

#[tokio::test]
async fn a_bounded_stream_ends_when_the_vote_changes() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = LogStore::open(options(&directory)).unwrap();
    append(&mut log, (0..20).map(|index| entry(1, index, 10)).collect())
        .await
        .unwrap();
    let vote = Vote::new_committed(1, 5);
    log.save_vote(&vote).await.unwrap();
    let mut reader = log.get_log_reader().await;
    let mut stream = Box::pin(reader.leader_bounded_stream(vote.leader_id, ..).await);
    assert_eq!(stream.next().await.unwrap().unwrap().log_id, log_id(1, 0));
    log.save_vote(&Vote::new(2, 6)).await.unwrap();
    assert!(stream.next().await.unwrap().is_err());
    assert!(stream.next().await.is_none());
}
