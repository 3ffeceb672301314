//! The same generated calls to etcd and to another target, every answer equal under the mask.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use metastore_harness::Target;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    LeaseRevokeRequest, LeaseTimeToLiveRequest, ResponseHeader, WatchCancelRequest,
    WatchCreateRequest,
};

use tonic::Status;

use crate::build;
use crate::coverage::Coverage;
use crate::generate::{FENCE_KEY, FENCE_WATCH, Generator, STREAMS, Seen, Step, deletes};
use crate::keepalive::KeepAlive;
use crate::runner::{Setup, open};
use crate::session::Session;
pub use crate::session::Tamper;
use crate::transcript::{Transcript, summary};
use crate::watching::Watching;

const WRITES_KNOWN: usize = 24;
const STEPS_SHOWN: usize = 12;

/// The requests whose every field the calls must hit.
pub const REQUESTS: [&str; 12] = [
    "etcdserverpb.RangeRequest",
    "etcdserverpb.PutRequest",
    "etcdserverpb.DeleteRangeRequest",
    "etcdserverpb.TxnRequest",
    "etcdserverpb.CompactionRequest",
    "etcdserverpb.HashKVRequest",
    "etcdserverpb.LeaseGrantRequest",
    "etcdserverpb.LeaseRevokeRequest",
    "etcdserverpb.LeaseKeepAliveRequest",
    "etcdserverpb.LeaseTimeToLiveRequest",
    "etcdserverpb.LeaseLeasesRequest",
    "etcdserverpb.WatchRequest",
];

/// The errors that the calls must meet.
pub const ERRORS: [&str; 17] = [
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: invalid sort option",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: request is too large",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "mvcc: watcher range is empty",
    "mvcc: duplicate watch ID provided on the WatchStream",
    "RangeStream does not support custom sort orders",
    "RangeStream does not support revision filters",
];

/// What became of a run.
#[derive(Debug)]
pub enum Outcome {
    /// All answers were equal.
    Equal,
    /// They were not; the text says where.
    Different(String),
}

/// A change of messages that imitates a bug of the server.
#[derive(Debug)]
pub struct Bug {
    /// What the server gets wrong.
    pub name: &'static str,
    /// The change.
    pub tamper: Tamper,
}

/// Sends `steps` calls of one seed to a fresh etcd and a fresh `target`, which may have a bug.
pub async fn run(
    target: Target,
    size: usize,
    seed: u64,
    steps: usize,
    coverage: &Arc<Mutex<Coverage>>,
    bug: Option<&Bug>,
) -> Result<Outcome> {
    let setup = Setup::default();
    let (reference, other) =
        futures::join!(open(&setup, Target::Etcd, size), open(&setup, target, size));
    let tamper = bug.map(|bug| bug.tamper);
    let reference = Driver::new(reference?.counted_by(coverage.clone())).await?;
    let other = Driver::new(other?.tampered_by(tamper)).await?;
    Pair {
        reference,
        other,
        history: Vec::new(),
    }
    .run(seed, steps)
    .await
}

struct Pair {
    reference: Driver,
    other: Driver,
    history: Vec<String>,
}

impl Pair {
    async fn run(mut self, seed: u64, steps: usize) -> Result<Outcome> {
        let mut generator = Generator::new(seed);
        let mut seen = Seen {
            revision: 1,
            compacted: 0,
            ..Seen::default()
        };
        for number in 0..steps {
            let step = generator.step(&seen);
            let (expected, got) =
                futures::join!(self.reference.perform(&step), self.other.perform(&step));
            let expected_text = self.reference.session.take();
            let got_text = self.other.session.take();
            self.history.push(format!("{number}: {step:?}"));
            let differences = expected_text.differences(&got_text);
            if !differences.is_empty() || expected.is_err() != got.is_err() {
                return Ok(Outcome::Different(self.report(
                    &expected,
                    &got,
                    &summary(&differences),
                )));
            }
            expected
                .with_context(|| format!("etcd itself, seed {seed}, step {number}: {step:?}"))?;
            self.reference.update(&mut seen, &step);
        }
        Ok(Outcome::Equal)
    }

    fn report(&self, expected: &Result<()>, got: &Result<()>, differences: &str) -> String {
        let shown = std::env::var("METASTORE_STEPS_SHOWN");
        let shown = shown.ok().and_then(|text| text.parse().ok());
        let start = self
            .history
            .len()
            .saturating_sub(shown.unwrap_or(STEPS_SHOWN));
        let mut text = format!(
            "last steps:\n{}\n{differences}",
            self.history[start..].join("\n")
        );
        for (who, outcome) in [("etcd", expected), ("the target", got)] {
            if let Err(error) = outcome {
                text.push_str(&format!("\n{who}: {error:#}"));
            }
        }
        text
    }
}

/// One target's side.
struct Driver {
    session: Session,
    streams: Vec<Watching>,
    keep_alive: KeepAlive,
    revision: i64,
    compacted: Option<(i64, bool)>,
    watched: Option<(usize, i64)>,
}

impl Driver {
    async fn new(session: Session) -> Result<Self> {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = session.watch();
            stream
                .created(WatchCreateRequest {
                    watch_id: FENCE_WATCH,
                    ..build::watch(FENCE_KEY)
                })
                .await?;
            streams.push(stream);
        }
        let keep_alive = session.keep_alive();
        Ok(Self {
            session,
            streams,
            keep_alive,
            revision: 1,
            compacted: None,
            watched: None,
        })
    }

    /// Makes the call; a refusal is an answer like any other, an error here is a broken stream.
    async fn perform(&mut self, step: &Step) -> Result<()> {
        let header = match step {
            Step::KeepAlive(id) => self.keep_alive.renew(*id).await?.header,
            Step::Compact(request) => {
                // A watch that is behind may or may not be overtaken by the compaction.
                for stream in 0..STREAMS {
                    self.settle(stream).await?;
                }
                let answer = self.session.compact(*request).await;
                self.compacted = answer
                    .is_ok()
                    .then_some((request.revision, request.physical));
                answer.ok().and_then(|answer| answer.header)
            }
            Step::Watch { stream, request } => {
                self.settle(*stream).await?;
                let answer = self.streams[*stream].create_among(request.clone()).await?;
                self.watched = (!answer.canceled).then_some((*stream, answer.watch_id));
                answer.header
            }
            Step::CancelWatch { stream, watch_id } => {
                self.settle(*stream).await?;
                let stream = &mut self.streams[*stream];
                if stream.has(*watch_id) {
                    stream.cancel_among(*watch_id).await?.header
                } else {
                    let cancel = WatchCancelRequest {
                        watch_id: *watch_id,
                    };
                    stream.send(RequestUnion::CancelRequest(cancel)).await?;
                    None
                }
            }
            Step::Settle { stream } => self.settle(*stream).await.map(|()| None)?,
            step => self.call(step).await.ok().flatten(),
        };
        self.revision = self
            .revision
            .max(header.map_or(0, |header| header.revision));
        Ok(())
    }

    /// The calls that are one request and one answer.
    async fn call(&self, step: &Step) -> Result<Option<ResponseHeader>, Status> {
        let t = &self.session;
        Ok(match step {
            Step::Range(request) => t.range(request.clone()).await?.header,
            Step::RangeStream(request) => t.range_stream(request.clone()).await.map(|_| None)?,
            Step::Put(request) => t.put(request.clone()).await?.header,
            Step::Delete(request) => t.delete(request.clone()).await?.header,
            Step::Txn(request) => t.txn(request.clone()).await?.header,
            Step::HashKv(request) => t.hash_kv(*request).await?.header,
            Step::Grant { ttl, id } => t.lease_grant(*ttl, *id).await?.header,
            Step::Revoke(id) => t.lease_revoke(LeaseRevokeRequest { id: *id }).await?.header,
            Step::TimeToLive { id, keys } => {
                let request = LeaseTimeToLiveRequest {
                    id: *id,
                    keys: *keys,
                };
                t.lease_time_to_live(request).await?.header
            }
            Step::Leases => t.leases().await?.header,
            _ => None,
        })
    }

    /// Waits until the stream has told everything, also to watches that start in the future.
    async fn settle(&mut self, stream: usize) -> Result<()> {
        let wanted = self.streams[stream].starts_at();
        let quiet = self.session.unrecorded();
        while self.revision < wanted {
            let answer = quiet.put(build::put(FENCE_KEY, "")).await?;
            self.revision = answer.header.context("a header")?.revision;
        }
        self.streams[stream].settle(self.revision).await
    }

    /// What the reference's answer means for the calls that follow.
    fn update(&mut self, seen: &mut Seen, step: &Step) {
        if matches!(step, Step::Put(_) | Step::Txn(_)) && self.revision > seen.revision {
            seen.writes.push(self.revision);
            if seen.writes.len() > WRITES_KNOWN {
                seen.writes.remove(0);
            }
        }
        if self.revision > seen.revision {
            seen.newest_put = matches!(step, Step::Put(_)).then_some(self.revision);
            if matches!(step, Step::Txn(request) if deletes(request)) {
                seen.rewriting.insert(self.revision);
            }
        }
        seen.revision = self.revision;
        if let Some((revision, physical)) = self.compacted.take() {
            seen.compacted = revision;
            seen.compactions
                .push((revision, physical && !seen.compacting));
            seen.compacting = !physical;
        }
        if let Some((stream, watch_id)) = self.watched.take() {
            seen.watches[stream].push(watch_id);
        }
        if let Step::CancelWatch { stream, watch_id } = step {
            seen.watches[*stream].retain(|id| id != watch_id);
        }
    }
}

/// An error unless the run was equal; with everything needed to run it again.
pub fn require_equal(outcome: Outcome, target: Target, seed: u64) -> Result<()> {
    match outcome {
        Outcome::Equal => Ok(()),
        Outcome::Different(report) => {
            bail!("{target} differs from etcd; again with METASTORE_SEED={seed}\n{report}")
        }
    }
}

impl Session {
    /// What was recorded since the last call.
    fn take(&self) -> Transcript {
        std::mem::take(&mut *self.transcript_mut())
    }
}

/// What has been covered, for printing.
pub fn covered(coverage: &Mutex<Coverage>) -> Coverage {
    coverage
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}
