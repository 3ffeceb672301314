//! The port for other members: their gRPC service, and etcd's `/version` and `/members`.

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
use serde_json::json;
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
        .route("/members", get(move || async move { members_page(&members) }))
        .route("/version", get(move || async move { version_page(&version) }))
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"))
}

/// Follows peerMembersHandler of `server/etcdserver/api/etcdhttp/peer.go`.
fn members_page(node: &Node) -> Response {
    let members: Vec<_> = node
        .view()
        .members()
        .iter()
        .map(|member| {
            let mut page = json!({"id": member.id, "peerURLs": member.peer_urls, "name": member.name});
            if !member.client_urls.is_empty() {
                page["clientURLs"] = json!(member.client_urls);
            }
            if member.is_learner {
                page["isLearner"] = json!(true);
            }
            page
        })
        .collect();
    let cluster = format!("{:x}", node.header(0).cluster_id);
    let headers = [("X-Etcd-Cluster-ID", cluster), ("Content-Type", "application/json".to_owned())];
    (headers, format!("{}\n", json!(members))).into_response()
}

fn version_page(node: &Node) -> Response {
    let versions = node.versions();
    let cluster = node.view().members().cluster_version().unwrap_or("not_decided").to_owned();
    let page = json!({"etcdserver": versions.server, "etcdcluster": cluster, "storage": versions.cluster_version()});
    ([("Content-Type", "application/json")], page.to_string()).into_response()
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
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a peer's connection ended");
    }
}
