//! One connection from its first byte to its last.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::gather::gather;
use super::io::Socket;
use super::requests::{Event, Requests};
use super::{Connections, TlsSource, Traffic};
use crate::door::Door;
use crate::grpc::{self, Body};
use crate::http::{self as pages, Pages};

/// Room for what a client may send unasked, per stream and per connection. A put of the largest size fits in a few
/// rounds; many small requests are never held up.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Headers of one request. Tokens may be long; grpc-go takes far more.
const HEADER_LIST_BYTES: u32 = 256 * 1024;

/// Streams that a client may reset before they are looked at, or by mistakes of its own, before the connection is
/// closed. A client that gives up a thousand requests at once is no attacker.
const RESET_STREAMS: usize = 10_000;

/// A client has so long to send the head of an HTTP/1.1 request, as in etcd.
const HEADER_TIME: Duration = Duration::from_secs(300);

/// What all connections of a port share.
pub(super) struct Connection {
    pub(super) options: Connections,
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
            first = timeout(self.options.handshake_timeout, socket.readable()) => first,
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
            accepted = timeout(self.options.handshake_timeout, acceptor.accept(socket)) => accepted,
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
        let requests = Requests::default();
        let (shared, answers) = (self.clone(), requests.clone());
        let service = service_fn(move |request| {
            let (shared, answers) = (shared.clone(), answers.clone());
            async move {
                let answer = shared.answer(request).await;
                let bytes = answer.body().size_hint().lower();
                answers.answered(usize::try_from(bytes).unwrap_or(usize::MAX));
                Ok::<_, Infallible>(answer)
            }
        });
        let (stop, kill) = (self.stop.clone(), self.kill.clone());
        requests.add(async move {
            stop.cancelled().await;
            Event::Stop
        });
        requests.add(async move {
            kill.cancelled().await;
            Event::Kill
        });
        let builder = builder(&self.options, requests.clone());
        let (stream, sender) = gather(stream);
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = requests
            .run(
                connection,
                |connection| connection.graceful_shutdown(),
                |context| sender.poll_send(context),
            )
            .await;
        if let Some(Err(error)) = ended {
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

fn builder(options: &Connections, requests: Requests) -> auto::Builder<Requests> {
    let mut builder = auto::Builder::new(requests).title_case_headers(true);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .title_case_headers(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(RESET_STREAMS)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout);
    builder
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
