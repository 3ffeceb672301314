//! Pages of a list, read over and over.
//!
//! The client leaves the answers as bytes, and counts the keys in them: what it spends on a page is spent on the machine
//! that the servers share with it. Must not know which server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use metastore_harness::BytesCodec;
use metastore_proto::etcdserverpb::RangeRequest;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::client::{gather, key};
use crate::sample::Sample;

/// Room for a page, so that the client's buffer need not grow for each.
const ANSWER_BYTES: usize = 512 << 10;

/// Which page of the list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// How many pages come before it.
    pub(crate) skip: u64,
    /// Keys on a page.
    pub(crate) limit: u64,
    /// The revision that is read; 0 is the newest.
    pub(crate) revision: i64,
}

/// As many as of the other reads.
const CLIENTS: usize = 100;
const CONNECTIONS: usize = 10;

/// Reads the page `total` times.
pub(crate) async fn read(url: &str, total: u64, page: Page) -> Result<Sample> {
    let request = RangeRequest {
        key: key(page.skip * page.limit).into(),
        range_end: "/registry/pods0".into(),
        limit: page.limit as i64,
        revision: page.revision,
        ..Default::default()
    };
    let request = Bytes::from(request.encode_to_vec());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(url).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = connections[client % CONNECTIONS].clone();
        let (next, request) = (next.clone(), request.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < total {
                let asked = Instant::now();
                let answer = range(&mut connection, request.clone()).await?;
                assert_eq!(keys(answer)?, page.limit, "a whole page");
                latencies.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            Ok(latencies)
        });
    }
    gather(tasks, begin).await
}

/// A connection whose windows grow with what is read, as those of Go's client do.
async fn connect(url: &str) -> Result<Grpc<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .http2_adaptive_window(true);
    Ok(Grpc::new(endpoint.connect().await?).max_decoding_message_size(usize::MAX))
}

async fn range(connection: &mut Grpc<Channel>, request: Bytes) -> Result<Bytes, Status> {
    let ready = connection.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let codec = BytesCodec { room: ANSWER_BYTES };
    let answer = connection.unary(Request::new(request), path, codec);
    Ok(answer.await?.into_inner())
}

/// How many keys a `RangeResponse` holds: its fields of number 2.
fn keys(mut answer: Bytes) -> Result<u64, Status> {
    const KVS: u32 = 2;
    let mut count = 0;
    let bad = |error: prost::DecodeError| Status::internal(error.to_string());
    while !answer.is_empty() {
        let (field, wire_type) = decode_key(&mut answer).map_err(bad)?;
        if wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut answer).map_err(bad)? as usize;
            if length > answer.len() {
                return Err(Status::internal("a response that is cut off"));
            }
            let _ = answer.split_to(length);
        } else {
            skip_field(wire_type, field, &mut answer, DecodeContext::default()).map_err(bad)?;
        }
        count += u64::from(field == KVS);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::RangeResponse;
    use metastore_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn the_keys_of_an_answer_are_counted_without_reading_them() {
        let answer = RangeResponse {
            header: Some(metastore_proto::etcdserverpb::ResponseHeader {
                revision: 7,
                ..Default::default()
            }),
            kvs: vec![KeyValue::default(); 3],
            more: true,
            count: 9,
        };
        let bytes = Bytes::from(answer.encode_to_vec());
        assert_eq!(keys(bytes.clone()).expect("whole"), 3);
        assert!(keys(bytes.slice(..3)).is_err());
    }
}
