//! What connections may do to the server, and what they may not.

use std::sync::Arc;
use std::time::Duration;

use crate::running::Running;
use metastore_proto::etcdserverpb::RangeRequest;
use metastore_proto::etcdserverpb::kv_client::KvClient;
use metastore_proto::etcdserverpb::watch_client::WatchClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

async fn page(running: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(running.address())
        .await
        .expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("reads");
    String::from_utf8(answer).expect("text")
}

async fn get(running: &Running, path: &str) -> String {
    page(
        running,
        &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
    .await
}

async fn serves(running: &Running) {
    let mut kv = KvClient::connect(running.url()).await.expect("connects");
    let request = RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    kv.range(request).await.expect("serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_methods_share_a_port() {
    let running = Running::start().await;
    serves(&running).await;
    let health = get(&running, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    assert!(
        health.ends_with("\r\n\r\n{\"health\":\"true\",\"reason\":\"\"}"),
        "{health}"
    );
    let version = get(&running, "/version").await;
    assert!(
        version.contains(r#"{"etcdserver":"3.7.3","etcdcluster":""#),
        "{version}"
    );
    let ready = get(&running, "/readyz?verbose").await;
    assert!(
        ready.contains("[+]linearizable_read ok\n[+]non_learner ok\nok\n"),
        "{ready}"
    );
    assert!(
        get(&running, "/nothing")
            .await
            .contains("404 page not found\n")
    );
    let metrics = get(&running, "/metrics").await;
    let line = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_harms_nobody() {
    let running = Running::start().await;
    for rubbish in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish that is no frame at all, and more of it",
        b"GET / HTTP/1.1\r\nbroken header\r\n\r\n",
        &[0; 4096],
        b"",
    ] {
        let mut stream = TcpStream::connect(running.address())
            .await
            .expect("connects");
        // The server may have closed the connection before all is written.
        let _ = stream.write_all(rubbish).await;
    }
    serves(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cost_nobody_else() {
    let running = Running::start().await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(
            TcpStream::connect(running.address())
                .await
                .expect("connects"),
        );
    }
    serves(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_streams_and_frees_the_port() {
    let mut running = Running::start().await;
    let mut watch = WatchClient::connect(running.url()).await.expect("connects");
    let mut answers = watch
        .watch(futures::stream::pending())
        .await
        .expect("watch")
        .into_inner();
    let idle = TcpStream::connect(running.address())
        .await
        .expect("connects");
    running.stop.cancel();
    let error = answers.message().await.expect_err("ended");
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    let served = std::mem::replace(&mut running.served, tokio::spawn(async {}));
    tokio::time::timeout(Duration::from_secs(5), served)
        .await
        .expect("in time")
        .expect("no panic");
    tokio::net::TcpListener::bind(running.address())
        .await
        .expect("the port is free");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_before_the_end() {
    let running = Arc::new(Running::start().await);
    let mut requests = Vec::new();
    for number in 0..50 {
        let mut kv = KvClient::connect(running.url()).await.expect("connects");
        let request = metastore_proto::etcdserverpb::PutRequest {
            key: format!("{number}").into(),
            ..Default::default()
        };
        requests.push(tokio::spawn(async move { kv.put(request).await }));
    }
    tokio::time::sleep(Duration::from_millis(2)).await;
    running.stop.cancel();
    let mut answered = 0;
    for request in requests {
        answered += usize::from(request.await.expect("no panic").is_ok());
    }
    let written = running.node.store().key_count();
    assert_eq!(
        written,
        i64::try_from(answered).expect("few"),
        "what was written was answered"
    );
}
