//! What applying costs: entries of 100 commands over the memory engine, in nanoseconds of the applying thread's processor time for
//! each command, beside the same work done by the store alone. Linux only.
#![allow(clippy::print_stdout)]

use metastore_engine::Kind;
use metastore_mvcc::{Store, Writer};
use metastore_proto::commandpb::command::Request;
use metastore_proto::commandpb::{Command, Entry};
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
};
use metastore_state_machine::{ENTRY_FORMAT, LogPosition, Options, StateMachine};
use tempfile::TempDir;

const KEYS: u64 = 100_000;
const ENTRIES: u64 = 5_000;
const COMMANDS: u64 = 100;

fn main() {
    store_alone();
    let mut bench = Bench::new();
    bench.run("put, answered", true, ENTRIES, |at| put(at, 0));
    bench.run("put, nobody waits", false, ENTRIES, |at| put(at, 0));
    bench.run_sized("put, an entry each", true, (ENTRIES * COMMANDS, 1), |at| {
        put(at, 0)
    });
    bench.run("put with prev_kv", true, ENTRIES, |at| {
        Request::Put(PutRequest {
            prev_kv: true,
            ..put_request(at, 0)
        })
    });
    bench.run("txn: compare and put", true, ENTRIES, |at| txn(at, 1));
    bench.run("txn of 8 puts", true, ENTRIES / 8, |at| txn(at, 8));
    bench.run("lease grant", true, 1_000, |at| {
        Request::LeaseGrant(LeaseGrantRequest {
            id: at as i64 + 1,
            ttl: 60,
        })
    });
    bench.run("put, a lease each", true, 1_000, |at| {
        put(at, at as i64 + 1)
    });
    bench.run("put, all moved to one lease", true, 1_000, |at| put(at, 1));
    bench.run(
        "lease revoke, one of them with all keys",
        true,
        1_000,
        |at| Request::LeaseRevoke(LeaseRevokeRequest { id: at as i64 + 1 }),
    );
}

struct Bench {
    machine: StateMachine,
    index: u64,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let (directory, store, writer) = open();
        let machine = StateMachine::open(store, writer, Options::default()).expect("empty store");
        Self {
            machine,
            index: 0,
            _directory: directory,
        }
    }

    fn run(&mut self, what: &str, answers: bool, entries: u64, request: impl Fn(u64) -> Request) {
        self.run_sized(what, answers, (entries, COMMANDS), request);
    }

    /// Applies `entries` entries of `commands` commands.
    fn run_sized(
        &mut self,
        what: &str,
        answers: bool,
        (entries, commands): (u64, u64),
        request: impl Fn(u64) -> Request,
    ) {
        let entries: Vec<Entry> = (0..entries)
            .map(|entry| Entry {
                format: ENTRY_FORMAT,
                origin: 1,
                sequence: entry,
                commands: (0..commands)
                    .map(|command| Command {
                        caller: None,
                        request: Some(request(entry * commands + command)),
                    })
                    .collect(),
            })
            .collect();
        let commands = entries.len() as u64 * commands;
        let start = thread_nanos();
        let mut refused = 0;
        for entry in &entries {
            self.index += 1;
            let position = LogPosition {
                term: 1,
                index: self.index,
            };
            let outcomes = self
                .machine
                .apply(position, entry, answers)
                .expect("no fault");
            refused += outcomes.iter().filter(|outcome| outcome.is_err()).count();
            self.machine.finish_batch();
        }
        report(what, start, commands);
        assert_eq!(refused, 0);
    }
}

/// The puts of [`main`], without a state machine above the store.
fn store_alone() {
    let (_directory, _store, mut writer) = open();
    let requests: Vec<PutRequest> = (0..ENTRIES * COMMANDS)
        .map(|at| put_request(at, 0))
        .collect();
    let start = thread_nanos();
    for (entry, requests) in requests.chunks(COMMANDS as usize).enumerate() {
        for request in requests {
            let mut txn = writer.begin();
            txn.put(&request.key, &request.value, 0);
            txn.commit();
        }
        writer.set_applied(&entry.to_be_bytes());
    }
    report("put, the store alone", start, ENTRIES * COMMANDS);
}

fn open() -> (TempDir, Store, Writer) {
    let directory = TempDir::new().expect("temporary directory");
    let engine = metastore_engine::open(Kind::Memory, directory.path(), Default::default())
        .expect("memory engine");
    let (store, writer) = Store::open(engine, Default::default()).expect("empty store");
    (directory, store, writer)
}

fn put(at: u64, lease: i64) -> Request {
    Request::Put(put_request(at, lease))
}

fn put_request(at: u64, lease: i64) -> PutRequest {
    // Spread over the key space, so that no put is next to the one before it.
    let key = at.wrapping_mul(0x9e37_79b9) % KEYS;
    PutRequest {
        key: format!("/registry/pods/default/pod-{key:08}").into(),
        value: vec![b'v'; 256].into(),
        lease,
        ..Default::default()
    }
}

fn txn(at: u64, puts: u64) -> Request {
    let operation = |put: u64| RequestOp {
        request: Some(Operation::RequestPut(put_request(at * puts + put, 0))),
    };
    Request::Txn(TxnRequest {
        compare: vec![Compare {
            target: CompareTarget::Mod as i32,
            result: CompareResult::Greater as i32,
            key: put_request(at, 0).key,
            target_union: Some(TargetUnion::ModRevision(0)),
            ..Default::default()
        }],
        success: (0..puts).map(operation).collect(),
        ..Default::default()
    })
}

/// Processor time of this thread: the first number of its schedstat.
fn thread_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    let first = text.split(' ').next().expect("three numbers");
    first.parse().expect("nanoseconds")
}

fn report(what: &str, start: u64, commands: u64) {
    let nanos = (thread_nanos() - start) / commands;
    println!("{what:<42} {nanos:>6} ns");
}
