//! A place in a queue of keys under one prefix, in the order of their creation.
//!
//! The key is the prefix and the lease in hexadecimal, as in Go's package, so that both can stand in one queue. Who is first
//! has what is queued for. Promises: a place that is dropped is given up, and goes with its lease at the latest; whoever waits
//! watches the one before it only. Must not know what is queued for.

use etcd_client::{
    Client, Compare, CompareOp, Error as ClientError, EventType, GetOptions, GetResponse, KeyValue,
    PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};
use tokio::time::sleep;

use crate::error::{AGAIN, is_transient};
use crate::{Error, Session};

/// A place; dropped, it is given up in the background.
#[derive(Debug)]
pub(crate) struct Place {
    session: Session,
    prefix: Vec<u8>,
    key: Vec<u8>,
    /// The revision that created the key.
    revision: i64,
    given_up: bool,
    /// No other task of the session has a place in the queue meanwhile.
    turn: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// What was found when a place was taken.
pub(crate) struct Taken {
    pub(crate) place: Place,
    /// Whether nobody was before it.
    pub(crate) is_first: bool,
    /// The value of the key, where the session had the place already.
    pub(crate) value: Option<Vec<u8>>,
}

impl Place {
    /// Takes the last place, or the one that the session has already.
    pub(crate) async fn take(
        session: &Session,
        prefix: &[u8],
        value: &[u8],
        turn: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<Taken, Error> {
        let key = [prefix, format!("{:x}", session.lease()).as_bytes()].concat();
        let mut place = Self {
            session: session.clone(),
            prefix: prefix.to_vec(),
            key: key.clone(),
            revision: 0,
            // What is asked below may have been done also when no answer comes.
            given_up: false,
            turn: Some(turn),
        };
        let put = PutOptions::new().with_lease(session.lease());
        let first = TxnOp::get(prefix, Some(oldest()));
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), value, Some(put)), first.clone()])
            .or_else([TxnOp::get(key, None), first]);
        let answer = session.client().kv_client().txn(txn).await?;
        let mut answers = answer.op_responses().into_iter();
        let (own, first) = (answers.next(), answers.next());
        let revision = answer.header().map_or(0, |header| header.revision());
        let own = match own {
            Some(TxnOpResponse::Get(own)) => own.kvs().first().cloned(),
            _ => None,
        };
        place.revision = own.as_ref().map_or(revision, KeyValue::create_revision);
        let first = match first {
            Some(TxnOpResponse::Get(first)) => first.kvs().first().map(KeyValue::create_revision),
            _ => None,
        };
        let is_first = first.is_none_or(|first| first == place.revision);
        let value = own.map(|own| own.value().to_vec());
        Ok(Taken {
            place,
            is_first,
            value,
        })
    }

    /// Waits until all that were before have gone, and this one has not.
    pub(crate) async fn wait(&self) -> Result<(), Error> {
        let session = self.session.clone();
        session.unless_lost(self.wait_for_others()).await
    }

    async fn wait_for_others(&self) -> Result<(), Error> {
        let before = newest().with_max_create_revision(self.revision - 1);
        loop {
            let asked = self.get(&self.prefix, before.clone()).await?;
            let revision = asked.header().map_or(0, |header| header.revision());
            let Some(predecessor) = asked.kvs().first() else {
                break;
            };
            let options = WatchOptions::new().with_start_revision(revision + 1);
            let client = self.session.client();
            let gone = wait_for(client, predecessor.key(), options, EventType::Delete);
            match gone.await {
                Ok(()) => {}
                Err(error) if is_transient(&error) => sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
        // A lease that is gone has taken the place with it.
        let own = self.get(&self.key, GetOptions::new()).await?;
        match own.kvs().first() {
            Some(own) if own.create_revision() == self.revision => Ok(()),
            _ => Err(Error::SessionLost),
        }
    }

    /// Reads, as often as it takes to reach a member.
    async fn get(&self, key: &[u8], options: GetOptions) -> Result<GetResponse, Error> {
        loop {
            let mut kv = self.session.client().kv_client();
            match kv.get(key, Some(options.clone())).await {
                Err(error) if is_transient(&error) => sleep(AGAIN).await,
                answer => return Ok(answer?),
            }
        }
    }

    /// Writes another value, if the place is held still.
    pub(crate) async fn set(&self, value: &[u8]) -> Result<(), Error> {
        let put = PutOptions::new().with_lease(self.session.lease());
        let put = TxnOp::put(self.key.clone(), value, Some(put));
        let txn = Txn::new().when([self.is_held()]).and_then([put]);
        let answer = self.session.client().kv_client().txn(txn).await?;
        if answer.succeeded() {
            Ok(())
        } else {
            Err(Error::NotLeader)
        }
    }

    /// Gives the place up.
    pub(crate) async fn give_up(mut self) -> Result<(), Error> {
        let given_up = give_up(
            self.session.client().clone(),
            self.key.clone(),
            self.revision,
        );
        given_up.await?;
        self.given_up = true;
        Ok(())
    }

    /// What holds in a transaction as long as the place is held.
    pub(crate) fn is_held(&self) -> Compare {
        Compare::create_revision(self.key.clone(), CompareOp::Equal, self.revision)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.given_up || self.session.is_lost() {
            return;
        }
        // Without a runtime nobody renews the lease either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (client, key) = (self.session.client().clone(), std::mem::take(&mut self.key));
        let (revision, session, turn) = (self.revision, self.session.clone(), self.turn.take());
        runtime.spawn(async move {
            let given_up = async {
                while let Err(error) = give_up(client.clone(), key.clone(), revision).await {
                    if !is_transient(&error) {
                        break;
                    }
                    sleep(AGAIN).await;
                }
                Ok(())
            };
            // With the lease goes the key.
            let _ = session.unless_lost(given_up).await;
            drop(turn);
        });
    }
}

/// Deletes the key that was created at `revision`; whatever has been created since when that is 0, since then it is not known.
async fn give_up(client: Client, key: Vec<u8>, revision: i64) -> Result<(), ClientError> {
    let mut kv = client.kv_client();
    if revision == 0 {
        return kv.delete(key, None).await.map(drop);
    }
    let is_own = Compare::create_revision(key.clone(), CompareOp::Equal, revision);
    let txn = Txn::new()
        .when([is_own])
        .and_then([TxnOp::delete(key, None)]);
    kv.txn(txn).await.map(drop)
}

/// Waits until an event of a kind is told, or one may have been missed: whoever waits looks again.
pub(crate) async fn wait_for(
    client: &Client,
    key: &[u8],
    options: WatchOptions,
    kind: EventType,
) -> Result<(), ClientError> {
    let mut watch = client.watch_client().watch(key, Some(options)).await?;
    while let Some(answer) = watch.message().await? {
        let mut events = answer.events().iter();
        // What a compaction has removed cannot be told.
        if answer.canceled() || events.any(|event| event.event_type() == kind) {
            break;
        }
    }
    Ok(())
}

/// The first of a queue.
pub(crate) fn oldest() -> GetOptions {
    of_creation(SortOrder::Ascend)
}

fn newest() -> GetOptions {
    of_creation(SortOrder::Descend)
}

fn of_creation(order: SortOrder) -> GetOptions {
    let all = GetOptions::new().with_prefix();
    all.with_sort(SortTarget::Create, order).with_limit(1)
}
