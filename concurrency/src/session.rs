//! A lease that is kept alive, and what hangs on it.
//!
//! Promises: the lease is renewed three times in its TTL; it counts as lost as soon as the cluster says so, and at the
//! latest a TTL after the last renewal that succeeded was sent, whoever can be reached.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Error as ClientError, LeaseClient, LeaseKeepAliveStream, LeaseKeeper};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::Error;
use crate::error::AGAIN;

/// As Go's client.
const RENEWALS_PER_TTL: u32 = 3;
/// What the client says when the answer to its first renewal says that there is no such lease.
const NO_LEASE: &str = "lease not found";

/// A lease of this process, kept alive until it is closed or its last clone is dropped.
///
/// A lease that is not closed runs out by itself, and all that hangs on it goes then.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    lease: i64,
    lost: watch::Receiver<bool>,
    keeper: AbortHandle,
    /// What this session's own tasks queue for: to the cluster they are one.
    turns: Mutex<HashMap<Vec<u8>, Arc<tokio::sync::Mutex<()>>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lease = format_args!("{:x}", self.inner.lease).to_string();
        f.debug_struct("Session")
            .field("lease", &lease)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens a session with a lease of its own. `ttl` is rounded up to whole seconds; the cluster may give more.
    ///
    /// # Errors
    /// Those of granting the lease.
    pub async fn open(client: Client, ttl: Duration) -> Result<Self, Error> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let lease = client.lease_client().grant(seconds.max(1), None).await?;
        let ttl = Duration::from_secs(u64::try_from(lease.ttl()).unwrap_or(0));
        Ok(Self::keep(client, lease.id(), asked + ttl, ttl))
    }

    /// Keeps a lease alive that somebody else has granted.
    ///
    /// # Errors
    /// [`Error::SessionLost`] when there is no such lease; those of asking for it.
    pub async fn of_lease(client: Client, lease: i64) -> Result<Self, Error> {
        let asked = Instant::now();
        let found = client.lease_client().time_to_live(lease, None).await?;
        let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if found.ttl() <= 0 {
            return Err(Error::SessionLost);
        }
        let (left, ttl) = (seconds(found.ttl()), seconds(found.granted_ttl()));
        Ok(Self::keep(client, lease, asked + left, ttl))
    }

    fn keep(client: Client, lease: i64, deadline: Instant, ttl: Duration) -> Self {
        let (lose, lost) = watch::channel(false);
        let leases = client.lease_client();
        let keeper = tokio::spawn(async move {
            keep_alive(leases, lease, deadline, ttl).await;
            lose.send_replace(true);
        });
        let inner = Inner {
            client,
            lease,
            lost,
            keeper: keeper.abort_handle(),
            turns: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The client that the session was opened with.
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The id of the lease.
    pub fn lease(&self) -> i64 {
        self.inner.lease
    }

    /// Whether the lease is known to be lost.
    pub fn is_lost(&self) -> bool {
        *self.inner.lost.borrow() || self.inner.lost.has_changed().is_err()
    }

    /// Resolves when the lease is lost, or nobody keeps it alive any more: then nothing that hangs on it is sure to be held.
    pub async fn lost(&self) {
        // The sender goes with the task that keeps the lease alive.
        let _ = self.inner.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Gives the lease back, and with it everything that hangs on it.
    ///
    /// # Errors
    /// Those of revoking the lease; none when it was gone already.
    pub async fn close(self) -> Result<(), Error> {
        self.inner.keeper.abort();
        let revoked = self
            .inner
            .client
            .lease_client()
            .revoke(self.inner.lease)
            .await;
        match revoked {
            Err(ClientError::GRpcStatus(status)) if status.code() == tonic::Code::NotFound => {
                Ok(())
            }
            revoked => Ok(revoked.map(drop)?),
        }
    }

    /// Stops keeping the lease alive, and leaves it to run out by itself.
    pub fn orphan(self) {
        self.inner.keeper.abort();
    }

    /// What `future` gives, unless the session is lost before.
    pub(crate) async fn unless_lost<T>(
        &self,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.lost() => Err(Error::SessionLost),
            result = future => result,
        }
    }

    /// Waits until no other task of this session is at `name`.
    pub(crate) async fn turn(&self, name: &[u8]) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = self.turn_of(name);
        turn.lock_owned().await
    }

    /// As [`Session::turn`], without waiting.
    pub(crate) fn try_turn(&self, name: &[u8]) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        self.turn_of(name).try_lock_owned().ok()
    }

    fn turn_of(&self, name: &[u8]) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.inner.turns.lock();
        // Those that nobody is at are forgotten.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(name.to_vec()).or_default().clone()
    }
}

/// Renews the lease until it is gone, or can no longer be known to be there.
async fn keep_alive(mut leases: LeaseClient, lease: i64, mut deadline: Instant, ttl: Duration) {
    let mut stream = None;
    while Instant::now() < deadline {
        match timeout_at(deadline, renew(&mut leases, lease, &mut stream)).await {
            Ok(Ok(Some(until))) => {
                deadline = until;
                sleep(ttl / RENEWALS_PER_TTL).await;
            }
            Ok(Ok(None)) => return,
            // Another member may answer, or this one in a moment.
            Ok(Err(_)) => {
                stream = None;
                sleep(AGAIN).await;
            }
            // Nobody has answered in time.
            Err(_) => return,
        }
    }
}

/// Renews the lease once, over the stream if there is one: until when it lives now, at least; none when there is no such
/// lease any more.
async fn renew(
    leases: &mut LeaseClient,
    lease: i64,
    stream: &mut Option<(LeaseKeeper, LeaseKeepAliveStream)>,
) -> Result<Option<Instant>, ClientError> {
    if stream.is_none() {
        match leases.keep_alive(lease).await {
            Ok(opened) => *stream = Some(opened),
            Err(ClientError::LeaseKeepAliveError(why)) if why == NO_LEASE => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let ended = || ClientError::LeaseKeepAliveError("the stream has ended".to_owned());
    let (keeper, answers) = stream.as_mut().ok_or_else(ended)?;
    let asked = Instant::now();
    keeper.keep_alive().await?;
    let answer = answers.message().await?.ok_or_else(ended)?;
    let seconds = u64::try_from(answer.ttl()).unwrap_or(0);
    Ok((seconds > 0).then(|| asked + Duration::from_secs(seconds)))
}
