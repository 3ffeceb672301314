//! Flags whose values change what a member does; `server/src/flag/proof.rs` says which case proves which flag.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_conformance::build::{all, get, put, watch};
use metastore_conformance::{Session, Setup, check_with, expect, fails};
use metastore_harness::{Clients, Ending, Engine, Port, Target};
use metastore_proto::etcdserverpb::{CompactionRequest, MemberListRequest, WatchCreateRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

/// Starts the only member again with more flags, which win over those it had.
pub(crate) async fn restart_with(t: &Session, flags: &[String]) -> Result<Session> {
    let mut cluster = t.cluster().await;
    let member = cluster.member(0);
    member.stop().await?;
    member.flags_mut().extend(flags.iter().map(Into::into));
    member.start().await?;
    drop(cluster);
    t.again().await
}

/// Waits for a line of the member's log.
async fn said(t: &Session, wanted: &str) -> Result<String> {
    let mut cluster = t.cluster().await;
    let process = cluster.member(t.index()).process()?;
    let line = process.wait_for_line(|line| line.contains(wanted), Duration::from_secs(20));
    line.await
        .with_context(|| format!("no line holds {wanted:?}"))
}

async fn says(t: &Session, text: &str) -> Result<bool> {
    let lines = t.cluster().await.member(t.index()).process()?.lines();
    Ok(lines.iter().any(|line| line.contains(text)))
}

#[test]
fn an_election_is_a_whole_number_of_heartbeats() -> Result<()> {
    // Five heartbeats make an election, and three halves of five are seven.
    let flags = ["--heartbeat-interval=1000", "--election-timeout=5999"];
    check_with(&Setup::single().flags(&flags), async |t| {
        expect("ttl", t.lease_grant(1, 7).await?.ttl, 7)
    })
}

#[test]
fn slow_requests_are_logged_from_the_durations_set_on() -> Result<()> {
    const APPLY: &str = "apply request took too long";
    const UNARY: &str = "\"request stats\"";
    check_with(&Setup::single(), async |t| {
        t.put(put("a", "1")).await?;
        t.range(get("a")).await?;
        let flags = [
            "--warning-apply-duration=1ns".to_owned(),
            "--warning-unary-request-duration=1ns".to_owned(),
        ];
        let t = restart_with(t, &flags).await?;
        t.put(put("secret", "1")).await?;
        t.range(get("secret")).await?;
        let line = said(&t, APPLY).await?;
        ensure!(
            line.contains("\"took\":") && line.contains("\"expected-duration\":\"1ns\""),
            "{line}"
        );
        let line = said(&t, "\"prefix\":\"read-only range \"").await?;
        ensure!(line.contains("secret") && line.contains(APPLY), "{line}");
        let line = said(&t, UNARY).await?;
        ensure!(
            line.contains("\"time spent\":")
                && line.contains("\"response type\":\"/etcdserverpb.KV/"),
            "{line}"
        );
        let flags = [
            "--warning-apply-duration=1h".to_owned(),
            "--warning-unary-request-duration=1h".to_owned(),
        ];
        let t = restart_with(&t, &flags).await?;
        t.put(put("a", "1")).await?;
        t.range(get("a")).await?;
        expect("a slow apply", says(&t, APPLY).await?, false)?;
        expect("a slow request", says(&t, UNARY).await?, false)
    })
}

#[test]
fn compaction_goes_in_steps_of_the_size_and_with_the_pause_set() -> Result<()> {
    let flags = [
        "--compaction-batch-limit=10",
        "--compaction-sleep-interval=500ms",
    ];
    check_with(&Setup::single().flags(&flags), async |t| {
        let took = compact_sixty_revisions(t).await?;
        ensure!(
            took >= Duration::from_secs(2),
            "{took:?} for five pauses and more"
        );
        let quick = [
            "--compaction-batch-limit=1000".to_owned(),
            "--compaction-sleep-interval=1ms".to_owned(),
        ];
        let t = restart_with(t, &quick).await?;
        let took = compact_sixty_revisions(&t).await?;
        ensure!(took < Duration::from_secs(2), "{took:?} for one step");
        let one_by_one = [
            "--compaction-batch-limit=1".to_owned(),
            "--compaction-sleep-interval=50ms".to_owned(),
        ];
        let t = restart_with(&t, &one_by_one).await?;
        let took = compact_sixty_revisions(&t).await?;
        ensure!(took >= Duration::from_secs(2), "{took:?} for sixty pauses");
        Ok(())
    })
}

async fn compact_sixty_revisions(t: &Session) -> Result<Duration> {
    let quiet = t.unrecorded();
    let mut revision = 0;
    for _ in 0..60 {
        revision = quiet
            .put(put("a", "1"))
            .await?
            .header
            .context("a header")?
            .revision;
    }
    let since = Instant::now();
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    quiet.compact(request).await?;
    Ok(since.elapsed())
}

/// Puts until a revision is compacted that nobody has asked to compact.
async fn compacted_by_itself(t: &Session, within: Duration) -> Result<bool> {
    let quiet = t.unrecorded();
    let since = Instant::now();
    while since.elapsed() < within {
        quiet.put(put("a", "1")).await?;
        let mut old = get("a");
        old.revision = 2;
        if let Err(status) = quiet.range(old).await {
            fails(
                Err::<(), _>(status),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            )?;
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}

#[test]
fn history_is_compacted_automatically_after_the_retention() -> Result<()> {
    let flags = [
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1s",
    ];
    check_with(&Setup::single().flags(&flags), async |t| {
        expect(
            "compacted",
            compacted_by_itself(t, Duration::from_secs(30)).await?,
            true,
        )?;
        expect(
            "the newest is kept",
            t.unrecorded().range(get("a")).await?.count,
            1,
        )?;
        said(t, "completed auto periodic compaction").await?;
        Ok(())
    })
}

#[test]
fn in_mode_revision_the_retention_is_a_number_of_revisions() -> Result<()> {
    // The same text that compacts every second in the other mode.
    let flags = [
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1s",
    ];
    check_with(&Setup::single().flags(&flags), async |t| {
        expect(
            "compacted",
            compacted_by_itself(t, Duration::from_secs(4)).await?,
            false,
        )
    })
}

#[test]
fn a_connection_carries_only_so_many_streams() -> Result<()> {
    check_with(
        &Setup::single().flags(&["--max-concurrent-streams=2"]),
        async |t| {
            let t = &t.unrecorded();
            let (mut first, mut second) = (t.watch(), t.watch());
            first.created(watch("a")).await?;
            second.created(watch("b")).await?;
            let third = tokio::time::timeout(Duration::from_secs(1), t.range(get("a"))).await;
            expect("a third is served", third.is_ok(), false)?;
            drop(second);
            let third = tokio::time::timeout(Duration::from_secs(20), t.range(get("a"))).await;
            expect("it is served when there is room", third.is_ok(), true)
        },
    )
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: u8 = 6;

/// A client that says hello and then never a word: the types of the frames that come until the member closes, and
/// how long that takes.
async fn frames_until_the_end(url: &str, within: Duration) -> Result<(Vec<u8>, Option<Duration>)> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    stream.write_all(&[PREFACE, SETTINGS].concat()).await?;
    let since = Instant::now();
    let mut types = Vec::new();
    let reading = async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            types.push(head[3]);
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; length as usize];
            if stream.read_exact(&mut body).await.is_err() {
                break;
            }
        }
    };
    let ended = tokio::time::timeout(within, reading).await.is_ok();
    Ok((types, ended.then(|| since.elapsed())))
}

#[test]
fn a_silent_connection_is_asked_and_closed_after_the_times_set() -> Result<()> {
    let flags = [
        "--grpc-keepalive-interval=1s",
        "--grpc-keepalive-timeout=1s",
    ];
    check_with(&Setup::single().flags(&flags), async |t| {
        let (types, ended) = frames_until_the_end(t.url(), Duration::from_secs(30)).await?;
        ensure!(types.contains(&PING), "frames of the types {types:?}");
        ensure!(
            ended.is_some_and(|took| took < Duration::from_secs(15)),
            "ended after {ended:?}"
        );
        // A longer timeout, and no closing within it.
        let t = restart_with(t, &["--grpc-keepalive-timeout=1h".to_owned()]).await?;
        let (types, ended) = frames_until_the_end(t.url(), Duration::from_secs(4)).await?;
        ensure!(
            types.contains(&PING) && ended.is_none(),
            "{types:?}, ended after {ended:?}"
        );
        // No pings at all within the interval.
        let t = restart_with(&t, &["--grpc-keepalive-interval=1h".to_owned()]).await?;
        let (types, ended) = frames_until_the_end(t.url(), Duration::from_secs(3)).await?;
        ensure!(
            !types.contains(&PING) && ended.is_none(),
            "{types:?}, ended after {ended:?}"
        );
        Ok(())
    })
}

#[test]
fn extensive_metrics_time_each_method() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let timed = async |t: &Session| -> Result<bool> {
            t.range(all()).await?;
            let page = metastore_harness::get(t.url(), "/metrics").await?;
            Ok(page.body.contains("grpc_server_handling_seconds_bucket"))
        };
        expect("basic", timed(t).await?, false)?;
        let t = restart_with(t, &["--metrics=extensive".to_owned()]).await?;
        expect("extensive", timed(&t).await?, true)
    })
}

#[test]
fn origins_and_hosts_are_those_allowed() -> Result<()> {
    let flags = [
        "--cors=http://good.example:80",
        "--host-whitelist=good.example",
    ];
    check_with(&Setup::single().flags(&flags), async |t| {
        for (host, origin) in [
            ("good.example", "http://good.example:80"),
            ("good.example", "http://bad.example:80"),
            ("bad.example", "http://good.example:80"),
            ("good.example:2379", ""),
        ] {
            let text = http_as(t.url(), host, origin).await?;
            t.record(format!("GET /version as {host} from {origin:?}"), text);
        }
        Ok(())
    })
}

/// `GET /version` with these headers: the status line, and the header that lets an origin in.
async fn http_as(url: &str, host: &str, origin: &str) -> Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let origin = match origin {
        "" => String::new(),
        origin => format!("Origin: {origin}\r\n"),
    };
    let request =
        format!("GET /version HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.lines().next().context("a status line")?;
    let allowed = answer.lines().find(|line| {
        line.to_ascii_lowercase()
            .starts_with("access-control-allow-origin")
    });
    Ok(format!("{status} {}", allowed.unwrap_or("no origin")))
}

#[test]
fn a_configuration_file_goes_before_flags_and_variables() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut cluster = t.cluster().await;
        let folder = cluster.folder().to_owned();
        // The flags no longer say it.
        let engine = match cluster.target() {
            Target::Etcd => "",
            Target::MetaStore(Engine::RocksDb) => "storage-engine: rocksdb\n",
            Target::MetaStore(Engine::Memory) => "storage-engine: memory\n",
        };
        let member = cluster.member(0);
        member.stop().await?;
        let (client, peer) = (member.client_url().to_owned(), member.peer_url().to_owned());
        // Durations are integer nanoseconds.
        let text = format!(
            "name: m1\ndata-dir: {}\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n\
             listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: m1={peer}\n\
             initial-cluster-token: metastore-test\nmax-txn-ops: 2\nwatch-progress-notify-interval: 300000000\n{engine}",
            member.data_dir().display()
        );
        let file = folder.join("member.yaml");
        std::fs::write(&file, text)?;
        member
            .flags_mut()
            .push(format!("--config-file={}", file.display()).into());
        member.flags_mut().push("--max-txn-ops=100".into());
        member
            .environment_mut()
            .push(("ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL".into(), "1h".into()));
        member.start().await?;
        drop(cluster);
        use metastore_conformance::build::{IntoOp, txn};
        let t = &t.again().await?;
        let ops = ["a", "b", "c"].map(|key| put(key, "1").op());
        fails(
            t.txn(txn([], ops, [])).await,
            Code::InvalidArgument,
            "etcdserver: too many operations in txn request",
        )?;
        let mut watching = t.watch();
        let request = WatchCreateRequest {
            progress_notify: true,
            ..watch("a")
        };
        watching.created(request).await?;
        let progress = watching.next().await?;
        expect("events of a notice of progress", progress.events.len(), 0)
    })
}

#[test]
fn a_member_tells_the_name_and_the_client_urls_of_its_flags() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let urls = "http://127.0.0.1:1,http://other.example:2";
        let flags = [
            "--name=other".to_owned(),
            format!("--advertise-client-urls={urls}"),
        ];
        let t = restart_with(t, &flags).await?;
        let answer = t
            .member_list(MemberListRequest { linearizable: true })
            .await?;
        let [member] = &answer.members[..] else {
            anyhow::bail!("{answer:?}")
        };
        expect("name", member.name.as_str(), "other")?;
        expect("urls", member.client_urls.join(",").as_str(), urls)
    })
}

#[test]
fn the_ids_follow_the_peer_urls_and_the_token() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let folder = t.cluster().await.folder().to_owned();
        let peer = t.cluster().await.members()[0]
            .peer_url()
            .replace("127.0.0.1", "localhost");
        let data = folder.join("another");
        let flags = [
            format!("--data-dir={}", data.display()),
            "--initial-cluster-token=another".to_owned(),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=m1={peer}"),
        ];
        let t = restart_with(t, &flags).await?.unrecorded();
        let header = t.range(all()).await?.header.context("a header")?;
        let member = metastore_harness::member_id(&[&peer], "another");
        expect("member", header.member_id, member)?;
        expect(
            "cluster",
            header.cluster_id,
            metastore_harness::cluster_id(&[member]),
        )?;
        expect(
            "data is where the flag says",
            data.join("member").is_dir(),
            true,
        )
    })
}

#[test]
fn the_log_has_a_folder_of_its_own_where_the_flag_says() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let folder = t.cluster().await.folder().to_owned();
        let (data, log) = (folder.join("data"), folder.join("log"));
        let flags = [
            format!("--data-dir={}", data.display()),
            format!("--wal-dir={}", log.display()),
        ];
        let t = restart_with(t, &flags).await?;
        t.put(put("a", "1")).await?;
        ensure!(
            std::fs::read_dir(&log)?.count() > 0,
            "nothing in {}",
            log.display()
        );
        expect(
            "a log beside the data",
            data.join("member/wal").exists(),
            false,
        )?;
        t.cluster().await.member(0).stop().await?;
        t.cluster().await.member(0).start().await?;
        expect("kept", t.again().await?.range(get("a")).await?.count, 1)
    })
}

#[test]
fn a_member_joins_only_a_cluster_that_there_is_and_ignores_that_where_it_has_data() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        t.put(put("a", "1")).await?;
        let t = restart_with(t, &["--initial-cluster-state=existing".to_owned()]).await?;
        expect("kept", t.range(get("a")).await?.count, 1)?;
        let mut cluster = t.cluster().await;
        let data = cluster.folder().join("blank");
        let member = cluster.member(0);
        member.stop().await?;
        member
            .flags_mut()
            .push(format!("--data-dir={}", data.display()).into());
        member.launch()?;
        let ending = member.process()?.wait(Duration::from_secs(60)).await?;
        expect("ending", ending, Ending::Code(1))
    })
}

#[test]
fn a_port_may_be_shared_where_the_flag_says_so() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut cluster = t.cluster().await;
        let member = cluster.member(0);
        member.stop().await?;
        let other = shared_listener(member.client_url())?;
        member.launch()?;
        let ending = member.process()?.wait(Duration::from_secs(60)).await?;
        expect("ending", ending, Ending::Code(1))?;
        member.flags_mut().push("--socket-reuse-port".into());
        member.start().await?;
        drop(other);
        Ok(())
    })
}

/// Listens on the port of `url` and lets others listen too.
fn shared_listener(url: &str) -> Result<std::net::TcpListener> {
    let address: std::net::SocketAddr = url.trim_start_matches("http://").parse()?;
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket.listen(16)?.into_std()?)
}

#[test]
fn a_member_serves_every_url_that_it_listens_on() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let ports = [Port::take()?, Port::take()?];
        let [client, peer] =
            [&ports[0], &ports[1]].map(|port| format!("http://127.0.0.1:{}", port.number()));
        let mut cluster = t.cluster().await;
        let folder = cluster.folder().to_owned();
        let member = cluster.member(0);
        let socket = folder.join("client.sock");
        let (first, first_peer) = (member.client_url().to_owned(), member.peer_url().to_owned());
        drop(cluster);
        let flags = [
            format!(
                "--listen-client-urls={first},{client},unix://{}",
                socket.display()
            ),
            format!("--listen-peer-urls={first_peer},{peer}"),
        ];
        let t = restart_with(t, &flags).await?;
        t.put(put("a", "1")).await?;
        let mut second = Clients::new(metastore_harness::connect(&client).await?);
        expect(
            "the second client port",
            second.kv.range(get("a")).await?.into_inner().count,
            1,
        )?;
        let page = metastore_harness::get(&peer, "/version").await?;
        expect("the second peer port", page.status, 200)?;
        let mut stream = tokio::net::UnixStream::connect(&socket).await?;
        stream
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        Ok(())
    })
}

#[test]
fn pages_may_have_a_port_of_their_own() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let port = Port::take()?;
        let pages = format!("http://127.0.0.1:{}", port.number());
        let t = restart_with(t, &[format!("--listen-client-http-urls={pages}")]).await?;
        for path in [
            "/health",
            "/version",
            "/livez",
            "/readyz?verbose",
            "/nothing",
        ] {
            t.http_at(&pages, path).await?;
        }
        expect(
            "/metrics",
            metastore_harness::get(&pages, "/metrics").await?.status,
            200,
        )?;
        t.put(put("a", "1")).await?;
        let page = metastore_harness::get(t.url(), "/health").await;
        ensure!(
            page.is_err() || page.as_ref().is_ok_and(|page| page.status != 200),
            "a page on the port for gRPC: {page:?}"
        );
        let calls = match metastore_harness::connect(&pages).await {
            Err(_) => false,
            Ok(channel) => Clients::new(channel).kv.range(get("a")).await.is_ok(),
        };
        expect("gRPC on the port for pages", calls, false)
    })
}
