//! Linearizable reads: all waiting reads of a member share one ReadIndex round.
//!
//! A read that arrives while a round is in flight waits for the next one, since the round under way
//! may have fixed its log position before the read began (as etcd's linearizableReadLoop,
//! server/etcdserver/read/read.go). So raft sees one question a round trip, whatever the number of reads.
//! Where a round costs messages and many read at once, it waits a moment for those that were just answered to
//! come again: otherwise the readers fall into two halves that take turns, and twice as many rounds are needed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::error::ReadError;

type Waiter = oneshot::Sender<Result<(), ReadError>>;

/// With fewer readers in a round the next one does not wait.
const GATHER_READERS_MIN: usize = 8;
/// The longest wait for readers to come again.
const GATHER: Duration = Duration::from_millis(1);

#[derive(Default)]
struct State {
    next: Vec<Waiter>,
    running: bool,
    /// The number of readers at which a round that waits begins; 0 when none waits.
    awaited: usize,
}

/// Gathers reads into rounds.
#[derive(Clone, Default)]
pub(crate) struct ReadGate {
    state: Arc<Mutex<State>>,
    gathered: Arc<Notify>,
}

impl ReadGate {
    /// Waits until a round that began after this call has succeeded.
    ///
    /// `round` is run by the first reader on `runtime` for everybody, one round at a time; `gather` says whether it
    /// costs so much that waiting for more readers pays.
    pub(crate) async fn pass<R, F>(
        &self,
        runtime: &tokio::runtime::Handle,
        gather: bool,
        round: R,
    ) -> Result<(), ReadError>
    where
        R: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), ReadError>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let start = {
            let mut state = self.state.lock();
            state.next.push(sender);
            if state.next.len() == state.awaited {
                self.gathered.notify_one();
            }
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            runtime.spawn(self.clone().run(gather, round));
        }
        receiver.await.unwrap_or(Err(ReadError::Stopped))
    }

    async fn run<R, F>(self, gather: bool, round: R)
    where
        R: Fn() -> F,
        F: Future<Output = Result<(), ReadError>>,
    {
        let mut served = 0;
        loop {
            if gather && served >= GATHER_READERS_MIN {
                self.gather(served, GATHER).await;
            }
            let waiters = {
                let mut state = self.state.lock();
                state.awaited = 0;
                if state.next.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.next)
            };
            served = waiters.len();
            let result = round().await;
            for waiter in waiters {
                // A reader that has gone away needs no answer.
                let _ = waiter.send(result);
            }
        }
    }

    /// Waits until most of the readers there seem to be, those just `served` and those that wait, want to read.
    async fn gather(&self, served: usize, limit: Duration) {
        {
            let mut state = self.state.lock();
            let most = (served + state.next.len()) * 3 / 4;
            if state.next.len() >= most {
                return;
            }
            state.awaited = most;
        }
        // Those that do not come do not matter.
        let _ = tokio::time::timeout(limit, self.gathered.notified()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn reads_that_arrive_during_a_round_share_the_next_one() {
        let gate = ReadGate::default();
        let rounds = Arc::new(AtomicUsize::new(0));
        let permits = Arc::new(Semaphore::new(0));
        let runtime = tokio::runtime::Handle::current();
        let round = {
            let (rounds, permits) = (rounds.clone(), permits.clone());
            move || {
                let (rounds, permits) = (rounds.clone(), permits.clone());
                async move {
                    rounds.fetch_add(1, Ordering::SeqCst);
                    permits.acquire().await.expect("open").forget();
                    Ok(())
                }
            }
        };
        let mut reads = Vec::new();
        for _ in 0..10 {
            let (gate, runtime, round) = (gate.clone(), runtime.clone(), round.clone());
            reads.push(tokio::spawn(async move {
                gate.pass(&runtime, false, round).await
            }));
            tokio::task::yield_now().await;
        }
        permits.add_permits(2);
        for read in reads {
            assert_eq!(read.await.expect("joined"), Ok(()));
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_round_that_waits_begins_as_soon_as_most_readers_are_there() {
        let gate = ReadGate::default();
        gate.state.lock().running = true;
        let waiting = {
            let gate = gate.clone();
            tokio::spawn(async move { gate.gather(12, Duration::from_secs(60)).await })
        };
        while gate.state.lock().awaited == 0 {
            tokio::task::yield_now().await;
        }
        let runtime = tokio::runtime::Handle::current();
        for _ in 0..9 {
            let (gate, runtime) = (gate.clone(), runtime.clone());
            tokio::spawn(async move { gate.pass(&runtime, true, async || Ok(())).await });
        }
        waiting
            .await
            .expect("it does not wait for the last quarter");
        assert!(gate.state.lock().next.len() >= 9);
    }

    #[tokio::test]
    async fn readers_that_do_not_come_again_hold_nobody_up_for_long() {
        let gate = ReadGate::default();
        gate.gather(100, Duration::from_millis(1)).await;
        assert!(gate.state.lock().next.is_empty());
        let runtime = tokio::runtime::Handle::current();
        let read = gate.pass(&runtime, true, async || Ok(()));
        assert_eq!(read.await, Ok(()));
    }
}
