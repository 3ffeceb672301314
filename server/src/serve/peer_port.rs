//! The port for other members: their connections and calls, and etcd's `/version` and `/members`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use metastore_node::Node;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::listen::Bound;
use crate::tls::ServerTls;

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

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
            tokio::time::sleep(ACCEPT_PAUSE).await;
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
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(1 << 20);
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a peer's connection ended");
    }
}
