//! What arrives on a connection, as frames.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::Instant;

use super::frame::{self, Frame};
use crate::peers::PeerStream;

/// Room for what is read at once. A frame that is longer than this is made room for as it comes, so that a length
/// alone costs nothing.
const READ_BYTES: usize = 16 << 10;
const READ_BYTES_MAX: usize = 1 << 20;
const READ_BYTES_MIN: usize = 1 << 10;

/// The way in at one end of a connection.
pub(crate) struct Inbox {
    half: ReadHalf<Box<dyn PeerStream>>,
    buffer: BytesMut,
    heard: Instant,
}

impl Inbox {
    /// `read` has arrived already.
    pub(crate) fn new(half: ReadHalf<Box<dyn PeerStream>>, read: Bytes) -> Self {
        let buffer = BytesMut::from(read);
        let heard = Instant::now();
        Self {
            half,
            buffer,
            heard,
        }
    }

    /// When something last arrived.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next frame; none when the other side has closed the connection.
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Frame>>> {
        loop {
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            if let Some(frame) = frame::take(&mut self.buffer).map_err(invalid)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            self.make_room();
            let read = ready!(pin!(self.half.read_buf(&mut self.buffer)).poll(context))?;
            self.heard = Instant::now();
            if read == 0 {
                return Poll::Ready(match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
    }

    /// Frames share the memory that they were read into: what is left of it is used up before there is more.
    fn make_room(&mut self) {
        let room = self.buffer.capacity() - self.buffer.len();
        let missing = frame::missing(&self.buffer).min(READ_BYTES_MAX);
        if room < missing.max(READ_BYTES_MIN) {
            self.buffer.reserve(missing.max(READ_BYTES));
        }
    }
}
