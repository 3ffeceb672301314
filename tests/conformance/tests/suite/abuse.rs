//! Bad input on every port: whatever comes, the member lives on and serves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{get, put};
use metastore_conformance::{Session, Setup, check_with, expect};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The start of a TLS 1.2 handshake that goes nowhere.
const HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";

async fn connect(url: &str) -> Result<TcpStream> {
    TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .with_context(|| format!("connecting to {url}"))
}

/// Sends bytes, then reads until the member closes, or for a while.
async fn throw(url: &str, bytes: &[u8]) -> Result<()> {
    let mut stream = connect(url).await?;
    // The member may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
    ensure!(
        answer.len() < 1 << 20,
        "an answer of {} bytes to garbage",
        answer.len()
    );
    Ok(())
}

async fn urls(t: &Session) -> [String; 2] {
    let cluster = t.cluster().await;
    let member = &cluster.members()[0];
    [member.client_url().to_owned(), member.peer_url().to_owned()]
}

/// The member still runs, and serves old and new connections.
async fn lives(t: &Session) -> Result<()> {
    t.put(put("alive", "yes")).await?;
    let again = t.again().await?;
    expect("served", again.range(get("alive")).await?.count, 1)?;
    expect("health", again.http_get("/health").await?.status, 200)
}

#[test]
fn random_bytes_on_every_port() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut random = StdRng::seed_from_u64(7);
        for url in urls(t).await {
            for length in [1, 9, 100, 5000, 200_000] {
                let mut bytes = vec![0; length];
                random.fill_bytes(&mut bytes);
                throw(&url, &bytes).await?;
                throw(&url, &[PREFACE, &bytes].concat()).await?;
                throw(&url, &[HELLO, &bytes].concat()).await?;
                throw(
                    &url,
                    &[&b"POST /v3/kv/put HTTP/1.1\r\n"[..], &bytes].concat(),
                )
                .await?;
            }
        }
        lives(t).await
    })
}

#[test]
fn frames_that_break_the_rules_of_http2() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let frames: [&[u8]; 6] = [
            // The longest length, an unknown type.
            &[0xff, 0xff, 0xff, 0xee, 0xff, 0xff, 0xff, 0xff, 0xff],
            // HEADERS on stream 0.
            &[0, 0, 1, 1, 5, 0, 0, 0, 0, 0x82],
            // DATA on a stream that was never opened.
            &[0, 0, 1, 0, 0, 0, 0, 0, 5, 0],
            // WINDOW_UPDATE of nothing.
            &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // HEADERS that cannot be decompressed.
            &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff],
            // A RST_STREAM of the wrong length.
            &[0, 0, 1, 3, 0, 0, 0, 0, 1, 0],
        ];
        for url in urls(t).await {
            for frame in frames {
                throw(&url, &[PREFACE, &settings, frame].concat()).await?;
            }
        }
        lives(t).await
    })
}

#[test]
fn messages_that_lie_about_their_length() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for method in [
            "etcdserverpb.KV/Put",
            "etcdserverpb.KV/Txn",
            "etcdserverpb.Lease/LeaseGrant",
        ] {
            for body in [
                &b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"[..],
                b"\x0a\x80\x80\x80\x80\x10",
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"\x0b\x0b\x0b\x0b",
            ] {
                let answer = t.unrecorded().send_raw(method, body).await;
                ensure!(answer.is_err(), "{method} takes {body:?}");
            }
        }
        lives(t).await
    })
}

#[test]
fn a_transaction_nested_very_deep() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        // A txn that holds a txn that holds ...: field 2 (success), within it field 4 (request_txn).
        let mut body = Vec::new();
        for _ in 0..20_000 {
            let mut op = vec![0x22];
            prost::encode_length_delimiter(body.len(), &mut op)?;
            op.append(&mut body);
            body = vec![0x12];
            prost::encode_length_delimiter(op.len(), &mut body)?;
            body.append(&mut op);
        }
        let answer = t.unrecorded().send_raw("etcdserverpb.KV/Txn", &body).await;
        ensure!(answer.is_err(), "a transaction of 20 000 levels is taken");
        lives(t).await
    })
}

#[test]
fn requests_that_are_never_finished() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut open = Vec::new();
        for url in urls(t).await {
            for start in [
                &b""[..],
                b"GET /hea",
                b"GET /health HTTP/1.1\r\nHost: x\r\nX: ",
                PREFACE,
                HELLO,
            ] {
                for _ in 0..20 {
                    let mut stream = connect(&url).await?;
                    stream.write_all(start).await?;
                    open.push(stream);
                }
            }
        }
        lives(t).await
    })
}

/// Of the targets only one is given its connections at a time: this process may not have files enough for all.
static CONNECTED: Mutex<()> = Mutex::const_new(());

#[test]
fn ten_thousand_idle_connections() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let alone = CONNECTED.lock().await;
        let url = t.url().to_owned();
        let mut open = Vec::new();
        for _ in 0..10_000 {
            open.push(connect(&url).await?);
        }
        lives(t).await?;
        drop(open);
        drop(alone);
        lives(t).await
    })
}

#[test]
fn a_client_that_comes_and_goes() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        for _ in 0..100 {
            let again = t.again().await?.unrecorded();
            let mut watching = again.watch();
            watching
                .created(metastore_conformance::build::watch("a"))
                .await?;
            again.put(put("a", "1")).await?;
            // Dropped with an event on its way.
        }
        lives(t).await
    })
}
