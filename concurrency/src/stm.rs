//! Software transactional memory: reads and writes of many keys that take place at once, or again.
//!
//! The function is run, its reads are noted and its writes kept back; then all is committed by one transaction that
//! fails when something it read has changed meanwhile, and the function is run again. Follows Go's
//! `client/v3/concurrency/stm.go`. Must not know what the keys mean.

use std::collections::BTreeMap;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

use futures::future::BoxFuture;

use crate::Error;

/// What a transaction may see, and what makes it run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// As [`Isolation::Serializable`], and what is written must not have changed either since the first read.
    #[default]
    SerializableSnapshot,
    /// All reads are of one revision; what was read must not have changed.
    Serializable,
    /// What was read is read the same again; it must not have changed.
    RepeatableReads,
    /// Each read gives what is committed then; nothing makes the transaction run again.
    ReadCommitted,
}

/// A transaction while its function runs.
pub struct Stm {
    client: Client,
    isolation: Isolation,
    /// What was found of each key that was read: its value, if it was there.
    reads: BTreeMap<Vec<u8>, Option<KeyValue>>,
    /// What the run before has found out about keys at `revision`.
    known: BTreeMap<Vec<u8>, Option<KeyValue>>,
    writes: BTreeMap<Vec<u8>, Write>,
    /// The revision of the first read.
    revision: i64,
}

#[derive(Debug, Clone)]
enum Write {
    Put(Vec<u8>, Option<PutOptions>),
    Delete,
}

/// Runs `apply` until its reads and writes have taken place at once; what it gave then, and the answer of the transaction.
///
/// `apply` may run many times and must do nothing else that cannot be done again. An error of it ends everything.
///
/// # Errors
/// Those of `apply`, and of asking the cluster.
///
/// ```no_run
/// use etcd_client::Client;
/// use metastore_concurrency::{Isolation, transact};
///
/// # async fn example(client: &Client) -> Result<(), metastore_concurrency::Error> {
/// let visit = transact(client, Isolation::default(), |stm| {
///     Box::pin(async move {
///         let count = stm.get("visits").await?.map_or(0, |count| count.len());
///         stm.put("visits", vec![b'|'; count + 1]);
///         Ok(count + 1)
///     })
/// });
/// let (count, _) = visit.await?;
/// # let _ = count;
/// # Ok(())
/// # }
/// ```
pub async fn transact<T>(
    client: &Client,
    isolation: Isolation,
    mut apply: impl for<'s> FnMut(&'s mut Stm) -> BoxFuture<'s, Result<T, Error>>,
) -> Result<(T, TxnResponse), Error> {
    let (mut known, mut revision) = (BTreeMap::new(), 0);
    loop {
        let mut stm = Stm {
            client: client.clone(),
            isolation,
            reads: BTreeMap::new(),
            known,
            writes: BTreeMap::new(),
            revision,
        };
        let value = apply(&mut stm).await?;
        match stm.commit().await? {
            Ok(answer) => return Ok((value, answer)),
            Err(now) => (known, revision) = now,
        }
    }
}

impl std::fmt::Debug for Stm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("Stm");
        let text = text.field("reads", &self.reads.len());
        text.field("writes", &self.writes.len())
            .finish_non_exhaustive()
    }
}

/// What keys were found to be, and at which revision.
type Found = (BTreeMap<Vec<u8>, Option<KeyValue>>, i64);

impl Stm {
    /// The value of a key, as this transaction has written it, or as the cluster has it; none when there is no such key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn get(&mut self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, Error> {
        let key = key.into();
        match self.writes.get(&key) {
            Some(Write::Put(value, _)) => return Ok(Some(value.clone())),
            Some(Write::Delete) => return Ok(None),
            None => {}
        }
        let found = self.read(key).await?;
        Ok(found.map(|found| found.value().to_vec()))
    }

    /// The revision at which a key was written last, not by this transaction; 0 when there is no such key.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn revision(&mut self, key: impl Into<Vec<u8>>) -> Result<i64, Error> {
        let found = self.read(key.into()).await?;
        Ok(found.map_or(0, |found| found.mod_revision()))
    }

    /// Writes a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes
            .insert(key.into(), Write::Put(value.into(), None));
    }

    /// Writes a key with a lease, or whatever else a put can have.
    pub fn put_with(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        options: PutOptions,
    ) {
        let put = Write::Put(value.into(), Some(options));
        self.writes.insert(key.into(), put);
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), Write::Delete);
    }

    async fn read(&mut self, key: Vec<u8>) -> Result<Option<KeyValue>, Error> {
        if self.isolation != Isolation::ReadCommitted {
            if let Some(found) = self.reads.get(&key) {
                return Ok(found.clone());
            }
            if let Some(found) = self.known.remove(&key) {
                self.reads.insert(key, found.clone());
                return Ok(found);
            }
        }
        let one_revision = matches!(
            self.isolation,
            Isolation::Serializable | Isolation::SerializableSnapshot
        );
        let mut options = GetOptions::new();
        if one_revision && self.revision != 0 {
            options = options.with_revision(self.revision);
        }
        let answer = self
            .client
            .kv_client()
            .get(key.clone(), Some(options))
            .await?;
        if self.revision == 0 {
            self.revision = answer.header().map_or(0, |header| header.revision());
        }
        let found = answer.kvs().first().cloned();
        self.reads.insert(key, found.clone());
        Ok(found)
    }

    /// Commits, or says what the keys read are now.
    async fn commit(self) -> Result<Result<TxnResponse, Found>, Error> {
        let reads: Vec<Vec<u8>> = self.reads.keys().cloned().collect();
        let again = reads.iter().map(|key| TxnOp::get(key.clone(), None));
        let again: Vec<_> = again.collect();
        let conditions = self.conditions();
        let writes = self.writes.into_iter().map(|(key, write)| match write {
            Write::Put(value, options) => TxnOp::put(key, value, options),
            Write::Delete => TxnOp::delete(key, None),
        });
        let txn = Txn::new()
            .when(conditions)
            .and_then(writes.collect::<Vec<_>>())
            .or_else(again);
        let answer = self.client.kv_client().txn(txn).await?;
        if answer.succeeded() {
            return Ok(Ok(answer));
        }
        let revision = answer.header().map_or(0, |header| header.revision());
        let now = answer
            .op_responses()
            .into_iter()
            .map(|answer| match answer {
                TxnOpResponse::Get(found) => first(&found),
                _ => None,
            });
        Ok(Err((reads.into_iter().zip(now).collect(), revision)))
    }

    fn conditions(&self) -> Vec<Compare> {
        let unchanged = self.reads.iter().map(|(key, found)| {
            let revision = found.as_ref().map_or(0, KeyValue::mod_revision);
            Compare::mod_revision(key.clone(), CompareOp::Equal, revision)
        });
        let unwritten = self
            .writes
            .keys()
            .map(|key| Compare::mod_revision(key.clone(), CompareOp::Less, self.revision + 1));
        match self.isolation {
            Isolation::ReadCommitted => Vec::new(),
            // Without a read there is no moment since which nothing may have been written.
            Isolation::SerializableSnapshot if self.revision != 0 => {
                unchanged.chain(unwritten).collect()
            }
            _ => unchanged.collect(),
        }
    }
}

fn first(answer: &GetResponse) -> Option<KeyValue> {
    answer.kvs().first().cloned()
}
