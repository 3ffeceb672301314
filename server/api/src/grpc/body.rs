//! The body of an answer: an HTTP document, one gRPC message, or a stream of them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};

use crate::encoded::{Chunks, Encoded};
use crate::grpc::outbox::StreamBody;
use crate::grpc::reply;

/// What the door answers with. A gRPC answer ends with its status as trailers.
pub struct Body(State);

enum State {
    Document(Bytes),
    Message(Chunks),
    Trailers,
    Stream(Box<StreamBody>),
    Done,
}

impl Body {
    /// Nothing at all.
    pub const fn empty() -> Self {
        Self(State::Done)
    }

    /// An HTTP document.
    pub fn document(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        Self(if content.is_empty() {
            State::Done
        } else {
            State::Document(content)
        })
    }

    /// One message, then the status OK.
    pub(super) fn message(message: Encoded) -> Self {
        Self(State::Message(message.into_chunks()))
    }

    pub(super) fn stream(stream: StreamBody) -> Self {
        Self(State::Stream(Box::new(stream)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match &mut self.0 {
            State::Done => return Poll::Ready(None),
            State::Document(content) => {
                let content = std::mem::take(content);
                self.0 = State::Done;
                Frame::data(content)
            }
            State::Message(chunks) => match chunks.next() {
                Some(chunk) => {
                    if chunks.is_empty() {
                        self.0 = State::Trailers;
                    }
                    Frame::data(chunk)
                }
                None => self.end(reply::trailers(Ok(()))),
            },
            State::Trailers => self.end(reply::trailers(Ok(()))),
            State::Stream(stream) => match stream.poll_chunk(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(chunk)) => Frame::data(chunk),
                Poll::Ready(Err(result)) => self.end(reply::trailers(result)),
            },
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            State::Done => SizeHint::with_exact(0),
            State::Document(content) => SizeHint::with_exact(content.len() as u64),
            State::Message(chunks) => {
                // Not exact: hyper would announce it as the content's length, which etcd does not.
                let mut hint = SizeHint::default();
                hint.set_lower(chunks.len() as u64);
                hint
            }
            State::Trailers | State::Stream(_) => SizeHint::default(),
        }
    }
}

impl Body {
    fn end(&mut self, trailers: HeaderMap) -> Frame<Bytes> {
        self.0 = State::Done;
        Frame::trailers(trailers)
    }
}
