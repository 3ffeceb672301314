//! Counts the bytes between members, by member: messages of calls and of answers, in both directions.
//!
//! Sits around the stub that calls a member and around the service that members call, and knows nothing of
//! what they say.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::peer_tally::PeerTally;
use crate::peers::{FROM, Peers};

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// The way to one member.
#[derive(Clone)]
pub(crate) struct Outgoing<S> {
    pub(crate) inner: S,
    pub(crate) tally: Arc<PeerTally>,
}

impl<S> Service<Request<Body>> for Outgoing<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let tally = self.tally.clone();
        let answer = self
            .inner
            .call(request.map(|body| counted(body, &tally, Way::Out)));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => {
                    tally.reached();
                    Ok(answer.map(|body| counted(body, &tally, Way::In)))
                }
                Err(error) => {
                    tally.unreachable();
                    Err(error)
                }
            }
        })
    }
}

/// The service that other members call.
#[derive(Clone)]
pub(crate) struct Incoming<S> {
    pub(crate) inner: S,
    pub(crate) peers: Arc<Peers>,
}

impl<S, B> Service<Request<Body>> for Incoming<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = Status> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let sender = request.headers().get(FROM).and_then(|id| id.to_str().ok());
        let sender = sender.and_then(|id| id.parse().ok());
        // Somebody who is no member, or not known to be one yet, is not counted.
        let Some(tally) = sender.and_then(|id| self.peers.tally(id)) else {
            let answer = self.inner.call(request);
            return Box::pin(async move { Ok(answer.await?.map(Body::new)) });
        };
        let answer = self
            .inner
            .call(request.map(|body| counted(body, &tally, Way::In)));
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| counted(Body::new(body), &tally, Way::Out)))
        })
    }
}

impl<S: NamedService> NamedService for Incoming<S> {
    const NAME: &'static str = S::NAME;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

/// Messages that are counted as they pass.
struct Counted {
    body: Body,
    tally: Arc<PeerTally>,
    way: Way,
}

fn counted(body: Body, tally: &Arc<PeerTally>, way: Way) -> Body {
    Body::new(Counted {
        body,
        tally: tally.clone(),
        way,
    })
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match (&frame, self.way) {
            (Some(Ok(frame)), way) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match way {
                    Way::In => self.tally.received(bytes),
                    Way::Out => self.tally.sent(bytes),
                }
            }
            // Who gives up what it was saying is still there.
            (Some(Err(status)), Way::In) if status.code() != Code::Cancelled => {
                self.tally.broken_off();
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
