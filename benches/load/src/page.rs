//! Pages of a list, read over and over.
//!
//! The client counts the keys of an answer as it goes by and keeps nothing of it: what it spends on a page is spent on the
//! machine that the servers share with it. Must not know which server answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use metastore_proto::etcdserverpb::RangeRequest;
use prost::Message;
use tokio::net::TcpStream;

use crate::client::{gather, key};
use crate::elements::Elements;
use crate::sample::Sample;

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

/// The number of `RangeResponse.kvs`.
const KVS: u64 = 2;

type Connection = http2::SendRequest<Full<Bytes>>;

/// Reads the page again and again for a time; says how often too.
pub(crate) async fn read(url: &str, time: Duration, page: Page) -> Result<(Sample, u64)> {
    let request = RangeRequest {
        key: key(page.skip * page.limit).into(),
        range_end: "/registry/pods0".into(),
        limit: page.limit as i64,
        revision: page.revision,
        ..Default::default()
    };
    let request = message(&request);
    let uri = format!("{url}/etcdserverpb.KV/Range");
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(url).await?);
    }
    let count = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = connections[client % CONNECTIONS].clone();
        let (count, uri, request) = (count.clone(), uri.clone(), request.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < time {
                let asked = Instant::now();
                let keys = range(&mut connection, &uri, request.clone()).await?;
                ensure!(keys == page.limit, "a page of {keys} keys");
                latencies.push(asked.elapsed().as_secs_f64() * 1e3);
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(latencies)
        });
    }
    let sample = gather(tasks, begin).await?;
    Ok((sample, count.load(Ordering::Relaxed)))
}

/// A message with its gRPC prefix.
fn message(request: &RangeRequest) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(request.encoded_len() as u32);
    bytes.put(&request.encode_to_vec()[..]);
    bytes.freeze()
}

/// A connection whose windows grow with what is read, as those of Go's client do.
async fn connect(url: &str) -> Result<Connection> {
    let address = url.strip_prefix("http://").context("a plain address")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .adaptive_window(true)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(requests)
}

/// How many keys are in the answer.
async fn range(connection: &mut Connection, uri: &str, request: Bytes) -> Result<u64> {
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(request))?;
    connection.ready().await?;
    let mut answer = connection.send_request(request).await?.into_body();
    let mut elements = Elements::of(KVS);
    while let Some(frame) = answer.frame().await {
        let frame = frame?;
        if let Some(bytes) = frame.data_ref() {
            elements.read(bytes)?;
        } else if let Some(trailers) = frame.trailers_ref() {
            let status = trailers.get("grpc-status");
            ensure!(status.is_some_and(|status| status == "0"), "{trailers:?}");
        }
    }
    elements.end()
}
