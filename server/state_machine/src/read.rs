//! A transaction that only reads: answered from the store, never put into the log.
//!
//! Promises the answer that apply would give, with everything read at one revision; blocks no writer.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::ControlFlow;

use bytes::Buf;
use metastore_mvcc as mvcc;
use metastore_mvcc::{Query, Store};
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
use metastore_proto::mvccpb::KeyValue;
use prost::Message;

use crate::apply::{Found, Keys, all_hold, check_revision, query_of};
use crate::fault::Halt;
use crate::{Applied, Fault, Outcome, Response, answer};

/// Bytes of key-values that a compare over a range holds at once.
const PIECE: usize = 1 << 20;
/// How often a read starts over when a compaction overtakes it.
const ATTEMPTS: usize = 8;

/// Whether a transaction can be answered by [`read_txn`]: ranges only, none of them nested (etcd: `IsTxnReadonly`).
pub fn is_read_only(request: &TxnRequest) -> bool {
    let reads =
        |operation: &RequestOp| matches!(operation.request, Some(Operation::RequestRange(_)));
    request.success.iter().all(reads) && request.failure.iter().all(reads)
}

/// Answers a transaction that [`is_read_only`]; operations that are not ranges are left out.
///
/// # Errors
/// The store failed.
pub fn read_txn(store: &Store, request: &TxnRequest) -> Result<Outcome, Fault> {
    let mut attempts = 0..ATTEMPTS;
    loop {
        let pinned = Pinned {
            store,
            revision: store.revision(),
            ranges: Cell::new(0),
        };
        let overtaken = |pinned: &Pinned<'_>| pinned.revision < store.compact_revision();
        match pinned.read(request) {
            Ok(applied) => {
                if pinned.ranges.get() > 1 {
                    store.note_transaction();
                }
                return Ok(Ok(applied));
            }
            Err(Halt::Refused(_)) if overtaken(&pinned) && attempts.next().is_some() => {}
            Err(Halt::Refused(error)) => return Ok(Err(error)),
            Err(Halt::Fault(fault)) => return Err(fault),
        }
    }
}

/// The store at one revision.
struct Pinned<'a> {
    store: &'a Store,
    revision: i64,
    /// Those asked for, of compares too.
    ranges: Cell<usize>,
}

impl Pinned<'_> {
    fn read(&self, request: &TxnRequest) -> Result<Applied, Halt> {
        let succeeded = all_hold(self, &request.compare)?;
        let operations = if succeeded {
            &request.success
        } else {
            &request.failure
        };
        let ranges = operations
            .iter()
            .filter_map(|operation| match &operation.request {
                Some(Operation::RequestRange(range)) => Some(range),
                _ => None,
            });
        let compacted = self.store.compact_revision();
        for range in ranges.clone() {
            check_revision(range, self.revision, compacted)?;
        }
        let mut body = Vec::new();
        answer::succeeded(&mut body, succeeded);
        for range in ranges {
            let mut query = query_of(range);
            if query.revision <= 0 {
                query.revision = self.revision;
            }
            self.ranges.update(|ranges| ranges + 1);
            let mut page = self.store.range(&query)?;
            page.revision = self.revision;
            answer::range(&mut body, &page);
        }
        Ok(Applied {
            revision: self.revision,
            response: Response::Txn { succeeded, body },
        })
    }
}

impl Keys for Pinned<'_> {
    fn each(
        &self,
        compare: &Compare,
        with_value: bool,
        visit: &mut dyn FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), mvcc::Error> {
        self.ranges.update(|ranges| ranges + 1);
        let mut query = Query::range(compare.key.clone(), compare.range_end.clone());
        query.revision = self.revision;
        let mut walk = self.store.walk(query)?;
        while let Some(page) = walk.next(PIECE)? {
            let mut rest = page.kvs.as_slice();
            while rest.has_remaining() {
                let kv = next_kv(&mut rest)?;
                let found = Found {
                    version: kv.version,
                    create_revision: kv.create_revision,
                    mod_revision: kv.mod_revision,
                    lease: kv.lease,
                    value: match with_value {
                        true => Cow::Borrowed(&kv.value),
                        false => Cow::Borrowed(&[]),
                    },
                };
                if visit(&found).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Takes one key-value off a page: its one-byte tag, its length, its bytes.
fn next_kv(rest: &mut &[u8]) -> Result<KeyValue, mvcc::Error> {
    rest.advance(1);
    KeyValue::decode_length_delimited(rest)
        .map_err(|error| mvcc::Error::Corrupt(format!("page of key-values: {error}")))
}
