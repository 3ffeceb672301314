//! The bytes of a transaction's answer: `ResponseOp`s, appended one by one as they come about.
//!
//! Promises the bytes that etcd's own marshalling gives, down to which headers are filled: an answer inside a transaction has a header
//! with the revision alone, that of a nested transaction is present and empty (`server/etcdserver/txn/txn.go`).

use metastore_mvcc::Page;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Tag of `TxnResponse.succeeded`.
const SUCCEEDED: u8 = 0x10;
/// Tag of `TxnResponse.responses`.
const RESPONSES: u8 = 0x1a;
/// Tags of `ResponseOp`.
const RANGE: u8 = 0x0a;
const PUT: u8 = 0x12;
const DELETE_RANGE: u8 = 0x1a;
const TXN: u8 = 0x22;
/// Tag of the header in every response, of the revision in the header.
const HEADER: u8 = 0x0a;
const REVISION: u8 = 0x18;

/// Whether the compares held: first in the body of a transaction's answer.
pub(crate) fn succeeded(out: &mut Vec<u8>, succeeded: bool) {
    if succeeded {
        out.extend_from_slice(&[SUCCEEDED, 1]);
    }
}

/// The answer to a range.
pub(crate) fn range(out: &mut Vec<u8>, page: &Page) {
    let more = if page.more { 2 } else { 0 };
    let len = header_len(page.revision) + page.kvs.len() + more + number_len(page.count);
    open(out, RANGE, len);
    header(out, page.revision);
    out.extend_from_slice(&page.kvs);
    if page.more {
        out.extend_from_slice(&[0x18, 1]);
    }
    number(out, 0x20, page.count);
}

/// The answer to a put; `prev` is the encoded key-value it replaced, where it was asked for.
pub(crate) fn put(out: &mut Vec<u8>, revision: i64, prev: Option<&[u8]>) {
    let prev_len = prev.map_or(0, |prev| {
        1 + encoded_len_varint(prev.len() as u64) + prev.len()
    });
    open(out, PUT, header_len(revision) + prev_len);
    header(out, revision);
    if let Some(prev) = prev {
        out.push(0x12);
        encode_varint(prev.len() as u64, out);
        out.extend_from_slice(prev);
    }
}

/// The answer to a range deletion; `prev_kvs` is field 3 of `DeleteRangeResponse`.
pub(crate) fn delete_range(out: &mut Vec<u8>, revision: i64, deleted: i64, prev_kvs: &[u8]) {
    let len = header_len(revision) + number_len(deleted) + prev_kvs.len();
    open(out, DELETE_RANGE, len);
    header(out, revision);
    number(out, 0x10, deleted);
    out.extend_from_slice(prev_kvs);
}

/// The answer to a nested transaction, from its fields 2 and 3.
pub(crate) fn txn(out: &mut Vec<u8>, body: &[u8]) {
    open(out, TXN, 2 + body.len());
    out.extend_from_slice(&[HEADER, 0]);
    out.extend_from_slice(body);
}

/// The answer to an operation that asks for nothing.
pub(crate) fn nothing(out: &mut Vec<u8>) {
    out.extend_from_slice(&[RESPONSES, 0]);
}

/// Begins a `ResponseOp` whose one field has `len` bytes.
fn open(out: &mut Vec<u8>, tag: u8, len: usize) {
    let inner = 1 + encoded_len_varint(len as u64) + len;
    out.reserve(inner + 11);
    out.push(RESPONSES);
    encode_varint(inner as u64, out);
    out.push(tag);
    encode_varint(len as u64, out);
}

fn header_len(revision: i64) -> usize {
    2 + number_len(revision)
}

fn header(out: &mut Vec<u8>, revision: i64) {
    let len = u8::try_from(number_len(revision)).expect("a tag and a varint have 11 bytes at most");
    out.extend_from_slice(&[HEADER, len]);
    number(out, REVISION, revision);
}

/// A number's length with its one-byte tag; proto3 leaves a zero out.
fn number_len(value: i64) -> usize {
    if value == 0 {
        return 0;
    }
    1 + encoded_len_varint(value.cast_unsigned())
}

fn number(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.push(tag);
        encode_varint(value.cast_unsigned(), out);
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::response_op::Response;
    use metastore_proto::etcdserverpb::{
        DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
    };
    use metastore_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::*;

    fn headed(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..Default::default()
        })
    }

    fn kv(value: Vec<u8>) -> KeyValue {
        KeyValue {
            key: "k".into(),
            value: value.into(),
            version: 1,
            mod_revision: 7,
            ..Default::default()
        }
    }

    #[test]
    fn answers_are_what_prost_encodes_of_the_same_messages() {
        let large = kv(vec![1; 300]);
        let op = |response| ResponseOp {
            response: Some(response),
        };
        let range_answer = RangeResponse {
            header: headed(300),
            kvs: vec![large.clone()],
            more: true,
            count: 12,
        };
        let put_answer = PutResponse {
            header: headed(5),
            prev_kv: Some(large.clone()),
        };
        let delete_answer = DeleteRangeResponse {
            header: headed(1 << 40),
            deleted: 1,
            prev_kvs: vec![large.clone()],
        };
        let mut want = TxnResponse {
            header: None,
            succeeded: true,
            responses: vec![
                op(Response::ResponseRange(range_answer.clone())),
                op(Response::ResponsePut(put_answer)),
                op(Response::ResponsePut(PutResponse {
                    header: headed(5),
                    prev_kv: None,
                })),
                op(Response::ResponseDeleteRange(delete_answer.clone())),
                op(Response::ResponseDeleteRange(DeleteRangeResponse {
                    header: headed(9),
                    ..Default::default()
                })),
                ResponseOp { response: None },
            ],
        };
        let nested = TxnResponse {
            header: Some(ResponseHeader::default()),
            ..want.clone()
        };
        want.responses.push(op(Response::ResponseTxn(nested)));

        let kvs_of = |tag: u8| {
            let mut kvs = vec![tag];
            kvs.extend(large.encode_length_delimited_to_vec());
            kvs
        };
        let mut got = Vec::new();
        succeeded(&mut got, true);
        range(
            &mut got,
            &Page {
                kvs: kvs_of(0x12),
                kv_count: 1,
                more: true,
                count: 12,
                revision: 300,
            },
        );
        put(&mut got, 5, Some(&large.encode_to_vec()));
        put(&mut got, 5, None);
        delete_range(&mut got, 1 << 40, 1, &kvs_of(0x1a));
        delete_range(&mut got, 9, 0, &[]);
        nothing(&mut got);
        let inner = got.clone();
        txn(&mut got, &inner);
        assert_eq!(got, want.encode_to_vec());
    }
}
