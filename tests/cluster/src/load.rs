//! Writers that remember every acknowledgement.
//!
//! Each put writes a key of its own, so what became of one is never hidden by the next: an acknowledged key must be
//! there with the revision that was told, and no key may be there that nobody sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use metastore_harness::Clients;
use tokio::task::JoinSet;

use crate::client::{lazy, put, until};

/// Everything that a load writes is below this prefix.
pub const PREFIX: &str = "load/";

/// How long one put may take before its client turns to another member.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a load does.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Concurrent writers; each waits for an answer before its next put.
    pub writers: usize,
    /// Bytes of each value, at least 8.
    pub value_bytes: usize,
    /// The rest of a writer between two puts.
    pub pause: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            writers: 8,
            value_bytes: 100,
            pause: Duration::ZERO,
        }
    }
}

/// What has been told so far, to whomever.
#[derive(Debug, Default)]
pub struct Told {
    acknowledged: AtomicU64,
    revision: AtomicI64,
    last_error: Mutex<String>,
}

impl Told {
    /// Puts that have been acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// The highest revision of an acknowledged put.
    pub fn revision(&self) -> i64 {
        self.revision.load(Ordering::SeqCst)
    }

    fn tell(&self, revision: i64) {
        self.revision.fetch_max(revision, Ordering::SeqCst);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// One acknowledged put.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// The revision that was told.
    pub revision: i64,
    /// When it was sent.
    pub at: Instant,
    /// How long the answer took.
    pub took: Duration,
}

/// What all writers together have seen.
#[derive(Debug, Default)]
pub struct Writes {
    /// The acknowledged ones by key.
    pub acknowledged: BTreeMap<String, Acknowledged>,
    /// Those without an answer: each may be there or not.
    pub unknown: Vec<String>,
    /// How often each error was met.
    pub errors: BTreeMap<String, usize>,
}

impl Writes {
    /// The time below which a share of the answers came, of those sent between two moments.
    pub fn quantile(&self, share: f64, from: Instant, to: Instant) -> Duration {
        let mut took: Vec<Duration> = self
            .acknowledged
            .values()
            .filter(|write| from <= write.at && write.at < to)
            .map(|write| write.took)
            .collect();
        took.sort_unstable();
        let at = (took.len() as f64 * share) as usize;
        took.get(at.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

/// A running load.
pub struct Load {
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
    writers: JoinSet<Writes>,
}

impl Load {
    /// Starts the writers, spread over the members at `urls`. `name` keeps the keys of several loads apart.
    pub fn start(name: &str, urls: &[String], shape: &Shape) -> Result<Self> {
        let told = Arc::new(Told::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for number in 0..shape.writers {
            let clients = urls.iter().map(|url| lazy(url)).collect::<Result<_>>()?;
            let writer = Writer {
                name: format!("{PREFIX}{name}/{number:03}"),
                clients,
                member: number % urls.len(),
                shape: shape.clone(),
                told: told.clone(),
                stop: stop.clone(),
            };
            writers.spawn(writer.run());
        }
        Ok(Self {
            told,
            stop,
            writers,
        })
    }

    /// What has been told so far.
    pub fn told(&self) -> Arc<Told> {
        self.told.clone()
    }

    /// Waits for so many acknowledgements from now on.
    pub async fn progress(&self, acknowledgements: u64, within: Duration) -> Result<()> {
        let target = self.told.acknowledged() + acknowledgements;
        until("writes are acknowledged", within, async || {
            let now = self.told.acknowledged();
            let error = self.told.last_error.lock().map(|error| error.clone());
            let error = error.unwrap_or_default();
            anyhow::ensure!(now >= target, "{now} of {target}; last error: {error}");
            Ok(())
        })
        .await
    }

    /// Stops the writers and hands over what they have seen.
    pub async fn finish(mut self) -> Result<Writes> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Writes::default();
        while let Some(writes) = self.writers.join_next().await {
            let writes = writes.context("a writer panicked")?;
            all.acknowledged.extend(writes.acknowledged);
            all.unknown.extend(writes.unknown);
            for (error, count) in writes.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        Ok(all)
    }
}

struct Writer {
    name: String,
    clients: Vec<Clients>,
    member: usize,
    shape: Shape,
    told: Arc<Told>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self) -> Writes {
        let mut writes = Writes::default();
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                break;
            }
            let key = format!("{}/{number:07}", self.name);
            let request = put(key.clone(), value_of(&key, self.shape.value_bytes));
            let at = Instant::now();
            let sent = self.clients[self.member].kv.put(request);
            let error = match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok(answer)) => {
                    let revision = answer.into_inner().header.unwrap_or_default().revision;
                    self.told.tell(revision);
                    let took = at.elapsed();
                    writes
                        .acknowledged
                        .insert(key, Acknowledged { revision, at, took });
                    tokio::time::sleep(self.shape.pause).await;
                    continue;
                }
                Ok(Err(status)) => format!("{:?}: {}", status.code(), status.message()),
                Err(_) => "no answer in time".to_owned(),
            };
            if let Ok(mut last) = self.told.last_error.lock() {
                last.clone_from(&error);
            }
            *writes.errors.entry(error).or_default() += 1;
            writes.unknown.push(key);
            self.member = (self.member + 1) % self.clients.len();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        writes
    }
}

/// The value that belongs to a key: nobody else's, and hard to compress.
pub fn value_of(key: &str, bytes: usize) -> Vec<u8> {
    let mut state = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut value = Vec::with_capacity(bytes + 8);
    while value.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(bytes);
    value
}
