//! A member's state machine over the memory engine, as the tests drive it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use metastore_engine::{Kind, Options as EngineOptions};
use metastore_mvcc::{HashKv, Options as StoreOptions, Store};
use metastore_proto::commandpb::command::Request;
use metastore_proto::commandpb::{Command, Entry};
use metastore_state_machine::{
    ENTRY_FORMAT, Fault, LogPosition, Options, Outcome, StateMachine, View,
};
use tempfile::TempDir;

pub(crate) struct Member {
    pub(crate) machine: StateMachine,
    pub(crate) next_index: u64,
    directory: TempDir,
}

impl Member {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self {
            machine: open(&directory),
            next_index: 0,
            directory,
        }
    }

    /// Loses everything that is not flushed, as a crash does.
    pub(crate) fn restart(self) -> Self {
        let Self {
            machine, directory, ..
        } = self;
        drop(machine);
        let machine = open(&directory);
        let next_index = machine.applied().map_or(0, |applied| applied.index + 1);
        Self {
            machine,
            next_index,
            directory,
        }
    }

    /// Makes everything applied so far durable.
    pub(crate) fn flush(&self) {
        self.store().flush().unwrap();
    }

    pub(crate) fn store(&self) -> &Store {
        self.machine.store()
    }

    pub(crate) fn view(&self) -> View {
        self.machine.view()
    }

    pub(crate) fn position(&mut self) -> LogPosition {
        self.next_index += 1;
        LogPosition {
            term: 1,
            index: self.next_index - 1,
        }
    }

    /// Applies the next entry.
    pub(crate) fn apply_entry(
        &mut self,
        entry: &Entry,
        answers: bool,
    ) -> Result<Vec<Outcome>, Fault> {
        let position = self.position();
        let outcomes = self.machine.apply(position, entry, answers);
        self.machine.finish_batch();
        outcomes
    }

    /// Applies an entry of one command and returns its outcome.
    pub(crate) fn apply(&mut self, request: Request) -> Outcome {
        let mut outcomes = self.apply_entry(&entry(vec![request]), true).unwrap();
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    /// etcd's hash of the key space at a revision, 0 for the newest.
    pub(crate) fn hash(&self, revision: i64) -> HashKv {
        self.store().hash_kv(revision).unwrap()
    }

    /// The rows of the key space `System`, after a flush; how far the background has come in a compaction is left out.
    pub(crate) fn system_rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.flush();
        let mut rows = BTreeMap::new();
        let mut visit = |name: &[u8], row: &[u8]| {
            if !name.starts_with(b"mvcc/compaction/") {
                rows.insert(name.to_vec(), row.to_vec());
            }
            ControlFlow::Continue(())
        };
        self.store().scan_system(b"", &mut visit).unwrap();
        rows
    }
}

pub(crate) fn entry(requests: Vec<Request>) -> Entry {
    let commands = requests.into_iter().map(|request| Command {
        caller: None,
        request: Some(request),
    });
    Entry {
        format: ENTRY_FORMAT,
        origin: 1,
        sequence: 1,
        commands: commands.collect(),
    }
}

fn open(directory: &TempDir) -> StateMachine {
    let engine =
        metastore_engine::open(Kind::Memory, directory.path(), EngineOptions::default()).unwrap();
    let (store, writer) = Store::open(engine, StoreOptions::default()).unwrap();
    let options = Options {
        member_id: 1,
        cluster_id: 7,
    };
    StateMachine::open(store, writer, options).unwrap()
}
