//! Random calls over a small key space, so that they meet often.
//!
//! The same seed gives the same calls. What a call refers to (revisions, watches) follows the answers of the
//! reference, which the other target has to give as well.

use std::collections::HashSet;

use bytes::Bytes;
use metastore_proto::etcdserverpb::compare::TargetUnion;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::build::{self, IntoOp, txn};

/// Few enough for etcd's sort to be stable: with more than 12 results it orders equal ones arbitrarily.
const KEYS: [&str; 8] = ["a", "aa", "ab", "b", "ba", "c", "d", "\u{1F511}"];
const ENDS: [&str; 8] = ["\0", "aa", "b", "c", "d", "e", "a", "\0\0"];
const LEASES: i64 = 6;
/// Watch streams kept open.
pub(crate) const STREAMS: usize = 3;
/// The watch of each stream that is always there, on a key that only the driver writes.
pub(crate) const FENCE_WATCH: i64 = 1_000_000;
pub(crate) const FENCE_KEY: &str = "fence";

/// One call.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    HashKv(HashKvRequest),
    Grant {
        ttl: i64,
        id: i64,
    },
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive {
        id: i64,
        keys: bool,
    },
    Leases,
    Watch {
        stream: usize,
        request: WatchCreateRequest,
    },
    CancelWatch {
        stream: usize,
        watch_id: i64,
    },
    Settle {
        stream: usize,
    },
}

/// What the answers so far tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) watches: [Vec<i64>; STREAMS],
    /// Every compaction, and whether etcd surely remembers its hash: it does when this one and the one before were
    /// waited for.
    pub(crate) compactions: Vec<(i64, bool)>,
    /// Whether a compaction may still be going on, during which etcd's hashes depend on how far it has come.
    pub(crate) compacting: bool,
    /// The newest revisions at which keys were written.
    pub(crate) writes: Vec<i64>,
    /// The newest revision, if a put made it: then its key is still there.
    pub(crate) newest_put: Option<i64>,
    /// The revisions of transactions that may have deleted a key and put it again.
    pub(crate) rewriting: HashSet<i64>,
}

/// Whether a transaction holds deletions, on whichever branch.
pub(crate) fn deletes(request: &TxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure);
    operations.any(|operation| match &operation.request {
        Some(Request::RequestDeleteRange(_)) => true,
        Some(Request::RequestTxn(nested)) => deletes(nested),
        _ => false,
    })
}

/// One call in so many is one that chance would make too seldom.
const SELDOM: usize = 20;

/// The revision, or one before it at which no transaction deleted a key and put it again: compacted just there, etcd
/// keeps the deletion and loses the key.
fn spared(mut revision: i64, seen: &Seen) -> i64 {
    while seen.rewriting.contains(&revision) {
        revision -= 1;
    }
    revision
}

/// The source of calls.
pub(crate) struct Generator {
    random: StdRng,
    calls: usize,
    /// The next read asks for what the last put wrote.
    read_back: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            calls: 0,
            read_back: false,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items
            .choose(&mut self.random)
            .expect("the lists are not empty")
            .clone()
    }

    /// The next call.
    pub(crate) fn step(&mut self, seen: &Seen) -> Step {
        if let (true, Some(revision)) = (std::mem::take(&mut self.read_back), seen.newest_put) {
            return Step::Range(self.written_at(revision));
        }
        self.calls += 1;
        if self.calls.is_multiple_of(SELDOM) {
            return self.seldom(self.calls / SELDOM, seen);
        }
        self.by_chance(seen)
    }

    fn by_chance(&mut self, seen: &Seen) -> Step {
        match self.random.random_range(0..100) {
            0..18 => Step::Range(self.range(seen)),
            18..22 => Step::RangeStream(self.streamed(seen)),
            22..40 => Step::Put(self.put()),
            40..47 => Step::Delete(self.delete()),
            47..67 => Step::Txn(self.transaction(seen)),
            67..70 => Step::Compact(self.compaction(seen)),
            70..73 if !seen.compacting => Step::HashKv(self.hash(seen)),
            70..73 => Step::Compact(CompactionRequest {
                revision: spared(seen.revision, seen),
                physical: true,
            }),
            73..76 => self.grant(),
            76..78 => Step::Revoke(self.lease()),
            78..80 => Step::KeepAlive(self.lease()),
            80..82 => Step::TimeToLive {
                id: self.lease(),
                keys: self.chance(50),
            },
            82..83 => Step::Leases,
            83..91 => Step::Watch {
                stream: self.random.random_range(0..STREAMS),
                request: self.watch(seen),
            },
            91..95 => self.cancel(seen),
            _ => Step::Settle {
                stream: self.random.random_range(0..STREAMS),
            },
        }
    }

    /// Calls that meet each refusal, and bounds that just hold, in turn: whatever the seed, each comes.
    fn seldom(&mut self, turn: usize, seen: &Seen) -> Step {
        let stream = self.random.random_range(0..STREAMS);
        let watch = |key: &'static str, end: &'static str, watch_id| Step::Watch {
            stream,
            request: WatchCreateRequest {
                range_end: end.into(),
                watch_id,
                ..build::watch(key)
            },
        };
        let key = self.pick(&KEYS);
        let put = build::put(key, "again");
        match turn % 14 {
            0 => Step::Put(build::put(key, vec![b'x'; 1600 * 1024])),
            1 => {
                let puts = (0..129).map(|number| build::put(format!("many{number}"), "v").op());
                Step::Txn(txn([], puts, []))
            }
            2 => Step::Txn(txn([], [put.clone().op(), put.op()], [])),
            3 => Step::Put(PutRequest {
                ignore_value: true,
                ..put
            }),
            4 => Step::Put(PutRequest {
                ignore_lease: true,
                lease: self.lease(),
                ..put
            }),
            5 => Step::Put(PutRequest {
                ignore_value: true,
                ..build::put("absent", "")
            }),
            6 => Step::RangeStream(RangeRequest {
                sort_order: 2,
                ..build::all()
            }),
            7 => Step::RangeStream(RangeRequest {
                min_mod_revision: self.revision(seen),
                ..build::all()
            }),
            8 => watch("b", "a", 0),
            9 => watch("a", "", FENCE_WATCH),
            10 => Step::Grant {
                ttl: 10_000_000_000,
                id: self.lease(),
            },
            11 => Step::Range(RangeRequest {
                revision: (seen.compacted - 1).max(1),
                ..build::all()
            }),
            12 => Step::Range(RangeRequest {
                revision: seen.revision + 1,
                ..build::all()
            }),
            _ => {
                self.read_back = true;
                Step::Put(put)
            }
        }
    }

    /// A read of everything whose bound just lets through, or just keeps out, what was written at `revision`.
    fn written_at(&mut self, revision: i64) -> RangeRequest {
        let request = build::all();
        match self.random.random_range(0..4) {
            0 => RangeRequest {
                max_mod_revision: revision - 1,
                ..request
            },
            1 => RangeRequest {
                revision,
                ..request
            },
            _ => RangeRequest {
                min_mod_revision: revision,
                ..request
            },
        }
    }

    fn key(&mut self) -> Bytes {
        if self.chance(2) {
            Bytes::new()
        } else {
            self.pick(&KEYS).into()
        }
    }

    fn end(&mut self) -> Bytes {
        if self.chance(45) {
            Bytes::new()
        } else {
            self.pick(&ENDS).into()
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.random_range(0..20) {
            0..2 => Bytes::new(),
            2 => vec![b'x'; 3000].into(),
            _ => self.random.random_range(0..5_u8).to_string().into(),
        }
    }

    fn lease(&mut self) -> i64 {
        self.random.random_range(1..=LEASES)
    }

    /// A revision near something of interest.
    fn revision(&mut self, seen: &Seen) -> i64 {
        match self.random.random_range(0..10) {
            0 => seen.revision + self.random.random_range(0..3),
            1 => seen.compacted + self.random.random_range(-1..=1),
            2 => -1,
            3..7 if !seen.writes.is_empty() => self.pick(&seen.writes),
            _ => self
                .random
                .random_range(seen.compacted.max(1)..=seen.revision.max(1)),
        }
    }

    fn range(&mut self, seen: &Seen) -> RangeRequest {
        let mut request = RangeRequest {
            key: self.key(),
            range_end: self.end(),
            ..Default::default()
        };
        if self.chance(35) {
            request.limit = self.random.random_range(-1..8);
        }
        if self.chance(35) {
            request.revision = self.revision(seen);
        }
        if self.chance(40) {
            request.sort_order = self.random.random_range(0..3);
            request.sort_target = self.random.random_range(0..5);
        }
        if self.chance(2) {
            request.sort_order = self.pick(&[3, -1]);
        }
        request.serializable = self.chance(20);
        request.keys_only = self.chance(20);
        request.count_only = self.chance(12);
        if self.chance(8) {
            request.min_mod_revision = self.revision(seen);
        }
        if self.chance(8) {
            request.max_mod_revision = self.revision(seen);
        }
        if self.chance(8) {
            request.min_create_revision = self.revision(seen);
        }
        if self.chance(8) {
            request.max_create_revision = self.revision(seen);
        }
        request
    }

    fn streamed(&mut self, seen: &Seen) -> RangeRequest {
        let mut request = self.range(seen);
        if self.chance(80) {
            request = RangeRequest {
                sort_order: 0,
                min_mod_revision: 0,
                max_mod_revision: 0,
                min_create_revision: 0,
                max_create_revision: 0,
                ..request
            };
        }
        if request.sort_order == 0 {
            // etcd would sort each part by the target and lose keys between them.
            request.sort_target = 0;
        }
        request
    }

    fn put(&mut self) -> PutRequest {
        let mut request = PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.chance(40),
            ..Default::default()
        };
        if self.chance(35) {
            request.lease = self.lease();
        }
        if self.chance(12) {
            request.ignore_value = true;
            if self.chance(80) {
                request.value = Bytes::new();
            }
        }
        if self.chance(12) {
            request.ignore_lease = true;
            if self.chance(80) {
                request.lease = 0;
            }
        }
        request
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.end(),
            prev_kv: self.chance(40),
        }
    }

    fn transaction(&mut self, seen: &Seen) -> TxnRequest {
        // etcd crashes when a put keeps a value that the same transaction deletes, so no transaction does both.
        let deletes = self.chance(50);
        self.branching(seen, 0, deletes)
    }

    fn branching(&mut self, seen: &Seen, depth: usize, deletes: bool) -> TxnRequest {
        let compares = self.random.random_range(0..3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare(seen)).collect(),
            success: self.operations(seen, depth, deletes),
            failure: self.operations(seen, depth, deletes),
        }
    }

    fn operations(&mut self, seen: &Seen, depth: usize, deletes: bool) -> Vec<RequestOp> {
        let count = self.random.random_range(0..4);
        (0..count)
            .map(|_| match self.random.random_range(0..100) {
                0..30 => self.range(seen).op(),
                30..45 if deletes => self.delete().op(),
                30..75 => {
                    let put = self.put();
                    if deletes {
                        PutRequest {
                            ignore_value: false,
                            ignore_lease: false,
                            ..put
                        }
                        .op()
                    } else {
                        put.op()
                    }
                }
                75..99 if depth < 2 => self.branching(seen, depth + 1, deletes).op(),
                99 => RequestOp { request: None },
                _ => self.range(seen).op(),
            })
            .collect()
    }

    fn compare(&mut self, seen: &Seen) -> Compare {
        let near = |generator: &mut Self| generator.revision(seen);
        let union = match self.random.random_range(0..6) {
            0 => Some(TargetUnion::Version(self.random.random_range(0..4))),
            1 => Some(TargetUnion::CreateRevision(if self.chance(50) {
                0
            } else {
                near(self)
            })),
            2 => Some(TargetUnion::ModRevision(if self.chance(50) {
                0
            } else {
                near(self)
            })),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.random.random_range(0..=LEASES))),
            _ => None,
        };
        let target = match (&union, self.chance(5)) {
            (Some(TargetUnion::Version(_)), false) => 0,
            (Some(TargetUnion::CreateRevision(_)), false) => 1,
            (Some(TargetUnion::ModRevision(_)), false) => 2,
            (Some(TargetUnion::Value(_)), false) => 3,
            (Some(TargetUnion::Lease(_)), false) => 4,
            _ => self.random.random_range(0..5),
        };
        Compare {
            result: self.random.random_range(0..4),
            target,
            key: self.key(),
            range_end: if self.chance(75) {
                Bytes::new()
            } else {
                self.end()
            },
            target_union: union,
        }
    }

    fn compaction(&mut self, seen: &Seen) -> CompactionRequest {
        let revision = match self.random.random_range(0..10) {
            0 => seen.revision + 1,
            1 => seen.compacted - self.random.random_range(0..3),
            2 => seen.revision,
            _ => {
                let above = (seen.revision - seen.compacted).max(1);
                seen.compacted + self.random.random_range(0..=(above / 4 + 1))
            }
        };
        // Having compacted at 0 (which it allows), etcd answers every HashKV of 0, "now", with what it remembers of that.
        let revision = match spared(revision, seen) {
            0 => 1,
            revision => revision,
        };
        CompactionRequest {
            revision,
            physical: self.chance(50),
        }
    }

    fn hash(&mut self, seen: &Seen) -> HashKvRequest {
        let revision = if self.chance(40) {
            0
        } else {
            self.revision(seen).max(0)
        };
        // At the revision of a compaction etcd answers with what it remembers of it, if it does.
        let uncertain =
            |(at, sure): &(i64, bool)| *at == revision && (!sure || *at < seen.compacted);
        let revision = if seen.compactions.iter().any(uncertain) {
            0
        } else {
            revision
        };
        HashKvRequest { revision }
    }

    fn grant(&mut self) -> Step {
        let id = if self.chance(15) { 0 } else { self.lease() };
        let ttl = if self.chance(10) {
            10_000_000_000
        } else {
            self.random.random_range(600..1000)
        };
        Step::Grant { ttl, id }
    }

    fn watch(&mut self, seen: &Seen) -> WatchCreateRequest {
        let mut request = WatchCreateRequest {
            key: self.key(),
            range_end: self.end(),
            ..Default::default()
        };
        match self.random.random_range(0..10) {
            0 => request.start_revision = -1,
            1 => request.start_revision = seen.revision + self.random.random_range(1..4),
            2..7 => request.start_revision = self.random.random_range(1..=seen.revision.max(1)),
            _ => {}
        }
        let filters = if self.chance(30) {
            self.random.random_range(1..3)
        } else {
            0
        };
        request.filters = (0..filters)
            .map(|_| self.random.random_range(0..2))
            .collect();
        request.prev_kv = self.chance(50);
        request.fragment = self.chance(30);
        request.progress_notify = self.chance(30);
        if self.chance(30) {
            request.watch_id = self.random.random_range(1..12);
        }
        request
    }

    fn cancel(&mut self, seen: &Seen) -> Step {
        let stream = self.random.random_range(0..STREAMS);
        let watch_id = match seen.watches[stream].choose(&mut self.random) {
            Some(id) if !self.chance(10) => *id,
            _ => 99,
        };
        Step::CancelWatch { stream, watch_id }
    }
}
