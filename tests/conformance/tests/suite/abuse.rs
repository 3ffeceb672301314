//! Bad input on every port: whatever comes, the member lives on and serves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{get, put};
use metastore_conformance::{Session, Setup, check_with, expect};
use metastore_harness::{Identity, Offer, Port, send, speak};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The start of a TLS 1.2 handshake that goes nowhere.
const HELLO: &[u8] = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03";

async fn connect(url: &str) -> Result<TcpStream> {
    TcpStream::connect(url.rsplit('/').next().unwrap_or_default())
        .await
        .with_context(|| format!("connecting to {url}"))
}

/// How the member ends a connection on which it was sent rubbish.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// A record of TLS that says what is wrong.
const ALERT: &[u8] = b"\x15\x03";

/// Sends bytes and the end of them, then reads until the member closes, which it has to do soon.
async fn throw(url: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = connect(url).await?;
    // The member may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    // A connection that is reset is closed as well.
    let _ = tokio::time::timeout(CLOSED_WITHIN, reading)
        .await
        .with_context(|| format!("{url} is open still after {} bytes", bytes.len()))?;
    is_clear(&answer).with_context(|| format!("{url} was sent {} bytes", bytes.len()))?;
    Ok(answer)
}

/// Whether a client understands it: the end without a word, an HTTP status, HTTP/2, or a TLS alert.
fn is_clear(answer: &[u8]) -> Result<()> {
    let status = answer.starts_with(b"HTTP/1.") && answer.windows(4).any(|end| end == b"\r\n\r\n");
    // The member's SETTINGS come first.
    let http2 = answer.get(3) == Some(&4) && answer.get(5..9) == Some(&[0; 4]);
    let known = answer.is_empty() || answer.starts_with(ALERT) || status || http2;
    ensure!(
        known,
        "the answer is no protocol's: {:?}",
        answer.escape_ascii().to_string()
    );
    ensure!(
        answer.len() < 1 << 16,
        "an answer of {} bytes to rubbish",
        answer.len()
    );
    Ok(())
}

/// A member with all the listeners that it can have.
struct Ports {
    session: Session,
    /// For calls, for members, for metrics, for pages.
    urls: [String; 4],
    _taken: [Port; 2],
}

impl Ports {
    /// Starts the member again with a port for metrics and one for pages.
    async fn open(t: &Session) -> Result<Self> {
        let taken = [Port::take()?, Port::take()?];
        let [metrics, pages] = taken
            .each_ref()
            .map(|port| format!("http://127.0.0.1:{}", port.number()));
        let mut cluster = t.cluster().await;
        let member = cluster.member(0);
        member.stop().await?;
        for flag in [
            format!("--listen-metrics-urls={metrics}"),
            format!("--listen-client-http-urls={pages}"),
        ] {
            member.flags_mut().push(flag.into());
        }
        member.start().await?;
        let urls = [
            member.client_url().to_owned(),
            member.peer_url().to_owned(),
            metrics,
            pages,
        ];
        drop(cluster);
        Ok(Self {
            session: t.again().await?,
            urls,
            _taken: taken,
        })
    }

    /// The member still runs, and every port of it serves.
    async fn live(&self) -> Result<()> {
        let t = &self.session;
        t.put(put("alive", "yes")).await?;
        let again = t.again().await?;
        expect("served", again.range(get("alive")).await?.count, 1)?;
        for (url, page) in self.urls[1..]
            .iter()
            .zip(["/version", "/health", "/version"])
        {
            let answer = metastore_harness::get(url, page).await?;
            expect(url, answer.status, 200)?;
        }
        Ok(())
    }
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
        let ports = Ports::open(t).await?;
        for url in &ports.urls {
            for length in [1, 9, 100, 5000, 200_000] {
                let mut bytes = vec![0; length];
                random.fill_bytes(&mut bytes);
                throw(url, &bytes).await?;
                throw(url, &[PREFACE, &bytes].concat()).await?;
                throw(url, &[HELLO, &bytes].concat()).await?;
                throw(
                    url,
                    &[&b"POST /v3/kv/put HTTP/1.1\r\n"[..], &bytes].concat(),
                )
                .await?;
            }
        }
        ports.live().await
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
        let ports = Ports::open(t).await?;
        for url in &ports.urls {
            for frame in frames {
                throw(url, &[PREFACE, &settings, frame].concat()).await?;
            }
        }
        ports.live().await
    })
}

/// What is wrong is said in the words of the protocol that the client speaks.
#[test]
fn the_wrong_protocol_is_told_so() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let ports = Ports::open(t).await?;
        for url in &ports.urls[1..] {
            for request in [
                &b"GET /version\r\n\r\n"[..],
                b"GET /version HTTP/1.1\r\nno colon\r\n\r\n",
                b"GET /version HTTP/1.1\r\nHost: a b\x01\r\n\r\n",
                b"GET /version HTTP/9.9\r\nHost: x\r\n\r\n",
                b"\x01\x02\x03\x04\r\n\r\n",
            ] {
                let answer = throw(url, request).await?;
                let refused = answer.is_empty()
                    || answer.starts_with(b"HTTP/1.1 4")
                    || answer.starts_with(b"HTTP/1.1 505");
                // Of etcd's pages a multiplexer stands in front, which closes without a word; of a version that there is
                // not etcd says 505.
                if *url != ports.urls[3] && !request.starts_with(b"GET /version HTTP/9") {
                    let first = answer.split(|byte| *byte == b'\r').next();
                    let shown = first.unwrap_or_default().escape_ascii();
                    t.record(request.escape_ascii().to_string(), shown.to_string());
                }
                ensure!(
                    refused,
                    "{} is answered {}",
                    request.escape_ascii(),
                    answer.escape_ascii()
                );
            }
        }
        ports.live().await
    })
}

/// The client's port and the members' one, both with TLS.
struct Secure<'a> {
    session: &'a Session,
    urls: [String; 2],
    client: Identity,
}

impl<'a> Secure<'a> {
    async fn of(session: &'a Session) -> Result<Self> {
        let urls = urls(session).await;
        let cluster = session.cluster().await;
        let authority = cluster.authority().context("made for this cluster")?;
        let client = authority.issue("abuser", &["127.0.0.1"])?;
        drop(cluster);
        Ok(Self {
            session,
            urls,
            client,
        })
    }

    /// Sends bytes within TLS.
    async fn throw(&self, url: &str, bytes: &[u8]) -> Result<()> {
        let cluster = self.session.cluster().await;
        let authority = cluster.authority().context("made for this cluster")?;
        let sent = send(url, bytes, Offer::new(authority, Some(&self.client)));
        let answer = tokio::time::timeout(CLOSED_WITHIN, sent)
            .await
            .with_context(|| format!("{url} is open still after {} bytes", bytes.len()))??;
        is_clear(&answer).with_context(|| format!("{url} was sent {} bytes", bytes.len()))
    }

    async fn live(&self) -> Result<()> {
        let t = self.session;
        t.put(put("alive", "yes")).await?;
        expect(
            "served",
            t.again().await?.range(get("alive")).await?.count,
            1,
        )?;
        let cluster = t.cluster().await;
        let authority = cluster.authority().context("made for this cluster")?;
        for url in &self.urls {
            let spoken = speak(url, "/version", Offer::new(authority, Some(&self.client))).await?;
            expect(url, spoken.answer.as_str(), "HTTP/1.1 200 OK")?;
        }
        Ok(())
    }
}

#[test]
fn random_bytes_on_ports_with_tls() -> Result<()> {
    let setup = Setup {
        client_tls: true,
        peer_tls: true,
        ..Setup::single()
    };
    check_with(&setup, async |t| {
        let mut random = StdRng::seed_from_u64(8);
        let secure = Secure::of(t).await?;
        for url in &secure.urls {
            for length in [1, 9, 100, 5000, 200_000] {
                let mut bytes = vec![0; length];
                random.fill_bytes(&mut bytes);
                throw(url, &bytes).await?;
                throw(url, &[HELLO, &bytes].concat()).await?;
                throw(url, &[PREFACE, &bytes].concat()).await?;
                secure.throw(url, &bytes).await?;
                secure.throw(url, &[PREFACE, &bytes].concat()).await?;
                let put = &b"POST /v3/kv/put HTTP/1.1\r\n"[..];
                secure.throw(url, &[put, &bytes].concat()).await?;
            }
            // Somebody forgot the s of https.
            let answer = throw(url, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await?;
            let said = answer.is_empty()
                || answer.starts_with(ALERT)
                || answer.starts_with(b"HTTP/1.0 400");
            ensure!(said, "no TLS is answered {}", answer.escape_ascii());
        }
        secure.live().await
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
        let ports = Ports::open(t).await?;
        for url in &ports.urls {
            for start in [
                &b""[..],
                b"GET /hea",
                b"GET /health HTTP/1.1\r\nHost: x\r\nX: ",
                PREFACE,
                HELLO,
            ] {
                for _ in 0..20 {
                    let mut stream = connect(url).await?;
                    stream.write_all(start).await?;
                    open.push(stream);
                }
            }
        }
        ports.live().await
    })
}

/// Of the targets only one is given its connections at a time: this process may not have files enough for all.
static CONNECTED: Mutex<()> = Mutex::const_new(());

#[test]
fn ten_thousand_idle_connections() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let alone = CONNECTED.lock().await;
        for url in urls(t).await {
            let mut open = Vec::new();
            for _ in 0..10_000 {
                open.push(connect(&url).await?);
            }
            lives(t).await?;
            let version = metastore_harness::get(&url, "/version").await?;
            expect("a page of the port", version.status, 200)?;
        }
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
