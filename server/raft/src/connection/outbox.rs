//! What is to be written to a connection, by many, and its one task that waits for the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::time::Instant;

use super::frame::{self, Kind};
use crate::peers::PeerStream;
use crate::wire::Malformed;

/// With more than this unwritten nothing should be added.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// An empty buffer larger than this is given back.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

type Half = WriteHalf<Box<dyn PeerStream>>;

/// The way out of one end of a connection.
///
/// Whenever something is unwritten, the task has been woken since it was put there, or waits for the socket.
pub(crate) struct Outbox {
    state: Mutex<State>,
    task: AtomicWaker,
    room: AtomicWaker,
}

struct State {
    half: Half,
    buffer: BytesMut,
    /// What was written has left this process.
    flushed: bool,
    /// The socket was full; whatever it takes then the other side's system has read.
    blocked: bool,
    taken: Instant,
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(half: Half) -> Self {
        Self {
            state: Mutex::new(State {
                half,
                buffer: BytesMut::new(),
                flushed: true,
                blocked: false,
                taken: Instant::now(),
                closed: false,
            }),
            task: AtomicWaker::new(),
            room: AtomicWaker::new(),
        }
    }

    /// Adds a frame; the task writes it, with what else there is by then. How many bytes it has.
    ///
    /// # Errors
    /// The connection is closed, or the frame too long; it has not been added.
    pub(crate) fn put(&self, kind: Kind, number: u64, body: &impl Message) -> io::Result<usize> {
        self.add(|buffer| frame::put(buffer, kind, number, body))
    }

    fn add(
        &self,
        put: impl FnOnce(&mut BytesMut) -> Result<usize, Malformed>,
    ) -> io::Result<usize> {
        let mut state = self.state.lock();
        let idle = state.is_idle();
        let bytes = state.add(put)?;
        drop(state);
        if idle {
            self.task.wake();
        }
        Ok(bytes)
    }

    /// As [`Outbox::put`], of a message that has been encoded already.
    pub(crate) fn put_encoded(&self, kind: Kind, number: u64, body: &[u8]) -> io::Result<usize> {
        self.add(|buffer| frame::put_encoded(buffer, kind, number, body))
    }

    /// Adds a frame and writes it at once, where nothing is in its way. How many bytes it has.
    ///
    /// # Errors
    /// As [`Outbox::put`]. That it could not be written the task finds out.
    pub(crate) fn send(&self, kind: Kind, number: u64, body: &impl Message) -> io::Result<usize> {
        let mut state = self.state.lock();
        let idle = state.is_idle();
        let bytes = state.add(|buffer| frame::put(buffer, kind, number, body))?;
        // The socket remembers one waker. While it is the task's, it is the task that writes.
        let written = idle && {
            let mut nobody = Context::from_waker(Waker::noop());
            matches!(state.poll_write(&mut nobody), Poll::Ready(Ok(())))
        };
        drop(state);
        if idle && !written {
            self.task.wake();
        }
        Ok(bytes)
    }

    /// Writes what there is; ready when all of it has been written. For the task alone.
    pub(crate) fn poll_drain(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.task.register(context.waker());
        let mut state = self.state.lock();
        if state.is_idle() {
            return Poll::Ready(Ok(()));
        }
        let drained = state.poll_write(context);
        let has_room = !state.is_crowded();
        drop(state);
        if has_room {
            self.room.wake();
        }
        drained
    }

    /// When a full socket last took something: somebody is there and reads.
    pub(crate) fn taken(&self) -> Instant {
        self.state.lock().taken
    }

    /// Whether more should be added; if not, `context` is woken when it should.
    pub(crate) fn has_room(&self, context: &Context<'_>) -> bool {
        if !self.state.lock().is_crowded() {
            return true;
        }
        self.room.register(context.waker());
        !self.state.lock().is_crowded()
    }

    /// Nothing is added or written any more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.wake();
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.flushed
    }

    fn is_crowded(&self) -> bool {
        self.buffer.len() > BACKLOG_BYTES_MAX && !self.closed
    }

    fn add(
        &mut self,
        put: impl FnOnce(&mut BytesMut) -> Result<usize, Malformed>,
    ) -> io::Result<usize> {
        if self.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        put(&mut self.buffer).map_err(io::Error::other)
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            self.flushed = false;
            let write = Pin::new(&mut self.half).poll_write(context, &self.buffer);
            let Poll::Ready(written) = write else {
                self.blocked = true;
                return Poll::Pending;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if self.blocked {
                self.taken = Instant::now();
            }
            self.buffer.advance(written);
        }
        if !self.flushed {
            ready!(Pin::new(&mut self.half).poll_flush(context))?;
            self.flushed = true;
        }
        self.blocked = false;
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}
