//! The answers of a real etcd to a recorded conversation, compared byte by byte.

use crate::member::Member;
use bytes::Bytes;
use metastore_proto::commandpb::command::Request;
use metastore_proto::etcdserverpb::{
    AlarmResponse, HashKvResponse, LeaseGrantResponse, TxnRequest,
};
use metastore_state_machine::{Error, Outcome, Response, is_read_only, read_txn};
use prost::Message;

const CONVERSATION: &str = include_str!("etcd.txt");

#[test]
fn every_answer_is_etcds() {
    let mut member = Member::new();
    let mut answered = 0;
    for (at, line) in CONVERSATION.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let (method, rest) = line.split_once(' ').unwrap();
        let (request, expected) = rest.split_once(' ').unwrap();
        let got = answer(&mut member, method, &bytes(request));
        assert_eq!(got, expected, "line {}: {method} {request}", at + 1);
        answered += 1;
    }
    assert!(answered > 400);
}

fn answer(member: &mut Member, method: &str, request: &[u8]) -> String {
    let outcome = match method {
        "Put" => member.apply(Request::Put(message(request))),
        "DeleteRange" => member.apply(Request::DeleteRange(message(request))),
        "Txn" => return txn(member, message(request)),
        "Compact" => member.apply(Request::Compaction(message(request))),
        "LeaseGrant" => member.apply(Request::LeaseGrant(message(request))),
        "LeaseRevoke" => member.apply(Request::LeaseRevoke(message(request))),
        "Alarm" => member.apply(Request::Alarm(message(request))),
        "HashKV" => return hash(member),
        other => panic!("unknown method {other}"),
    };
    line(&outcome)
}

/// etcd answers a transaction that only reads without its log; while no alarm is raised both ways must agree.
fn txn(member: &mut Member, request: TxnRequest) -> String {
    if !is_read_only(&request) {
        return line(&member.apply(Request::Txn(request)));
    }
    let read = line(&read_txn(member.store(), &request).unwrap());
    let applied = member.apply(Request::Txn(request));
    if !matches!(applied, Err(Error::NoSpace | Error::Corrupt)) {
        assert_eq!(read, line(&applied));
    }
    read
}

fn hash(member: &Member) -> String {
    let hash = member.hash(0);
    let response = HashKvResponse {
        header: None,
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: hash.hash_revision,
    };
    format!(
        "{} {}",
        hash.current_revision,
        hex(&response.encode_to_vec())
    )
}

fn line(outcome: &Outcome) -> String {
    let applied = match outcome {
        Ok(applied) => applied,
        Err(error) => return format!("! {}", text(error)),
    };
    let body = match &applied.response {
        Response::Put { prev: None } => Vec::new(),
        Response::Put { prev: Some(kv) } => field(2, kv),
        Response::DeleteRange { deleted, prev_kvs } => {
            let mut body = Vec::new();
            if *deleted != 0 {
                prost::encoding::int64::encode(2, deleted, &mut body);
            }
            body.extend(prev_kvs);
            body
        }
        Response::Txn { body, .. } => body.clone(),
        Response::LeaseGrant { id, ttl } => LeaseGrantResponse {
            id: *id,
            ttl: *ttl,
            ..Default::default()
        }
        .encode_to_vec(),
        Response::Alarm { alarms } => AlarmResponse {
            header: None,
            alarms: alarms.clone(),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    };
    format!("{} {}", applied.revision, hex(&body))
}

fn text(error: &Error) -> &'static str {
    match error {
        Error::Compacted => "mvcc: required revision has been compacted",
        Error::FutureRevision => "mvcc: required revision is a future revision",
        Error::LeaseNotFound => "requested lease not found",
        Error::LeaseExists => "lease already exists",
        Error::LeaseTtlTooLarge => "too large lease TTL",
        Error::KeyNotFound => "key not found",
        Error::NoSpace => "mvcc: database space exceeded",
        Error::Corrupt => "corrupt cluster",
        other => panic!("etcd never says {other}"),
    }
}

fn message<M: Message + Default>(request: &[u8]) -> M {
    M::decode(Bytes::copy_from_slice(request)).unwrap()
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut out);
    out
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim_matches('-').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
