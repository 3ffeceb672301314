//! Messages of a request's body.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};
use prost::Message;

use crate::grpc::unfinished::{Held, UNFINISHED};
use crate::grpc::{Code, PREFIX_BYTES};
use crate::metrics::MethodCounters;
use crate::status::{self, Refusal};

const NO_MESSAGE: Refusal = Refusal::new(
    Code::Internal,
    "cardinality violation: received no request message from non-client-streaming RPC",
);
const MANY_MESSAGES: Refusal = Refusal::new(
    Code::Internal,
    "cardinality violation: received multiple request messages for non-client-streaming RPC",
);
const COMPRESSED: Refusal = Refusal::new(
    Code::Unimplemented,
    "grpc: no decompressor available for compressed payload",
);

/// The messages a client sends, one by one, each at most `limit` bytes.
///
/// [`Inbox::next`] is cancel-safe: dropped half way it loses nothing.
pub struct Inbox {
    body: Incoming,
    /// What has arrived and not been handed out; a lone chunk stays the buffer it came in.
    arrived: Arrived,
    /// For a message that comes in more than one chunk, until it is there as a whole.
    held: Option<Held>,
    limit: usize,
    counters: Option<Arc<MethodCounters>>,
}

enum Arrived {
    Chunk(Bytes),
    Joined(BytesMut),
}

impl Inbox {
    /// Reads from `body`.
    pub fn new(body: Incoming, limit: usize) -> Self {
        Self {
            body,
            arrived: Arrived::Chunk(Bytes::new()),
            held: None,
            limit,
            counters: None,
        }
    }

    /// Reads from `body` and counts the messages.
    pub fn counted(body: Incoming, limit: usize, counters: Arc<MethodCounters>) -> Self {
        Self {
            counters: Some(counters),
            ..Self::new(body, limit)
        }
    }

    /// The one message of a unary request. Waits for the client's end of stream as well.
    pub async fn only(mut self) -> Result<Bytes, Refusal> {
        let message = self.next().await?;
        let message = message.ok_or(NO_MESSAGE)?;
        if !self.is_done() && self.next().await?.is_some() {
            return Err(MANY_MESSAGES);
        }
        Ok(message)
    }

    /// The next message, `None` after the client's last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn is_done(&self) -> bool {
        self.arrived.bytes().is_empty() && self.body.is_end_stream()
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Refusal>> {
        loop {
            if let Some(message) = self.arrived.take_message(self.limit)? {
                self.held = None;
                if let Some(counters) = &self.counters {
                    counters.received(message.len());
                }
                return Poll::Ready(Ok(Some(message)));
            }
            let frame = match std::pin::Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(status::CONTEXT_CANCELED)),
                Poll::Ready(None) if self.arrived.bytes().is_empty() => {
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Refusal::new(Code::Internal, "unexpected EOF")));
                }
            };
            // A client's trailers mean nothing in gRPC.
            if let Ok(data) = frame.into_data() {
                if self.held.is_none() && !self.arrived.bytes().is_empty() {
                    let whole = length_of_message(self.arrived.bytes()).unwrap_or(self.limit);
                    let held = UNFINISHED.hold(whole);
                    self.held = Some(held.ok_or(status::TOO_MANY_REQUESTS)?);
                }
                self.arrived.add(data, self.limit);
            }
        }
    }
}

impl Arrived {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Chunk(bytes) => bytes,
            Self::Joined(bytes) => bytes,
        }
    }

    fn add(&mut self, data: Bytes, limit: usize) {
        match self {
            Self::Chunk(chunk) if chunk.is_empty() => *chunk = data,
            Self::Chunk(chunk) => {
                // Room for the whole message at once when its length is known already.
                let whole = length_of_message(chunk).unwrap_or(0).min(limit) + PREFIX_BYTES;
                let mut joined = BytesMut::with_capacity(whole.max(chunk.len() + data.len()));
                joined.extend_from_slice(chunk);
                joined.extend_from_slice(&data);
                *self = Self::Joined(joined);
            }
            Self::Joined(joined) if joined.is_empty() => *self = Self::Chunk(data),
            Self::Joined(joined) => joined.extend_from_slice(&data),
        }
    }

    fn take_message(&mut self, limit: usize) -> Result<Option<Bytes>, Refusal> {
        let Some(length) = length_of_message(self.bytes()) else {
            return Ok(None);
        };
        if self.bytes()[0] != 0 {
            return Err(compressed(self.bytes()[0]));
        }
        if length > limit {
            let text = format!("grpc: received message larger than max ({length} vs. {limit})");
            return Err(Refusal::told(Code::ResourceExhausted, text));
        }
        if self.bytes().len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Chunk(chunk) => {
                chunk.advance(PREFIX_BYTES);
                chunk.split_to(length)
            }
            Self::Joined(joined) => {
                joined.advance(PREFIX_BYTES);
                joined.split_to(length).freeze()
            }
        }))
    }
}

/// The length in a prefix, `None` until the whole prefix is there.
fn length_of_message(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.first_chunk::<PREFIX_BYTES>()?;
    Some(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

fn compressed(flag: u8) -> Refusal {
    if flag == 1 {
        return COMPRESSED;
    }
    Refusal::told(
        Code::Internal,
        format!("grpc: received unexpected payload format {flag}"),
    )
}

/// Decodes a request; its `bytes` fields share the message's buffer.
pub fn decode<T: Message + Default>(message: Bytes) -> Result<T, Refusal> {
    T::decode(message).map_err(|error| {
        let text = format!("grpc: error unmarshalling request: {error}");
        Refusal::told(Code::Internal, text)
    })
}

/// As [`decode`], for a message of a stream: there grpc-go has another text, and hides what is wrong.
pub fn decode_streamed<T: Message + Default>(message: Bytes) -> Result<T, Refusal> {
    T::decode(message).map_err(|_| {
        let text = "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data";
        Refusal::told(Code::Internal, text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    fn all(chunks: &[&[u8]], limit: usize) -> Result<Vec<Bytes>, Refusal> {
        let mut arrived = Arrived::Chunk(Bytes::new());
        let mut messages = Vec::new();
        for chunk in chunks {
            arrived.add(Bytes::copy_from_slice(chunk), limit);
            while let Some(message) = arrived.take_message(limit)? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_come_out_however_they_were_cut() {
        let mut bytes = frame(b"one");
        bytes.extend(frame(b""));
        bytes.extend(frame(&[7; 300]));
        let expected = vec![
            Bytes::from_static(b"one"),
            Bytes::new(),
            Bytes::from(vec![7; 300]),
        ];
        for size in 1..bytes.len() {
            let chunks: Vec<_> = bytes.chunks(size).collect();
            assert_eq!(all(&chunks, 300), Ok(expected.clone()), "chunks of {size}");
        }
    }

    #[test]
    fn a_lone_message_is_not_copied() {
        let bytes = Bytes::from(frame(b"whole"));
        let mut arrived = Arrived::Chunk(Bytes::new());
        arrived.add(bytes.clone(), 10);
        let message = arrived.take_message(10).expect("fits").expect("whole");
        assert_eq!(message.as_ptr(), bytes[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn too_large_a_message_is_refused_by_its_prefix() {
        let error = all(&[&frame(b"four!")[..6]], 4).expect_err("too large");
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(
            error.text(),
            "grpc: received message larger than max (5 vs. 4)"
        );
    }

    #[test]
    fn compression_is_refused() {
        assert_eq!(
            all(&[&[1, 0, 0, 0, 0]], 9).expect_err("compressed").code(),
            Code::Unimplemented
        );
    }
}
