//! What concurrent clients are told, while members are killed, could have come from one register for each key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{get, lazy, put};
use metastore_cluster_tests::history::{
    Action, History, Operation, Value, broken_keys, undecided_keys,
};
use metastore_cluster_tests::soak;
use metastore_cluster_tests::trouble::{Victim, kill};
use metastore_cluster_tests::verify::urls;
use metastore_harness::{Clients, Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{Compare, RequestOp, TxnRequest, compare, request_op};
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

const CLIENTS: usize = 6;
const KEYS: usize = 12;
/// Each operation without an answer doubles the search.
const AFTER_FAILURE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(3);

/// What all clients share: a clock, and values that nobody writes twice.
struct Shared {
    begin: Instant,
    next: AtomicU64,
    stop: AtomicBool,
    prefix: String,
}

impl Shared {
    fn now(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }
}

struct Client {
    shared: Arc<Shared>,
    members: Vec<Clients>,
    random: StdRng,
    /// The last value that this client has seen of each key.
    seen: BTreeMap<String, Value>,
    history: History,
}

impl Client {
    async fn run(mut self) -> History {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let key = format!(
                "{}{}",
                self.shared.prefix,
                self.random.random_range(0..KEYS)
            );
            let member = self.random.random_range(0..self.members.len());
            let mut clients = self.members[member].clone();
            let new = self.shared.next.fetch_add(1, Ordering::SeqCst);
            let from = self.seen.get(&key).copied().flatten();
            let asked = match self.random.random_range(0..3) {
                0 => Action::Write(new),
                1 => Action::Read(None),
                _ => Action::Swap {
                    from,
                    to: new,
                    done: None,
                },
            };
            let begin = self.shared.now();
            let answered = tokio::time::timeout(PATIENCE, ask(&mut clients, &key, asked)).await;
            let end = self.shared.now();
            let operation = match answered {
                Ok(Ok(action)) => {
                    self.note(&key, action);
                    Operation {
                        begin,
                        end: Some(end),
                        action,
                    }
                }
                // A read without an answer says nothing; the rest may have happened, or may yet.
                _ if asked == Action::Read(None) => {
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
                _ => Operation {
                    begin,
                    end: None,
                    action: asked,
                },
            };
            self.history.entry(key).or_default().push(operation);
            let rest = match operation.end {
                Some(_) => Duration::from_millis(self.random.random_range(0..8)),
                None => AFTER_FAILURE,
            };
            tokio::time::sleep(rest).await;
        }
        self.history
    }

    fn note(&mut self, key: &str, action: Action) {
        let value = match action {
            Action::Write(value) => Some(value),
            Action::Read(value) => value,
            Action::Swap {
                to,
                done: Some(true),
                ..
            } => Some(to),
            Action::Swap { .. } => return,
        };
        self.seen.insert(key.to_owned(), value);
    }
}

/// Asks a member and completes the action with its answer.
async fn ask(clients: &mut Clients, key: &str, action: Action) -> Result<Action> {
    match action {
        Action::Write(value) => {
            clients
                .kv
                .put(put(key.to_owned(), value.to_string()))
                .await?;
            Ok(action)
        }
        Action::Read(_) => {
            let answer = clients.kv.range(get(key.to_owned())).await?.into_inner();
            let value = answer
                .kvs
                .first()
                .map(|kv| String::from_utf8(kv.value.to_vec()));
            Ok(Action::Read(
                value.transpose()?.map(|text| text.parse()).transpose()?,
            ))
        }
        Action::Swap { from, to, .. } => {
            let answer = clients.kv.txn(swap(key, from, to)).await?.into_inner();
            let done = Some(answer.succeeded);
            Ok(Action::Swap { from, to, done })
        }
    }
}

fn swap(key: &str, from: Value, to: u64) -> TxnRequest {
    let key = key.to_owned();
    let mut condition = Compare {
        key: key.clone().into(),
        result: compare::CompareResult::Equal.into(),
        ..Default::default()
    };
    match from {
        Some(value) => {
            condition.target = compare::CompareTarget::Value.into();
            condition.target_union = Some(compare::TargetUnion::Value(value.to_string().into()));
        }
        None => {
            condition.target = compare::CompareTarget::Version.into();
            condition.target_union = Some(compare::TargetUnion::Version(0));
        }
    }
    let write = RequestOp {
        request: Some(request_op::Request::RequestPut(put(key, to.to_string()))),
    };
    TxnRequest {
        compare: vec![condition],
        success: vec![write],
        ..Default::default()
    }
}

async fn histories_are_linearizable(
    engine: Engine,
    enough: impl Fn(usize) -> bool,
) -> Result<usize> {
    let mut cluster = Cluster::start(&Spec::new(Target::MetaStore(engine), 3)).await?;
    let all = urls(&cluster);
    let (mut kills, mut operations) = (0, 0);
    // A history of one kill after the other, so that what is searched stays small.
    loop {
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            prefix: format!("register{kills}/"),
        });
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let members = all.iter().map(|url| lazy(url)).collect::<Result<_>>()?;
            let client = Client {
                shared: shared.clone(),
                members,
                random: StdRng::seed_from_u64(rand::rng().random()),
                seen: BTreeMap::new(),
                history: History::new(),
            };
            clients.spawn(client.run());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let victim = [
            Victim::Leader,
            Victim::Follower,
            Victim::Leader,
            Victim::All,
        ][kills % 4];
        let hit = kill(&mut cluster, victim).await?;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for index in &hit {
            cluster.member(*index).launch()?;
        }
        for index in &hit {
            cluster.member(*index).ready().await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        shared.stop.store(true, Ordering::SeqCst);
        let mut history = History::new();
        while let Some(one) = clients.join_next().await {
            for (key, mut found) in one.context("a client panicked")? {
                history.entry(key).or_default().append(&mut found);
            }
        }
        operations += check(history)?;
        kills += 1;
        if enough(kills) {
            return Ok(operations);
        }
    }
}

/// The number of operations, or those of a key that cannot be put in order.
fn check(mut history: History) -> Result<usize> {
    for operations in history.values_mut() {
        operations.sort_by_key(|operation| operation.begin);
    }
    let broken = broken_keys(&history);
    ensure!(
        broken.is_empty(),
        "not linearizable: {}",
        broken
            .iter()
            .map(|key| format!("{key}: {:#?}\n", history.get(*key)))
            .collect::<String>()
    );
    let undecided = undecided_keys(&history).len();
    ensure!(
        undecided * 4 <= history.len(),
        "{undecided} of {} keys are undecided",
        history.len()
    );
    let answered = history.values().flatten().filter(|one| one.end.is_some());
    let answered = answered.count();
    ensure!(answered > 100, "only {answered} operations were answered");
    Ok(history.values().map(Vec::len).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_linearizable_while_members_are_killed() -> Result<()> {
    histories_are_linearizable(Engine::RocksDb, |kills| kills == 4).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_answers_are_linearizable_while_members_are_killed() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let end = Instant::now() + soak::duration() / 2;
        let operations = histories_are_linearizable(engine, |_| Instant::now() > end).await?;
        soak::report(&format!("{engine:?}: {operations} operations"));
    }
    Ok(())
}

#[test]
fn a_stale_read_would_be_noticed() {
    let operation = |begin, end, action| Operation {
        begin,
        end: Some(end),
        action,
    };
    let mut operations = vec![
        operation(0, 1, Action::Write(1)),
        operation(2, 3, Action::Write(2)),
        operation(4, 5, Action::Read(Some(1))),
    ];
    let history =
        |operations: &[Operation]| History::from([("key".to_owned(), operations.to_vec())]);
    assert_eq!(broken_keys(&history(&operations)).len(), 1);
    operations[2].action = Action::Read(Some(2));
    assert!(broken_keys(&history(&operations)).is_empty());
}
