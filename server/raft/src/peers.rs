//! Connections to the other members.
//!
//! Each member has four links to each other one, so that a long message never holds up a short one: the connections
//! `control` (heartbeats, read index, forwarded commands, leases) and `log`, and over HTTP/2 `calls` (votes) and
//! `bulk` (snapshots).
//! Every request names the cluster, its sender and its receiver; the receiver refuses a stranger.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use metastore_proto::peerpb::peer_client::PeerClient;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::connection::{Caller, Dial};
use crate::peer_tally::{PeerCounters, PeerTally};
use crate::propose::MESSAGE_BYTES_MAX;
use crate::traffic::Outgoing;

/// Metadata key: the cluster both belong to.
pub(crate) const CLUSTER: &str = "x-metastore-cluster";
/// Metadata key: who asks.
pub(crate) const FROM: &str = "x-metastore-from";
/// Metadata key: who is meant.
pub(crate) const TO: &str = "x-metastore-to";

/// A byte stream to another member.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> PeerStream for T {}

/// The future of a connection attempt.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn PeerStream>>> + Send>>;

/// Opens a byte stream to a peer URL (`http://host:port` or `https://host:port`).
pub type Connect = Arc<dyn Fn(String) -> Connecting + Send + Sync>;

/// Connects without TLS.
pub fn plain_tcp() -> Connect {
    Arc::new(|url: String| {
        Box::pin(async move {
            let uri: Uri = url.parse().map_err(io::Error::other)?;
            let host = uri
                .host()
                .unwrap_or_default()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned();
            let stream =
                tokio::net::TcpStream::connect((host, uri.port_u16().unwrap_or(2380))).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn PeerStream>)
        })
    })
}

/// The stub through which a member is called.
pub(crate) type Client = PeerClient<InterceptedService<Outgoing<Channel>, Identity>>;

/// The links to one member.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) control: Caller,
    pub(crate) log: Caller,
    pub(crate) calls: Client,
    pub(crate) bulk: Client,
}

struct Peer {
    urls: Arc<ArcSwap<Vec<String>>>,
    link: Link,
    tally: Arc<PeerTally>,
}

/// All members that this one talks to.
pub(crate) struct Peers {
    cluster_id: u64,
    member_id: u64,
    connect: Connect,
    silence: Duration,
    runtime: Handle,
    peers: Mutex<HashMap<u64, Peer>>,
}

impl Peers {
    /// `silence`: how long a connection may say nothing, not even to a ping, before it is given up. Connections are
    /// served on `runtime`.
    pub(crate) fn new(
        cluster_id: u64,
        member_id: u64,
        connect: Connect,
        silence: Duration,
        runtime: Handle,
    ) -> Self {
        Self {
            cluster_id,
            member_id,
            connect,
            silence,
            runtime,
            peers: Mutex::default(),
        }
    }

    /// The links to a member, made on first use; `urls` replace the ones known before.
    pub(crate) fn link(&self, id: u64, urls: &[String]) -> Link {
        let mut peers = self.peers.lock();
        if let Some(peer) = peers.get(&id) {
            if peer.urls.load().as_slice() != urls {
                peer.urls.store(Arc::new(urls.to_vec()));
            }
            return peer.link.clone();
        }
        let urls = Arc::new(ArcSwap::from_pointee(urls.to_vec()));
        let tally = Arc::new(PeerTally::default());
        let link = Link {
            control: self.caller(id, &urls, &tally),
            log: self.caller(id, &urls, &tally),
            calls: self.client(id, &urls, &tally),
            bulk: self.client(id, &urls, &tally),
        };
        peers.insert(
            id,
            Peer {
                urls,
                link: link.clone(),
                tally,
            },
        );
        link
    }

    /// Where the traffic with a member is counted, if there has been a link to it.
    pub(crate) fn tally(&self, id: u64) -> Option<Arc<PeerTally>> {
        Some(self.peers.lock().get(&id)?.tally.clone())
    }

    /// What has been counted of each member, by ascending id.
    pub(crate) fn counters(&self) -> Vec<PeerCounters> {
        let peers = self.peers.lock();
        let mut counters: Vec<_> = peers
            .iter()
            .map(|(id, peer)| peer.tally.read(*id))
            .collect();
        counters.sort_unstable_by_key(|peer| peer.id);
        counters
    }

    fn caller(&self, id: u64, urls: &Arc<ArcSwap<Vec<String>>>, tally: &Arc<PeerTally>) -> Caller {
        let dial = Dial {
            connect: self.connect.clone(),
            urls: urls.clone(),
            cluster_id: self.cluster_id,
            from: self.member_id,
            to: id,
            silence: self.silence,
        };
        Caller::new(dial, tally.clone(), self.runtime.clone())
    }

    fn client(&self, id: u64, urls: &Arc<ArcSwap<Vec<String>>>, tally: &Arc<PeerTally>) -> Client {
        let identity = Identity::new(self.cluster_id, self.member_id, id);
        let channel = Outgoing {
            inner: channel(self.connect.clone(), urls.clone(), self.silence),
            tally: tally.clone(),
        };
        PeerClient::with_interceptor(channel, identity)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

/// A stub for a member whose id is not known yet.
pub(crate) fn stranger(connect: Connect, url: String, silence: Duration) -> PeerClient<Channel> {
    let urls = Arc::new(ArcSwap::from_pointee(vec![url]));
    PeerClient::new(channel(connect, urls, silence))
}

fn channel(connect: Connect, urls: Arc<ArcSwap<Vec<String>>>, silence: Duration) -> Channel {
    // The address is the connector's business; the endpoint needs some authority.
    Endpoint::from_static("http://peer.metastore")
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(1))
        // A ping after a fifth of it, the rest for its answer.
        .http2_keep_alive_interval(silence / 5)
        .keep_alive_timeout(silence / 5 * 4)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(32 << 20)
        .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (connect, urls) = (connect.clone(), urls.load_full());
            async move { first_reachable(&connect, &urls).await.map(TokioIo::new) }
        }))
}

/// A stream to the first of a member's URLs where somebody answers.
pub(crate) async fn first_reachable(
    connect: &Connect,
    urls: &[String],
) -> io::Result<Box<dyn PeerStream>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "member has no peer url");
    for url in urls {
        match connect(url.clone()).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Stamps each request with the cluster, the sender and the receiver.
#[derive(Clone)]
pub(crate) struct Identity {
    cluster: MetadataValue<tonic::metadata::Ascii>,
    from: MetadataValue<tonic::metadata::Ascii>,
    to: MetadataValue<tonic::metadata::Ascii>,
}

impl Identity {
    fn new(cluster_id: u64, from: u64, to: u64) -> Self {
        Self {
            cluster: cluster_id.into(),
            from: from.into(),
            to: to.into(),
        }
    }
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(CLUSTER, self.cluster.clone());
        metadata.insert(FROM, self.from.clone());
        metadata.insert(TO, self.to.clone());
        Ok(request)
    }
}

/// Refuses requests of another cluster, or meant for another member.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

impl Doorkeeper {
    /// Why who shows these numbers (by metadata key) may not come in.
    pub(crate) fn objection(&self, number: impl Fn(&'static str) -> Option<u64>) -> Option<String> {
        match (number(CLUSTER), number(TO)) {
            (Some(cluster), _) if cluster != self.cluster_id => Some(format!(
                "cluster ID mismatch: {cluster:x} is not {:x}",
                self.cluster_id
            )),
            (_, Some(to)) if to != self.member_id => Some(format!(
                "member ID mismatch: {to:x} is not {:x}",
                self.member_id
            )),
            _ => None,
        }
    }
}

impl Interceptor for Doorkeeper {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata();
        let number = |key| metadata.get(key)?.to_str().ok()?.parse::<u64>().ok();
        match self.objection(number) {
            Some(why) => Err(Status::failed_precondition(why)),
            None => Ok(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use metastore_proto::peerpb::HelloRequest;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A member that takes what is sent and never says a word, not even to a ping.
    fn silent(connections: Arc<AtomicUsize>) -> Connect {
        Arc::new(move |_| {
            let connections = connections.clone();
            Box::pin(async move {
                let (here, mut there) = tokio::io::duplex(1 << 16);
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut sink = vec![0; 4096];
                    while there.read(&mut sink).await.is_ok_and(|bytes| bytes > 0) {}
                });
                Ok(Box::new(here) as Box<dyn PeerStream>)
            })
        })
    }

    /// As of the connections of [`crate::connection`].
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_silent_for_too_long_is_given_up() {
        for silence in [5, 20].map(Duration::from_secs) {
            let connections = Arc::new(AtomicUsize::new(0));
            let connect = silent(connections.clone());
            let mut client = stranger(connect, "http://nobody".to_owned(), silence);
            let (clock, since) = (tokio::time::Instant::now(), Instant::now());
            let answer = client.hello(HelloRequest::default()).await;
            assert!(answer.is_err(), "nobody can have answered");
            let took = clock.elapsed();
            assert!(
                took >= silence / 2 && took <= silence + Duration::from_secs(1),
                "given up after {took:?} instead of {silence:?}"
            );
            assert!(since.elapsed() < silence, "the clock was not paused");
            assert_eq!(connections.load(Ordering::Relaxed), 1);
        }
    }
}
