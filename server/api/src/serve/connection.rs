//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::io::Socket;
use super::{TlsSource, Traffic};
use crate::door::Door;
use crate::grpc::{self, Body};
use crate::http::{self as pages, Pages};

/// What all connections of a port share.
pub(super) struct Connection {
    pub(super) builder: auto::Builder<TokioExecutor>,
    pub(super) handshake_timeout: Duration,
    pub(super) door: Arc<Door>,
    pub(super) tls: Option<Arc<dyn TlsSource>>,
    pub(super) traffic: Traffic,
    /// Finish what is under way.
    pub(super) stop: CancellationToken,
    /// Finish at once.
    pub(super) kill: CancellationToken,
}

impl Connection {
    /// Serves one client until it leaves.
    pub(super) async fn serve(self: Arc<Self>, socket: Socket) {
        let remote = socket.remote();
        let first = tokio::select! {
            () = self.stop.cancelled() => return,
            first = timeout(self.handshake_timeout, socket.readable()) => first,
        };
        if !matches!(first, Ok(Ok(()))) {
            return;
        }
        let Some(tls) = &self.tls else {
            return self.talk(socket, &remote).await;
        };
        let acceptor = TlsAcceptor::from(tls.config());
        let accepted = tokio::select! {
            () = self.kill.cancelled() => return,
            accepted = timeout(self.handshake_timeout, acceptor.accept(socket)) => accepted,
        };
        match accepted {
            Ok(Ok(stream)) => self.talk(stream, &remote).await,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Ok(Err(error)) => {
                tracing::warn!(remote_addr = remote, %error, "rejected connection on client endpoint")
            }
            Err(_) => tracing::warn!(
                remote_addr = remote,
                error = "TLS handshake timed out",
                "rejected connection on client endpoint"
            ),
        }
    }

    async fn talk<S>(self: &Arc<Self>, stream: S, remote: &str)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = self.clone();
        let service = service_fn(move |request| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        let mut connection = pin!(self.builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.kill.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(remote_addr = remote, error, "client connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let pages = match self.traffic {
            Traffic::Both | Traffic::Grpc if is_grpc(&request) => {
                return self.door.grpc(request).await;
            }
            Traffic::Grpc => {
                let content_type = request
                    .headers()
                    .get(CONTENT_TYPE)
                    .and_then(|value| value.to_str().ok());
                return grpc::not_grpc(content_type.unwrap_or_default());
            }
            Traffic::Both | Traffic::Http => Pages::All,
            Traffic::Metrics => Pages::Metrics,
        };
        Box::pin(pages::answer(
            &self.door,
            request,
            pages,
            self.tls.is_some(),
        ))
        .await
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
