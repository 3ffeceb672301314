//! How a connection begins: an HTTP/1.1 upgrade on the peer port, in which both say who they are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::peers::{CLUSTER, Connect, Doorkeeper, FROM, PeerStream, TO, first_reachable};

/// Where on the peer port the upgrade is asked for.
pub(crate) const PATH: &str = "/raft/connection";
/// What the upgrade is asked to; a change that older members would not understand gets another number.
pub(crate) const PROTOCOL: &str = "metastore-peer/1";
/// A member that does not answer by then is not there.
const PATIENCE: Duration = Duration::from_secs(1);

/// Somebody answers there, and lets nobody in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

/// The way to a member, and who asks whom.
#[derive(Clone)]
pub(crate) struct Dial {
    pub(crate) connect: Connect,
    pub(crate) urls: Arc<ArcSwap<Vec<String>>>,
    pub(crate) cluster_id: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How long the other side may say nothing, not even to a ping, before it is given up.
    pub(crate) silence: Duration,
}

impl Dial {
    /// A connection, and what has arrived on it already.
    ///
    /// # Errors
    /// Nobody is there, or it is not the one who is meant ([`Refused`]).
    pub(super) async fn connect(&self) -> io::Result<(Box<dyn PeerStream>, Bytes)> {
        let stream = first_reachable(&self.connect, &self.urls.load_full()).await?;
        tokio::time::timeout(PATIENCE, self.upgrade(stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn upgrade(
        &self,
        stream: Box<dyn PeerStream>,
    ) -> io::Result<(Box<dyn PeerStream>, Bytes)> {
        let request = Request::get(PATH)
            .header(HOST, "peer.metastore")
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, PROTOCOL)
            .header(CLUSTER, self.cluster_id)
            .header(FROM, self.from)
            .header(TO, self.to)
            .header(SILENCE, self.silence.as_millis().to_string())
            .body(String::new())
            .map_err(io::Error::other)?;
        let handshake = http1::handshake(TokioIo::new(stream));
        let (mut sender, conversation) = handshake.await.map_err(io::Error::other)?;
        // It ends with the upgrade, or with the connection.
        tokio::spawn(conversation.with_upgrades());
        let response = sender.send_request(request).await;
        let response = response.map_err(io::Error::other)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let why = response
                .headers()
                .get(WHY)
                .and_then(|why| why.to_str().ok());
            let why = why.unwrap_or("it speaks another protocol");
            let why = format!("{}: {why}", response.status());
            return Err(io::Error::other(Refused(why)));
        }
        let upgraded = hyper::upgrade::on(response).await;
        let parts = upgraded.map_err(io::Error::other)?.downcast();
        let parts = parts.map_err(|_| io::Error::other("the connection has become another"))?;
        Ok((
            TokioIo::<Box<dyn PeerStream>>::into_inner(parts.io),
            parts.read_buf,
        ))
    }
}

/// Header: milliseconds within which the asking member says something, if only a ping.
const SILENCE: &str = "x-metastore-silence";
/// Nobody is waited for longer than this.
const SILENCE_MAX: Duration = Duration::from_secs(600);
/// Header: why an upgrade was refused.
const WHY: &str = "x-metastore-refusal";

/// A member that asks for a connection and may have it.
pub(crate) struct Visitor {
    upgrade: OnUpgrade,
    /// Who asks.
    pub(crate) from: u64,
    /// How long they may take to say something, by their own account.
    pub(crate) silence: Duration,
}

impl Visitor {
    /// Reads a request on the peer port: the answer to give, and who may enter, if anybody.
    pub(crate) fn admit<B: Body>(
        keeper: &Doorkeeper,
        mut request: Request<B>,
    ) -> (Response<String>, Option<Self>) {
        let number = |key| number(request.headers(), key);
        let offered = request.headers().get(UPGRADE);
        if offered.is_none_or(|protocol| protocol != PROTOCOL) {
            return (
                refused(StatusCode::UPGRADE_REQUIRED, "unknown protocol"),
                None,
            );
        }
        let (Some(_), Some(from), Some(_)) = (number(CLUSTER), number(FROM), number(TO)) else {
            let why =
                "a connection needs the cluster's id, the asking member's and the asked one's";
            return (refused(StatusCode::BAD_REQUEST, why), None);
        };
        if let Some(why) = keeper.objection(number) {
            return (refused(StatusCode::PRECONDITION_FAILED, &why), None);
        }
        let silence = number(SILENCE).map_or(Duration::ZERO, Duration::from_millis);
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, http::HeaderValue::from_static(PROTOCOL));
        let upgrade = hyper::upgrade::on(&mut request);
        let visitor = Self {
            upgrade,
            from,
            silence: silence.min(SILENCE_MAX),
        };
        (response, Some(visitor))
    }

    /// The connection, once the answer has been sent.
    pub(crate) async fn enter(self) -> Result<Box<dyn PeerStream>, hyper::Error> {
        let upgraded: Upgraded = self.upgrade.await?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

fn number(headers: &HeaderMap, key: &str) -> Option<u64> {
    headers.get(key)?.to_str().ok()?.parse().ok()
}

fn refused(status: StatusCode, why: &str) -> Response<String> {
    let mut response = Response::new(format!("{why}\n"));
    *response.status_mut() = status;
    if let Ok(why) = why.parse() {
        response.headers_mut().insert(WHY, why);
    }
    response
}
