//! The HTTP pages of the client's port (`server/etcdserver/api/etcdhttp`): health, version, metrics,
//! variables, with etcd's exact bodies.

mod access;
mod health;
mod query;
mod response;
mod vars;

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use prometheus::TextEncoder;

pub use access::AccessControl;

use crate::door::Door;
use crate::grpc::Body;
use response::{document, failure, method_not_allowed, not_found};

/// What etcd's own library calls the format of its metrics.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
const JSON: &str = "application/json";
const JSON_UTF8: &str = "application/json; charset=utf-8";

/// Which pages a listener has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// All of them: the client's port.
    All,
    /// `/metrics` and the health pages: `--listen-metrics-urls`.
    Metrics,
}

/// Answers a request for a page. `secure` tells that it came over TLS.
pub(crate) async fn answer(
    door: &Arc<Door>,
    request: Request<Incoming>,
    pages: Pages,
    secure: bool,
) -> Response<Body> {
    let access = &door.options.access;
    if pages == Pages::All
        && !secure
        && let Some(refused) = access.check_host(&request)
    {
        return refused;
    }
    let origin = access.allowed_origin(&request);
    let mut response = if request.method() == Method::OPTIONS && pages == Pages::All {
        Response::new(Body::empty())
    } else {
        page(door, &request, pages).await
    };
    if let Some(origin) = origin
        && pages == Pages::All
    {
        access::allow(response.headers_mut(), origin);
    }
    if request.method() == Method::HEAD {
        let length = response.body().size_hint().exact().unwrap_or_default();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        *response.body_mut() = Body::empty();
    }
    response
}

async fn page(door: &Arc<Door>, request: &Request<Incoming>, pages: Pages) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let get = request.method() == Method::GET;
    match (path, pages) {
        ("/metrics", _) => metrics(door).await,
        ("/health", _) if get => health::health(door, query).await,
        ("/version", Pages::All) if get => version(door),
        ("/debug/vars", Pages::All) if get => document(JSON_UTF8, vars::page(door)),
        ("/health", _) | ("/version" | "/debug/vars", Pages::All) => method_not_allowed(),
        _ => match health::checks_at(path) {
            Some(_) if !get => method_not_allowed(),
            Some(checks) => health::run(door, checks, query).await,
            None => not_found(),
        },
    }
}

fn version(door: &Door) -> Response<Body> {
    let versions = door.node.versions();
    let members = door.node.view().members();
    let cluster = members.cluster_version().unwrap_or("not_decided");
    let storage = versions.cluster_version();
    let server = &versions.server;
    document(
        JSON,
        format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","storage":"{storage}"}}"#),
    )
}

/// Gathered off the runtime's threads: the kernel and the engine are asked.
async fn metrics(door: &Door) -> Response<Body> {
    let registry = door.options.registry.clone();
    let text = tokio::task::spawn_blocking(move || {
        TextEncoder::new().encode_to_string(&registry.gather())
    });
    match text.await {
        Ok(Ok(text)) => document(METRICS, text),
        Ok(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
