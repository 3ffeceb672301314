//! Watches that no endpoint ever answers a lower revision than before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_harness::Clients;
use tokio::task::JoinSet;

use crate::client::{get, get_serializable, lazy};
use crate::load::Told;

/// One question to an endpoint may take so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Every so many reads one is linearizable.
const LINEARIZABLE: u64 = 4;

/// One witness for each endpoint, asking all the time.
pub struct Witnesses {
    stop: Arc<AtomicBool>,
    floors: Vec<Arc<AtomicI64>>,
    told: Arc<Told>,
    witnesses: JoinSet<Result<u64>>,
}

impl Witnesses {
    /// Begins to ask every member at `urls`.
    pub fn start(urls: &[String], told: &Arc<Told>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut floors = Vec::new();
        let mut witnesses = JoinSet::new();
        for url in urls {
            let floor = Arc::new(AtomicI64::new(0));
            floors.push(floor.clone());
            let witness = Witness {
                url: url.clone(),
                clients: lazy(url)?,
                told: told.clone(),
                floor,
                stop: stop.clone(),
            };
            witnesses.spawn(witness.run());
        }
        Ok(Self {
            stop,
            floors,
            told: told.clone(),
            witnesses,
        })
    }

    /// To be called when a member's process has ended and before it is started again: from its first answer on it
    /// must know everything that had been acknowledged by now.
    pub fn restarts(&self, member: usize) {
        self.floors[member].fetch_max(self.told.revision(), Ordering::SeqCst);
    }

    /// Ends the asking; the number of answers, or what was wrong with one.
    pub async fn finish(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        let mut answers = 0;
        while let Some(answered) = self.witnesses.join_next().await {
            answers += answered.context("a witness panicked")??;
        }
        Ok(answers)
    }
}

struct Witness {
    url: String,
    clients: Clients,
    told: Arc<Told>,
    floor: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
}

impl Witness {
    async fn run(mut self) -> Result<u64> {
        let (mut answers, mut last) = (0, 0);
        while !self.stop.load(Ordering::SeqCst) {
            let linearizable = answers % LINEARIZABLE == 0;
            let known = if linearizable {
                self.told.revision()
            } else {
                0
            };
            let floor = self.floor.load(Ordering::SeqCst);
            let request = match linearizable {
                true => get("witness"),
                false => get_serializable("witness"),
            };
            match tokio::time::timeout(PATIENCE, self.clients.kv.range(request)).await {
                Ok(Ok(answer)) => {
                    let revision = answer.into_inner().header.unwrap_or_default().revision;
                    ensure!(
                        revision >= last,
                        "{} answered revision {revision} after {last}",
                        self.url
                    );
                    ensure!(
                        revision >= floor,
                        "{} came back with revision {revision}; {floor} had been acknowledged",
                        self.url
                    );
                    ensure!(
                        revision >= known,
                        "{}: a linearizable read of revision {revision}; {known} had been acknowledged",
                        self.url
                    );
                    last = revision;
                    answers += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                // The member is away, or without a leader.
                _ => tokio::time::sleep(Duration::from_millis(3)).await,
            }
        }
        Ok(answers)
    }
}
