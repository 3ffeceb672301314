//! Rubbish on the peer port after the door has been passed: whoever names the right members may send frames. They must
//! be told what is wrong, or lose the connection soon, and the members live on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{get, put};
use metastore_harness::{Clients, Cluster, Engine, Spec, Target, connect};
use metastore_proto::peerpb::peer_client::PeerClient;
use metastore_proto::peerpb::refusal::Reason;
use metastore_proto::peerpb::{Refusal, SnapshotChunk};
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request};

/// How soon a connection ends on which nothing comes any more: `--raft-read-timeout` and more than that again.
const CLOSED_WITHIN: Duration = Duration::from_secs(12);
/// Length (u32), kind (u8), number (u64).
const HEAD_BYTES: usize = 13;
const ANSWER: u8 = 8;
const REFUSAL: u8 = 9;

struct Port {
    address: String,
    cluster: u64,
    from: u64,
    to: u64,
}

impl Port {
    /// The first member's, as the second one sees it.
    fn of(cluster: &Cluster) -> Self {
        let [first, second, ..] = cluster.members() else {
            unreachable!("there are three")
        };
        Self {
            address: first.peer_url().trim_start_matches("http://").to_owned(),
            cluster: cluster.id(),
            from: second.id(),
            to: first.id(),
        }
    }

    /// Asks for a connection; the head of the answer.
    async fn ask(&self, headers: &str) -> Result<(TcpStream, String)> {
        let mut stream = TcpStream::connect(&self.address).await?;
        let request = format!("GET /raft/connection HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        Ok((stream, String::from_utf8(head)?))
    }

    /// A connection as a member has it.
    async fn enter(&self) -> Result<TcpStream> {
        let (cluster, from, to) = (self.cluster, self.from, self.to);
        let (stream, head) = self.ask(&headers(cluster, from, to)).await?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(stream)
    }
}

fn headers(cluster: u64, from: u64, to: u64) -> String {
    format!(
        "Connection: upgrade\r\nUpgrade: metastore-peer/1\r\nx-metastore-cluster: {cluster}\r\n\
         x-metastore-from: {from}\r\nx-metastore-to: {to}\r\n"
    )
}

fn frame(length: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let number = 1_u64.to_le_bytes();
    [&length.to_le_bytes()[..], &[kind], &number, body].concat()
}

async fn three() -> Result<Cluster> {
    Cluster::start(&Spec::new(Target::MetaStore(Engine::Memory), 3)).await
}

/// All members run, serve, and have not panicked.
async fn live(mut cluster: Cluster) -> Result<()> {
    for index in 0..3 {
        let url = cluster.members()[index].client_url().to_owned();
        let mut clients = Clients::new(connect(&url).await?);
        clients.kv.put(put("alive", "yes")).await?;
        let read = clients.kv.range(get("alive")).await?.into_inner();
        ensure!(read.count == 1);
        let lines = cluster.member(index).process()?.lines();
        let panicked = lines.iter().find(|line| line.contains("panicked"));
        ensure!(panicked.is_none(), "member {index}: {panicked:?}");
    }
    Ok(())
}

/// Reads until the member closes, which it has to do soon.
async fn rest(mut stream: TcpStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    // A connection that is reset is closed as well.
    let _ = tokio::time::timeout(CLOSED_WITHIN, reading)
        .await
        .context("the connection is open still")?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_who_they_are_is_told_so() -> Result<()> {
    let cluster = three().await?;
    let port = Port::of(&cluster);
    let (id, from, to) = (port.cluster, port.from, port.to);
    for (headers, status) in [
        (String::new(), "426"),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\n".to_owned(),
            "426",
        ),
        (
            "Connection: upgrade\r\nUpgrade: metastore-peer/1\r\n".to_owned(),
            "400",
        ),
        (
            headers(id, from, to).replace(&from.to_string(), "-1"),
            "400",
        ),
        (headers(id ^ 1, from, to), "412"),
        (headers(id, from, to ^ 1), "412"),
    ] {
        let (_, head) = port.ask(&headers).await?;
        ensure!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers}{head}"
        );
        ensure!(head.contains("x-metastore-refusal: "), "{head}");
    }
    live(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_the_connection_at_once() -> Result<()> {
    let cluster = three().await?;
    let port = Port::of(&cluster);
    let mut random = StdRng::seed_from_u64(9);
    for length in [HEAD_BYTES, 100, 5_000, 200_000] {
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        // A length that is never refused for itself: what follows is no kind.
        bytes[3] = 0;
        bytes[4] |= 0x80;
        let mut stream = port.enter().await?;
        // The member may close before it has read all.
        let _ = stream.write_all(&bytes).await;
        let answer = rest(stream).await?;
        ensure!(
            answer.is_empty(),
            "{} bytes are answered {answer:?}",
            bytes.len()
        );
    }
    for length in [68 << 20, 1 << 30, u32::MAX] {
        let mut stream = port.enter().await?;
        stream.write_all(&frame(length, 1, b"")).await?;
        let answer = rest(stream).await?;
        ensure!(answer.is_empty(), "{length} bytes are answered {answer:?}");
    }
    live(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_none_is_refused() -> Result<()> {
    let cluster = three().await?;
    let port = Port::of(&cluster);
    // A field that is longer than the body; an entry of the log that is none; kinds from Append to Refusal.
    let unfinished = (1..=9).map(|kind| (kind, &b"\x0a\x7f\x01"[..]));
    let bad_entry = (3, &b"\x0a\x03\xff\xff\xff"[..]);
    for (kind, body) in unfinished.chain([bad_entry]) {
        let mut stream = port.enter().await?;
        let question = frame(body.len() as u32, kind, body);
        stream.write_all(&question).await?;
        let mut answer = [0; HEAD_BYTES];
        tokio::time::timeout(CLOSED_WITHIN, stream.read_exact(&mut answer)).await??;
        // A ping and the question for the log's position say nothing, so that nothing can be wrong with them.
        let wanted = if matches!(kind, 4 | 7) {
            ANSWER
        } else {
            REFUSAL
        };
        ensure!(answer[4] == wanted, "kind {kind} is answered {answer:?}");
        if wanted == REFUSAL {
            let mut said = vec![0; answer[0].into()];
            stream.read_exact(&mut said).await?;
            let refusal = Refusal::decode(&said[..])?;
            ensure!(
                refusal.reason() == Reason::Malformed,
                "kind {kind}: {refusal:?}"
            );
        }
    }
    live(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_never_ends_costs_no_memory_and_no_connection() -> Result<()> {
    let mut cluster = three().await?;
    let port = Port::of(&cluster);
    let process = cluster.member(0).process()?.id();
    let resident = || -> Result<u64> {
        let pages = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
        let pages: u64 = pages.split(' ').nth(1).context("pages")?.parse()?;
        Ok(pages * 4096)
    };
    let before = resident()?;
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut stream = port.enter().await?;
        stream.write_all(&frame(64 << 20, 1, &[0; 1_000])).await?;
        streams.push(stream);
    }
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 64 << 20, "{grown} bytes for 200 promises of 64 MiB");
    for stream in streams {
        rest(stream).await?;
    }
    live(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_too_large_is_refused() -> Result<()> {
    let cluster = three().await?;
    let port = Port::of(&cluster);
    let channel = connect(&format!("http://{}", port.address)).await?;
    let mut client = PeerClient::new(channel).max_encoding_message_size(usize::MAX);
    let chunk = SnapshotChunk {
        rows: vec![0; 67 << 20].into(),
        ..Default::default()
    };
    let mut request = Request::new(tokio_stream::iter([chunk]));
    for (name, id) in [
        ("x-metastore-cluster", port.cluster),
        ("x-metastore-from", port.from),
        ("x-metastore-to", port.to),
    ] {
        request.metadata_mut().insert(name, id.into());
    }
    let refusal = client.snapshot(request).await;
    let refusal = refusal.err().context("67 MiB are taken")?;
    ensure!(refusal.code() == Code::OutOfRange, "{refusal:?}");
    live(cluster).await
}
