//! Connections on the client's port: gRPC and HTTP, versions 1.1 and 2, plain or TLS, on one listener.
//!
//! Promises: a connection that sends rubbish, stalls or breaks harms nobody else; ten thousand idle ones
//! cost memory only; on stop nothing new is accepted, what is under way is finished within a bound, and
//! then the port is free.
//! This module must not know methods or pages.

mod connection;
mod gather;
mod io;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::Door;
use connection::Connection;
use io::Socket;

/// Pause after a failed accept, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Gives the TLS configuration in force, asked once per connection: certificates can be exchanged at any time.
///
/// The configuration has to offer `h2` and `http/1.1` by ALPN.
pub trait TlsSource: Send + Sync + 'static {
    /// The configuration for a connection that begins now.
    fn config(&self) -> Arc<ServerConfig>;
}

/// Where connections come from.
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// gRPC and all HTTP pages: etcd's habit.
    Both,
    /// Only gRPC, when `--listen-client-http-urls` gives the pages a port of their own.
    Grpc,
    /// Only the HTTP pages.
    Http,
    /// `/metrics` and the health pages: `--listen-metrics-urls`.
    Metrics,
}

/// One listener and how it is served.
pub struct Port {
    /// Where connections come from.
    pub listener: Listener,
    /// TLS, if there is any.
    pub tls: Option<Arc<dyn TlsSource>>,
    /// What it is for.
    pub traffic: Traffic,
}

/// Bounds of connections.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Requests and streams at a time on one connection (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// Ask an idle client so often whether it is there (`--grpc-keepalive-interval`); `None` never.
    pub keepalive_interval: Option<Duration>,
    /// It has so long to answer (`--grpc-keepalive-timeout`).
    pub keepalive_timeout: Duration,
    /// A client has so long to say something at all, or to finish the TLS handshake.
    pub handshake_timeout: Duration,
    /// On stop, what is under way has so long to finish.
    pub drain: Duration,
}

impl Default for Connections {
    /// etcd's defaults.
    fn default() -> Self {
        Self {
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Some(Duration::from_secs(2 * 3600)),
            keepalive_timeout: Duration::from_secs(20),
            handshake_timeout: Duration::from_secs(120),
            drain: Duration::from_millis(500),
        }
    }
}

impl Port {
    /// Serves the door here until `stop`, then ends the door's streams, lets requests finish and returns; the
    /// listener is closed by then.
    pub async fn serve(self, door: Arc<Door>, options: Connections, stop: CancellationToken) {
        let Self {
            listener,
            tls,
            traffic,
        } = self;
        let tasks = TaskTracker::new();
        let kill = CancellationToken::new();
        let shared = Arc::new(Connection {
            options: options.clone(),
            door: door.clone(),
            tls,
            traffic,
            stop: stop.clone(),
            kill: kill.clone(),
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(socket) => drop(tasks.spawn(shared.clone().serve(socket))),
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a client connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        door.stop_streams();
        tasks.close();
        if tokio::time::timeout(options.drain, tasks.wait())
            .await
            .is_err()
        {
            kill.cancel();
            tasks.wait().await;
        }
    }
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A connection that is gone already is found out on first use.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}
