//! Linearizable reads: all waiting reads of a member share one ReadIndex round.
//!
//! A read that arrives while a round is in flight waits for the next one, since the round under way
//! may have fixed its log position before the read began (as etcd's linearizableReadLoop,
//! server/etcdserver/read/read.go). So raft sees one question a round trip, whatever the number of reads.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::ReadError;

type Waiter = oneshot::Sender<Result<(), ReadError>>;

#[derive(Default)]
struct State {
    next: Vec<Waiter>,
    running: bool,
}

/// Gathers reads into rounds.
#[derive(Clone, Default)]
pub(crate) struct ReadGate {
    state: Arc<Mutex<State>>,
}

impl ReadGate {
    /// Waits until a round that began after this call has succeeded.
    ///
    /// `round` is run by the first reader on `runtime` for everybody, one round at a time.
    pub(crate) async fn pass<R, F>(
        &self,
        runtime: &tokio::runtime::Handle,
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
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            runtime.spawn(self.clone().run(round));
        }
        receiver.await.unwrap_or(Err(ReadError::Stopped))
    }

    async fn run<R, F>(self, round: R)
    where
        R: Fn() -> F,
        F: Future<Output = Result<(), ReadError>>,
    {
        loop {
            let waiters = {
                let mut state = self.state.lock();
                if state.next.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.next)
            };
            let result = round().await;
            for waiter in waiters {
                // A reader that has gone away needs no answer.
                let _ = waiter.send(result);
            }
        }
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
            reads.push(tokio::spawn(
                async move { gate.pass(&runtime, round).await },
            ));
            tokio::task::yield_now().await;
        }
        permits.add_permits(2);
        for read in reads {
            assert_eq!(read.await.expect("joined"), Ok(()));
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 2);
    }
}
