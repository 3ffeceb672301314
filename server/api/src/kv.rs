//! The KV service (`server/etcdserver/api/v3rpc/key.go`, `server/etcdserver/v3_server.go`).
//!
//! Promises that a put or a range of one key costs one decoding, one question to the member and one
//! buffer for the answer. A large answer is gathered in bounded steps, between which others get their turn.

use std::fmt::Display;
use std::time::Instant;

use bytes::Bytes;
use metastore_mvcc::{Order, Page, Query, Target};
use metastore_proto::commandpb::Command;
use metastore_proto::commandpb::command::Request;
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
use metastore_state_machine::{Applied, Response, is_read_only, read_txn};

use crate::check;
use crate::door::Door;
use crate::encoded::{Encoded, Writer};
use crate::grpc::{Inbox, Outbox, decode};
use crate::metrics::RequestKind;
use crate::slow::{self, RangeShown, TxnShown};
use crate::status::{self, Refusal};

/// A page of at most so many keys is read in one go.
const SMALL_PAGE: i64 = 1000;

/// Bytes that are read at a time for a large answer.
const STEP_BYTES: usize = 256 * 1024;

/// Bytes of the first part of a streamed range: small, so that the client soon has something to do.
const FIRST_PART_BYTES: usize = 2 * 1024;

/// Bytes of key-values in one part of a streamed range; etcd aims at the same (`MaxRequestBytes`).
const PART_BYTES: usize = 1024 * 1024;

/// Tags of `RangeResponse`, `PutResponse`, `DeleteRangeResponse` beside the header.
const RANGE_MORE: u32 = 3;
const RANGE_COUNT: u32 = 4;
const PUT_PREV: u32 = 2;
const DELETED: u32 = 2;

impl Door {
    /// KV.Range.
    pub(crate) async fn range(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let request: RangeRequest = decode(message)?;
        if !request.serializable && self.is_learner() {
            return Err(status::NOT_SUPPORTED_FOR_LEARNER);
        }
        check::range(&request)?;
        let shown = RangeShown {
            key: request.key.clone(),
            end: request.range_end.clone(),
        };
        let work = self.read_range(request);
        self.timed_read(RequestKind::Range, "read-only range ", shown, work)
            .await
    }

    async fn read_range(&self, request: RangeRequest) -> Result<Encoded, Refusal> {
        if !request.serializable {
            self.node.read_barrier().await?;
        }
        let since = Instant::now();
        let result = self.found(query(request)).await;
        self.metrics.timing.range(result.is_ok(), since);
        result
    }

    async fn found(&self, query: Query) -> Result<Encoded, Refusal> {
        if is_small(&query) {
            return Ok(self.range_answer(self.node.store().range(&query)?));
        }
        if has_own_order(&query) {
            // Sorting may take long and cannot be done in steps.
            let store = self.node.store().clone();
            let page = tokio::task::spawn_blocking(move || store.range(&query)).await;
            return Ok(self.range_answer(page.map_err(trouble)??));
        }
        self.walk_range(query).await
    }

    fn range_answer(&self, page: Page) -> Encoded {
        let header = self.node.header(page.revision);
        let writer = Writer::new(&header)
            .flag(RANGE_MORE, page.more)
            .int(RANGE_COUNT, page.count);
        writer.finish_with(page.kvs)
    }

    async fn walk_range(&self, query: Query) -> Result<Encoded, Refusal> {
        let mut walk = self.node.store().walk(query)?;
        let mut pieces = Vec::new();
        let mut last = Page::default();
        while let Some(mut page) = walk.next(STEP_BYTES)? {
            pieces.push(Bytes::from(std::mem::take(&mut page.kvs)));
            last = page;
            tokio::task::yield_now().await;
        }
        let header = self.node.header(last.revision);
        let writer = Writer::new(&header)
            .flag(RANGE_MORE, last.more)
            .int(RANGE_COUNT, last.count);
        Ok(writer.finish_with_pieces(pieces))
    }

    /// KV.RangeStream: parts of bounded size at one revision.
    pub(crate) async fn range_stream(
        &self,
        inbox: Inbox,
        mut outbox: Outbox,
    ) -> Result<(), Refusal> {
        let request: RangeRequest = decode(inbox.only().await?)?;
        check::range_stream(&request)?;
        if !request.serializable {
            self.node.read_barrier().await?;
        }
        let query = query(request);
        if query.count_only {
            let page = self.node.store().range(&query)?;
            outbox.send(self.last_part(&page)).await;
            return Ok(());
        }
        let mut walk = self.node.store().walk(query)?;
        let mut part = walk.next(FIRST_PART_BYTES)?;
        while let Some(page) = part {
            part = walk.next(PART_BYTES)?;
            let encoded = match part {
                Some(_) => Encoded::nested(Writer::bare().finish_with(page.kvs)),
                None => self.last_part(&page),
            };
            outbox.send(encoded).await;
        }
        Ok(())
    }

    /// The part that carries what stands beside the keys.
    fn last_part(&self, page: &Page) -> Encoded {
        let header = self.node.header(page.revision);
        let writer = Writer::new(&header)
            .flag(RANGE_MORE, page.more)
            .int(RANGE_COUNT, page.count);
        Encoded::nested(writer.finish_with(page.kvs.clone()))
    }

    /// KV.Put.
    pub(crate) async fn put(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request = Request::Put(decode(message)?);
        self.node.check_quota(&request).await?;
        if let Request::Put(put) = &request {
            check::put(put)?;
        }
        let applied = self.propose(RequestKind::Put, request, size).await?;
        let header = self.node.header(applied.revision);
        match applied.response {
            Response::Put { prev } => Ok(Writer::new(&header)
                .embedded(PUT_PREV, prev.as_deref())
                .finish()),
            other => Err(unexpected(&other)),
        }
    }

    /// KV.DeleteRange.
    pub(crate) async fn delete_range(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request = decode(message)?;
        check::delete_range(&request)?;
        let request = Request::DeleteRange(request);
        let applied = self
            .propose(RequestKind::DeleteRange, request, size)
            .await?;
        let header = self.node.header(applied.revision);
        match applied.response {
            Response::DeleteRange { deleted, prev_kvs } => Ok(Writer::new(&header)
                .int(DELETED, deleted)
                .finish_with(prev_kvs)),
            other => Err(unexpected(&other)),
        }
    }

    /// KV.Txn. One that only reads never enters the log.
    pub(crate) async fn txn(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request = Request::Txn(decode(message)?);
        self.node.check_quota(&request).await?;
        let Request::Txn(txn) = &request else {
            return Err(unexpected(&request));
        };
        check::txn(txn, self.node.limits().max_txn_ops)?;
        let applied = if is_read_only(txn) {
            let (shown, work) = (TxnShown::of(txn), self.read_txn(txn));
            self.timed_read(RequestKind::ReadonlyTxn, "read-only txn ", shown, work)
                .await?
        } else {
            self.propose(RequestKind::Txn, request, size).await?
        };
        let header = self.node.header(applied.revision);
        match applied.response {
            Response::Txn { body, .. } => Ok(Writer::new(&header).finish_with(body)),
            other => Err(unexpected(&other)),
        }
    }

    async fn read_txn(&self, txn: &TxnRequest) -> Result<Applied, Refusal> {
        if !is_serializable(txn) {
            self.node.read_barrier().await?;
        }
        let outcome = if is_small_txn(txn) {
            read_txn(self.node.store(), txn)
        } else {
            let (store, txn) = (self.node.store().clone(), txn.clone());
            let outcome = tokio::task::spawn_blocking(move || read_txn(&store, &txn)).await;
            outcome.map_err(trouble)?
        };
        Ok(outcome.map_err(trouble)??)
    }

    /// KV.Compact. With `physical` the answer comes when the space has been given back.
    pub(crate) async fn compact(&self, message: Bytes) -> Result<Encoded, Refusal> {
        let size = message.len();
        let request: metastore_proto::etcdserverpb::CompactionRequest = decode(message)?;
        let physical = request.physical;
        let applied = self
            .propose(RequestKind::Compaction, Request::Compaction(request), size)
            .await?;
        let Response::Compaction { done } = applied.response else {
            return Err(unexpected(&applied.response));
        };
        if physical {
            let (sender, finished) = tokio::sync::oneshot::channel();
            done.when_done(Box::new(move || {
                // Whoever asked may have gone away.
                let _ = sender.send(());
            }));
            finished.await.map_err(|_| status::STOPPED)?;
        }
        Ok(Writer::new(&self.node.header(self.node.store().revision())).finish())
    }

    /// Puts a request of `size` encoded bytes into the log and waits for what comes of it.
    pub(crate) async fn propose(
        &self,
        kind: RequestKind,
        request: Request,
        size: usize,
    ) -> Result<Applied, Refusal> {
        check::proposal_size(size, self.node.limits().max_request_bytes)?;
        let command = Command {
            caller: None,
            request: Some(request),
        };
        let since = Instant::now();
        let result = self.node.propose(command).await;
        self.metrics.timing.request(kind, result.is_ok(), since);
        Ok(result?)
    }

    /// Counts a read, and logs it where it takes long: then as `shown`.
    async fn timed_read<T>(
        &self,
        kind: RequestKind,
        prefix: &str,
        shown: impl Display,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let since = Instant::now();
        let result = work.await;
        let took = self.metrics.timing.request(kind, result.is_ok(), since);
        if took > self.options.slow_read {
            self.node.measures().note_slow_read();
            slow::read(prefix, &shown, took, self.options.slow_read);
        }
        result
    }
}

/// Something that a member in good health never answers.
#[cold]
fn trouble(error: impl std::fmt::Display) -> Refusal {
    Refusal::unknown(format_args!("etcdserver: {error}"))
}

/// The member answered another question than it was asked; only a mistake in this program can do that.
#[cold]
pub(crate) fn unexpected(answer: &dyn std::fmt::Debug) -> Refusal {
    tracing::error!(?answer, "a command was answered in the form of another");
    Refusal::unknown("etcdserver: unexpected answer")
}

/// etcd's request as the store takes it. The sort has been checked.
fn query(request: RangeRequest) -> Query {
    let order = match request.sort_order() {
        SortOrder::None => Order::None,
        SortOrder::Ascend => Order::Ascend,
        SortOrder::Descend => Order::Descend,
    };
    let target = match request.sort_target() {
        SortTarget::Key => Target::Key,
        SortTarget::Version => Target::Version,
        SortTarget::Create => Target::Create,
        SortTarget::Mod => Target::Mod,
        SortTarget::Value => Target::Value,
    };
    Query {
        key: request.key,
        end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        order,
        target,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    }
}

/// Whether an answer is sure to be found soon.
fn is_small(query: &Query) -> bool {
    let limited = (1..=SMALL_PAGE).contains(&query.limit) && !has_own_order(query);
    query.end.is_empty() || query.count_only || limited
}

/// Whether a transaction that only reads looks at a few keys for sure.
fn is_small_txn(txn: &TxnRequest) -> bool {
    let one_key = |operation: &RequestOp| matches!(&operation.request, Some(Operation::RequestRange(range)) if range.range_end.is_empty());
    let compares = txn
        .compare
        .iter()
        .all(|compare| compare.range_end.is_empty());
    compares && txn.success.iter().chain(&txn.failure).all(one_key)
}

/// Whether the keys have to be looked at all together before the first is known.
fn has_own_order(query: &Query) -> bool {
    let bounds = [
        query.min_mod_revision,
        query.max_mod_revision,
        query.min_create_revision,
        query.max_create_revision,
    ];
    query.target != Target::Key || bounds.iter().any(|&bound| bound != 0)
}

/// Whether every range of a transaction may be answered without asking the leader (`IsTxnSerializable`).
fn is_serializable(txn: &TxnRequest) -> bool {
    let serializable = |operation: &RequestOp| matches!(&operation.request, Some(Operation::RequestRange(range)) if range.serializable);
    txn.success.iter().chain(&txn.failure).all(serializable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(end: &'static str, limit: i64) -> Query {
        Query {
            key: Bytes::from_static(b"a"),
            end: Bytes::from(end),
            limit,
            ..Query::default()
        }
    }

    #[test]
    fn what_may_be_long_is_not_read_in_one_go() {
        assert!(is_small(&over("", 0)));
        assert!(is_small(&over("b", 1000)));
        assert!(!is_small(&over("b", 0)));
        assert!(!is_small(&over("b", 1001)));
        let count = Query {
            count_only: true,
            ..over("b", 0)
        };
        assert!(is_small(&count));
        let backwards = Query {
            order: Order::Descend,
            ..over("b", 1)
        };
        assert!(is_small(&backwards));
        let newest = Query {
            target: Target::Mod,
            ..backwards
        };
        assert!(
            !is_small(&newest),
            "the newest key is found only after all are looked at"
        );
    }

    #[test]
    fn a_transaction_is_serializable_when_all_it_reads_is() {
        let range = |serializable| RequestOp {
            request: Some(Operation::RequestRange(RangeRequest {
                serializable,
                ..Default::default()
            })),
        };
        let txn = |success, failure| TxnRequest {
            success,
            failure,
            ..Default::default()
        };
        assert!(is_serializable(&txn(vec![], vec![])));
        assert!(is_serializable(&txn(vec![range(true)], vec![range(true)])));
        assert!(!is_serializable(&txn(
            vec![range(true)],
            vec![range(false)]
        )));
    }
}
