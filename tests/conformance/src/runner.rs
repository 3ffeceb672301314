//! Runs a case against etcd and against MetaStore and compares what was recorded.
//!
//! `METASTORE_TARGETS` (default `rocksdb,memory`; `etcd` compares etcd with itself) and `METASTORE_SIZES`
//! (default `1,3`) choose what a run covers. Each run measures etcd anew. A target that cannot be started fails
//! the case.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::{LocalBoxFuture, join_all};
use metastore_harness::{Cluster, Engine, Spec, Target};
use tokio::sync::Mutex;

use crate::session::Session;
use crate::transcript::{Transcript, summary};

const CASE: Duration = Duration::from_secs(180);
const LOG_LINES: usize = 15;

/// Which member of a cluster of three a case talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One that has to ask the leader.
    Follower,
    /// The leader.
    Leader,
}

/// What a case needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Flags of both programs.
    pub flags: Vec<String>,
    /// Cluster sizes the case makes sense for.
    pub sizes: Vec<usize>,
    /// The member it talks to.
    pub endpoint: Endpoint,
    /// Whether the client port speaks TLS with client certificates.
    pub client_tls: bool,
    /// Whether the members speak TLS to each other.
    pub peer_tls: bool,
    /// How long the case may take.
    pub patience: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            flags: Vec::new(),
            sizes: vec![1, 3],
            endpoint: Endpoint::Follower,
            client_tls: false,
            peer_tls: false,
            patience: CASE,
        }
    }
}

impl Setup {
    /// One member only: for rules that a cluster cannot change.
    pub fn single() -> Self {
        Self {
            sizes: vec![1],
            ..Self::default()
        }
    }

    /// Three members only.
    pub fn three() -> Self {
        Self {
            sizes: vec![3],
            ..Self::default()
        }
    }

    /// With these flags.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags
            .extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// With so much time for the case.
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Against the leader.
    #[must_use]
    pub fn leader(mut self) -> Self {
        self.endpoint = Endpoint::Leader;
        self
    }
}

/// Runs a case on every target and size of this run.
pub fn check(case: impl AsyncFn(&Session) -> Result<()>) -> Result<()> {
    check_with(&Setup::default(), case)
}

/// As [`check`], with what the case needs.
pub fn check_with(setup: &Setup, case: impl AsyncFn(&Session) -> Result<()>) -> Result<()> {
    let case = &case;
    check_boxed(setup, &|session| {
        Box::pin(async move { case(&session).await })
    })
}

/// A case behind a pointer, so that the runner is compiled once and not once per case.
type Case<'a> = &'a dyn Fn(Session) -> LocalBoxFuture<'a, Result<()>>;

fn check_boxed(setup: &Setup, case: Case<'_>) -> Result<()> {
    if let Err(error) = check_targets(setup, case) {
        // The report alone: where in the runner it arose helps nobody.
        eprintln!("{error:#}");
        std::panic::resume_unwind(Box::new("the targets differ"));
    }
    Ok(())
}

fn check_targets(setup: &Setup, case: Case<'_>) -> Result<()> {
    runtime()?.block_on(async {
        let mut failures = Vec::new();
        for size in sizes()?
            .into_iter()
            .filter(|size| setup.sizes.contains(size))
        {
            compare_targets(setup, size, case, &mut failures).await?;
        }
        if failures.is_empty() {
            Ok(())
        } else {
            bail!("{}", failures.join("\n\n"))
        }
    })
}

/// A runtime for one test.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")
}

struct Run {
    target: Target,
    ran: bool,
    transcript: Transcript,
    failure: Option<String>,
    logs: String,
}

async fn compare_targets(
    setup: &Setup,
    size: usize,
    case: Case<'_>,
    failures: &mut Vec<String>,
) -> Result<()> {
    let mut targets = vec![Target::Etcd];
    targets.extend(self::targets()?);
    let mut runs = join_all(
        targets
            .into_iter()
            .map(|target| run(setup, target, size, case)),
    )
    .await
    .into_iter();
    let reference = runs.next().context("etcd runs first")?;
    if let Some(failure) = reference.failure {
        bail!(
            "etcd itself, {size} member(s), breaks what the case says: {failure}\n{}",
            reference.logs
        );
    }
    for run in runs {
        // A target that did not start has only that to say.
        let differences = match run.ran {
            true => reference.transcript.differences(&run.transcript),
            false => Vec::new(),
        };
        if differences.is_empty() && run.failure.is_none() {
            continue;
        }
        let mut text = format!("== {} with {size} member(s)", run.target);
        if let Some(failure) = run.failure {
            text.push_str(&format!("\nfails: {failure}"));
        }
        if !differences.is_empty() {
            text.push_str(&format!("\ndiffers from etcd:\n{}", summary(&differences)));
        }
        failures.push(format!("{text}\n{}", run.logs));
    }
    Ok(())
}

async fn run(setup: &Setup, target: Target, size: usize, case: Case<'_>) -> Run {
    let mut run = Run {
        target,
        ran: false,
        transcript: Transcript::default(),
        failure: None,
        logs: String::new(),
    };
    match open(setup, target, size).await {
        Ok(session) => {
            let outcome = tokio::time::timeout(setup.patience, case(session.clone())).await;
            run.ran = true;
            run.transcript = session.transcript();
            run.failure = match outcome {
                Ok(outcome) => outcome.err().map(|error| format!("{error:#}")),
                Err(_) => Some(format!("the case was not done after {:?}", setup.patience)),
            };
            if run.failure.is_some() {
                run.logs = session.cluster().await.log_tails(LOG_LINES);
            }
        }
        Err(error) => run.failure = Some(format!("cannot run: {error:#}")),
    }
    run
}

pub(crate) async fn open(setup: &Setup, target: Target, size: usize) -> Result<Session> {
    let mut spec = Spec::new(target, size).with_flags(setup.flags.iter().cloned());
    spec.client_tls = setup.client_tls;
    spec.peer_tls = setup.peer_tls;
    let mut cluster = Cluster::start(&spec).await?;
    let index = if size == 1 {
        0
    } else {
        let leader = cluster.leader().await?;
        match setup.endpoint {
            Endpoint::Leader => leader,
            Endpoint::Follower => (leader + 1) % size,
        }
    };
    Session::open(Arc::new(Mutex::new(cluster)), index).await
}

/// The targets that this run compares with etcd.
pub fn targets() -> Result<Vec<Target>> {
    let wanted = env::var("METASTORE_TARGETS").unwrap_or_else(|_| "rocksdb,memory".into());
    let target = |name: &str| match name.trim() {
        "etcd" => Ok(Target::Etcd),
        "rocksdb" => Ok(Target::MetaStore(Engine::RocksDb)),
        "memory" => Ok(Target::MetaStore(Engine::Memory)),
        name => bail!("METASTORE_TARGETS: {name:?} is neither etcd, rocksdb nor memory"),
    };
    wanted.split(',').map(target).collect()
}

/// The cluster sizes that this run covers.
pub fn sizes() -> Result<Vec<usize>> {
    let wanted = env::var("METASTORE_SIZES").unwrap_or_else(|_| "1,3".into());
    wanted
        .split(',')
        .map(|size| size.trim().parse().context("METASTORE_SIZES"))
        .collect()
}
