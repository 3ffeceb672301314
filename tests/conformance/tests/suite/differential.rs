//! Generated calls: the same seed to both, every answer equal.

use std::env;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use metastore_conformance::coverage::Coverage;
use metastore_conformance::differential::{
    Bug, ERRORS, Outcome, REQUESTS, Tamper::Answers, Tamper::Requests, covered, require_equal, run,
};
use metastore_conformance::{runtime, sizes, targets};
use metastore_harness::Target;
use metastore_proto::etcdserverpb as pb;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use prost::Message;

const STEPS: usize = 1200;

fn seconds() -> Result<u64> {
    env::var("METASTORE_DIFFERENTIAL_SECONDS").map_or(Ok(20), |text| {
        text.parse().context("METASTORE_DIFFERENTIAL_SECONDS")
    })
}

fn seed() -> Result<Option<u64>> {
    env::var("METASTORE_SEED")
        .ok()
        .map(|text| text.parse().context("METASTORE_SEED"))
        .transpose()
}

fn differ(size: usize) -> Result<()> {
    if !sizes()?.contains(&size) {
        return Ok(());
    }
    let coverage = Arc::new(Mutex::new(Coverage::of(&REQUESTS, &ERRORS)));
    runtime()?.block_on(async {
        for target in targets()? {
            let start = Instant::now();
            let until = Duration::from_secs(seconds()?);
            let mut runs = 0;
            // Longer than its time only while something was not covered yet, and then not for ever.
            while runs == 0
                || start.elapsed() < until
                || runs < 8 && !covered(&coverage).missing().is_empty()
            {
                let seed = seed()?.unwrap_or_else(rand::random);
                let outcome = run(target, size, seed, STEPS, &coverage, None).await?;
                require_equal(outcome, target, seed)?;
                runs += 1;
            }
            eprintln!(
                "{target}: {runs} runs of {STEPS} calls in {:?}",
                start.elapsed()
            );
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let coverage = covered(&coverage);
    eprintln!("{coverage}");
    ensure!(
        seed()?.is_some() || coverage.missing().is_empty(),
        "never met: {:?}",
        coverage.missing()
    );
    Ok(())
}

#[test]
fn generated_calls_are_answered_alike_by_one_member() -> Result<()> {
    differ(1)
}

#[test]
fn generated_calls_are_answered_alike_by_three_members() -> Result<()> {
    differ(3)
}

fn changed<M: Message + Default>(body: &Bytes, change: impl FnOnce(&mut M)) -> Bytes {
    let Ok(mut message) = M::decode(body.clone()) else {
        return body.clone();
    };
    change(&mut message);
    message.encode_to_vec().into()
}

fn range(method: &str, body: Bytes, change: fn(&mut pb::RangeRequest)) -> Bytes {
    if method == "etcdserverpb.KV/Range" {
        changed(&body, change)
    } else {
        body
    }
}

fn put(method: &str, body: Bytes, change: fn(&mut pb::PutRequest)) -> Bytes {
    if method == "etcdserverpb.KV/Put" {
        changed(&body, change)
    } else {
        body
    }
}

fn txn(method: &str, body: Bytes, change: fn(&mut pb::TxnRequest)) -> Bytes {
    if method == "etcdserverpb.KV/Txn" {
        changed(&body, change)
    } else {
        body
    }
}

fn watch(method: &str, body: Bytes, change: fn(&mut pb::WatchCreateRequest)) -> Bytes {
    if method != "etcdserverpb.Watch/Watch" {
        return body;
    }
    changed(&body, |request: &mut pb::WatchRequest| {
        if let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union {
            change(create);
        }
    })
}

/// Mistakes a server could make, made by changing what it is asked.
fn reading_and_writing() -> Vec<Bug> {
    vec![
        Bug {
            name: "limit is off by one",
            tamper: Requests(|m, b| range(m, b, |r| r.limit += i64::from(r.limit > 0))),
        },
        Bug {
            name: "keys_only is overlooked",
            tamper: Requests(|m, b| range(m, b, |r| r.keys_only = false)),
        },
        Bug {
            name: "descending order is taken for ascending",
            tamper: Requests(|m, b| range(m, b, |r| r.sort_order = r.sort_order.min(1))),
        },
        Bug {
            name: "min_mod_revision is exclusive",
            tamper: Requests(|m, b| {
                range(m, b, |r| {
                    r.min_mod_revision += i64::from(r.min_mod_revision > 0)
                })
            }),
        },
        Bug {
            name: "an old revision is read one too late",
            tamper: Requests(|m, b| range(m, b, |r| r.revision += i64::from(r.revision > 2))),
        },
        Bug {
            name: "ignore_lease takes the lease away",
            tamper: Requests(|m, b| put(m, b, |r| r.ignore_lease = false)),
        },
        Bug {
            name: "prev_kv of a put is overlooked",
            tamper: Requests(|m, b| put(m, b, |r| r.prev_kv = false)),
        },
        Bug {
            name: "NOT_EQUAL is taken for EQUAL",
            tamper: Requests(|m, b| {
                txn(m, b, |r| r.compare.iter_mut().for_each(|c| c.result %= 3))
            }),
        },
        Bug {
            name: "a comparison over a range looks at the first key only",
            tamper: Requests(|m, b| {
                txn(m, b, |r| {
                    r.compare
                        .iter_mut()
                        .for_each(|c| c.range_end = Bytes::new())
                })
            }),
        },
        Bug {
            name: "reads in a transaction ignore their revision",
            tamper: Requests(|m, b| {
                txn(m, b, |r| {
                    for op in r.success.iter_mut().chain(&mut r.failure) {
                        if let Some(Request::RequestRange(range)) = &mut op.request {
                            range.revision = 0;
                        }
                    }
                })
            }),
        },
    ]
}

fn watching_deleting_and_compacting() -> Vec<Bug> {
    vec![
        Bug {
            name: "a watch misses its first revision",
            tamper: Requests(|m, b| {
                watch(m, b, |r| {
                    r.start_revision += i64::from(r.start_revision > 0)
                })
            }),
        },
        Bug {
            name: "filters of a watch are overlooked",
            tamper: Requests(|m, b| watch(m, b, |r| r.filters.clear())),
        },
        Bug {
            name: "prev_kv of a watch is overlooked",
            tamper: Requests(|m, b| watch(m, b, |r| r.prev_kv = false)),
        },
        Bug {
            name: "a delete of a range leaves its first key",
            tamper: Requests(|m, b| match m {
                "etcdserverpb.KV/DeleteRange" => changed(&b, |r: &mut pb::DeleteRangeRequest| {
                    if !r.range_end.is_empty() && !r.key.is_empty() {
                        r.key = [r.key.as_ref(), b"\0"].concat().into();
                    }
                }),
                _ => b,
            }),
        },
        Bug {
            name: "a compaction stops one revision early",
            tamper: Requests(|m, b| match m {
                "etcdserverpb.KV/Compact" => {
                    changed(&b, |r: &mut pb::CompactionRequest| r.revision -= 1)
                }
                _ => b,
            }),
        },
    ]
}

fn ranged(method: &str, body: Bytes, change: fn(&mut pb::RangeResponse)) -> Bytes {
    if method == "etcdserverpb.KV/Range" {
        changed(&body, change)
    } else {
        body
    }
}

fn watched(method: &str, body: Bytes, change: fn(&mut pb::WatchResponse)) -> Bytes {
    if method == "etcdserverpb.Watch/Watch" {
        changed(&body, change)
    } else {
        body
    }
}

/// Mistakes a server could make in what it answers.
fn answering_reads_and_writes() -> Vec<Bug> {
    vec![
        Bug {
            name: "count counts what is on the page",
            tamper: Answers(|m, b| ranged(m, b, |r| r.count = r.count.min(r.kvs.len() as i64))),
        },
        Bug {
            name: "more is never told",
            tamper: Answers(|m, b| ranged(m, b, |r| r.more = false)),
        },
        Bug {
            name: "a key's version does not count on",
            tamper: Answers(|m, b| {
                ranged(m, b, |r| {
                    r.kvs
                        .iter_mut()
                        .for_each(|kv| kv.version = kv.version.min(2));
                })
            }),
        },
        Bug {
            name: "the lease of a key is not told",
            tamper: Answers(|m, b| ranged(m, b, |r| r.kvs.iter_mut().for_each(|kv| kv.lease = 0))),
        },
        Bug {
            name: "the header of a put tells the revision before",
            tamper: Answers(|m, b| match m {
                "etcdserverpb.KV/Put" => changed(&b, |r: &mut pb::PutResponse| {
                    if let Some(header) = &mut r.header {
                        header.revision -= 1;
                    }
                }),
                _ => b,
            }),
        },
        Bug {
            name: "a deletion tells one key less than it deleted",
            tamper: Answers(|m, b| match m {
                "etcdserverpb.KV/DeleteRange" => changed(&b, |r: &mut pb::DeleteRangeResponse| {
                    r.deleted -= i64::from(r.deleted > 1);
                }),
                _ => b,
            }),
        },
    ]
}

/// As [`answering_reads_and_writes`], of the other calls.
fn answering_the_rest() -> Vec<Bug> {
    vec![
        Bug {
            name: "a transaction says that it succeeded when it did not",
            tamper: Answers(|m, b| match m {
                "etcdserverpb.KV/Txn" => changed(&b, |r: &mut pb::TxnResponse| r.succeeded = true),
                _ => b,
            }),
        },
        Bug {
            name: "a watch loses the last event of an answer",
            tamper: Answers(|m, b| {
                watched(m, b, |r| {
                    if r.events.len() > 1 {
                        r.events.pop();
                    }
                })
            }),
        },
        Bug {
            name: "a watch tells an event twice",
            tamper: Answers(|m, b| watched(m, b, |r| r.events.extend(r.events.last().cloned()))),
        },
        Bug {
            name: "HashKV hashes something else",
            tamper: Answers(|m, b| match m {
                "etcdserverpb.Maintenance/HashKV" => {
                    changed(&b, |r: &mut pb::HashKvResponse| r.hash ^= 1)
                }
                _ => b,
            }),
        },
    ]
}

#[test]
fn bugs_seeded_on_purpose_are_caught() -> Result<()> {
    let coverage = Arc::new(Mutex::new(Coverage::default()));
    runtime()?.block_on(async {
        // Without a bug there must be nothing to catch.
        let own = seed()?.unwrap_or_else(rand::random);
        let control = run(Target::Etcd, 1, own, 3 * STEPS, &coverage, None).await?;
        require_equal(control, Target::Etcd, own)?;
        let mut missed = Vec::new();
        for bug in reading_and_writing()
            .into_iter()
            .chain(watching_deleting_and_compacting())
            .chain(answering_reads_and_writes())
            .chain(answering_the_rest())
        {
            let outcome = run(
                Target::Etcd,
                1,
                seed()?.unwrap_or_else(rand::random),
                3 * STEPS,
                &coverage,
                Some(&bug),
            )
            .await?;
            match outcome {
                Outcome::Equal => missed.push(bug.name),
                Outcome::Different(_) => eprintln!("caught: {}", bug.name),
            }
        }
        ensure!(missed.is_empty(), "not caught: {missed:?}");
        Ok(())
    })
}
