//! The port for other members: their connections and calls, and etcd's `/version` and `/members`.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use metastore_node::Node;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::listen::Bound;
use crate::tls::ServerTls;

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Whoever connects has so long to ask something; a member does so at once.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// And so long for the head of a later request over HTTP/1.1, as in etcd.
const HEADER_TIME: Duration = Duration::from_secs(300);
/// A member that is connected over HTTP/2 is asked so often whether it is there, and has so long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);

/// What the port answers.
pub(super) fn router(node: &Node) -> Router {
    let (members, version) = (node.clone(), node.clone());
    node.peer_routes()
        .into_axum_router()
        .route(
            "/members",
            get(move || async move { members_page(&members) }),
        )
        .route(
            "/version",
            get(move || async move { version_page(&version) }),
        )
        .fallback(async || not_found())
}

/// Follows peerMembersHandler of `server/etcdserver/api/etcdhttp/peer.go`.
fn members_page(node: &Node) -> Response {
    let known = node.view().members();
    let members: Vec<_> = known
        .iter()
        .map(|member| MemberPage {
            id: member.id,
            peer_urls: &member.peer_urls,
            is_learner: member.is_learner,
            name: &member.name,
            client_urls: &member.client_urls,
        })
        .collect();
    let cluster = format!("{:x}", node.header(0).cluster_id);
    let headers = [
        ("X-Etcd-Cluster-ID", cluster),
        ("Content-Type", "application/json".to_owned()),
    ];
    (headers, format!("{}\n", json_text(&members))).into_response()
}

/// A member as etcd's peers see it; the order of the fields is etcd's.
#[derive(Serialize)]
struct MemberPage<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

#[derive(Serialize)]
struct VersionPage<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
    storage: &'a str,
}

fn json_text(page: &impl Serialize) -> String {
    serde_json::to_string(page).expect("plain structs always become JSON")
}

/// As Go's http.NotFound.
fn not_found() -> Response {
    let headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

fn version_page(node: &Node) -> Response {
    let versions = node.versions();
    let members = node.view().members();
    let page = VersionPage {
        etcdserver: &versions.server,
        etcdcluster: members.cluster_version().unwrap_or("not_decided"),
        storage: &versions.cluster_version(),
    };
    ([("Content-Type", "application/json")], json_text(&page)).into_response()
}

/// Serves one listener until the runtime ends.
pub(super) async fn serve(bound: Bound, tls: Option<Arc<ServerTls>>, router: Router) {
    loop {
        let accepted = match &bound {
            Bound::Tcp(listener) => listener.accept().await.map(|(stream, remote)| {
                tokio::spawn(connection(stream, remote, tls.clone(), router.clone()));
            }),
            Bound::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                let remote = SocketAddr::from(([127, 0, 0, 1], 0));
                tokio::spawn(connection(stream, remote, tls.clone(), router.clone()));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(error = %error, "failed to accept a connection of a peer");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<S>(stream: S, remote: SocketAddr, tls: Option<Arc<ServerTls>>, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tls {
        // A refusal has been logged where it was made.
        Some(tls) => {
            if let Ok(stream) = tls.accept_peer(stream, remote).await {
                speak(stream, router).await;
            }
        }
        None => speak(stream, router).await,
    }
}

async fn speak<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(AtomicBool::new(false));
    let (seen, routes) = (asked.clone(), TowerToHyperService::new(router));
    let service = service_fn(move |request| {
        seen.store(true, Ordering::Relaxed);
        routes.call(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_PATIENCE)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(1 << 20);
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = &mut serving => served,
        () = sleep(FIRST_REQUEST) => match asked.load(Ordering::Relaxed) {
            true => serving.await,
            false => return tracing::debug!("nobody asks anything on a peer's connection"),
        },
    };
    if let Err(error) = served {
        tracing::debug!(error = %error, "a peer's connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    fn port() -> DuplexStream {
        let (here, there) = tokio::io::duplex(64 << 10);
        tokio::spawn(speak(there, Router::new().fallback(async || "hello")));
        here
    }

    /// How long the port waits for more.
    async fn waits(mut stream: DuplexStream) -> Duration {
        let since = Instant::now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the end");
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_not_waited_for() {
        for start in [
            &b""[..],
            b"PRI * HT",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            b"GET /members HTTP/1.1\r\nHost: ",
        ] {
            let mut stream = port();
            stream.write_all(start).await.expect("open");
            assert_eq!(waits(stream).await, FIRST_REQUEST, "{start:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_may_take_longer_for_the_next_request() {
        let mut stream = port();
        let request = b"GET /members HTTP/1.1\r\nHost: here\r\n\r\n";
        stream.write_all(request).await.expect("open");
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        stream.write_all(b"GET /mem").await.expect("open");
        assert_eq!(waits(stream).await, HEADER_TIME);
    }
}
