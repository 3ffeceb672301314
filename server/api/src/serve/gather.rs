//! A byte stream whose large writes gather until its task has nothing more to write.
//!
//! HTTP/2 cuts a long answer into frames of 16 KiB and writes, and flushes, each by itself: a system call, a segment and a
//! client that is woken up for each. Here they go out together, at most [`ROOM`] bytes at a time. Small writes pass.
//! Promises: what was written is sent as soon as the task calls [`Sender::poll_send`], which it must before it rests; memory
//! is held only meanwhile; bytes that could not be sent are an error to who reads or writes next. Must not know what the bytes mean.

use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest frame that h2 writes unless a client asks for larger ones, with its head.
const FRAME: usize = 9 + (16 << 10);
/// Bytes that wait at most: a page of a list, and some small ones. Fewer cost the client a wake-up for each.
const ROOM: usize = 32 * FRAME + (2 << 10);
/// Writes that are smaller pass when nothing waits.
const LARGE: usize = 8 << 10;

struct Gathered<S> {
    stream: S,
    waiting: Vec<u8>,
    /// How much of what waits has been sent.
    sent: usize,
    /// Why what waited is lost, until it is told.
    failed: Option<Error>,
}

/// The stream.
pub(super) struct Gather<S>(Arc<Mutex<Gathered<S>>>);

/// Sends what waits.
pub(super) struct Sender<S>(Arc<Mutex<Gathered<S>>>);

/// Makes both ends of it.
pub(super) fn gather<S>(stream: S) -> (Gather<S>, Sender<S>) {
    let gathered = Arc::new(Mutex::new(Gathered {
        stream,
        waiting: Vec::new(),
        sent: 0,
        failed: None,
    }));
    (Gather(gathered.clone()), Sender(gathered))
}

impl<S: AsyncWrite + Unpin> Sender<S> {
    /// Sends what waits, as far as the stream takes it; wakes the task when it takes more, and when it failed, which is
    /// told to the next who reads or writes.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) {
        let mut gathered = self.0.lock();
        if let Poll::Ready(Err(error)) = gathered.poll_send(context) {
            gathered.failed = Some(error);
            context.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// The failure that has not been told yet.
    fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.sent < self.waiting.len() {
            let stream = Pin::new(&mut self.stream);
            let sent = match ready!(stream.poll_write(context, &self.waiting[self.sent..])) {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                sent => sent,
            };
            match sent {
                Ok(sent) => self.sent += sent,
                Err(error) => {
                    self.forget();
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.forget();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn forget(&mut self) {
        (self.waiting, self.sent) = (Vec::new(), 0);
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.check()?;
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        if self.waiting.len() + bytes > ROOM {
            ready!(self.poll_send(context))?;
        }
        if self.waiting.is_empty() && !(LARGE..=ROOM).contains(&bytes) {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        if self.waiting.is_empty() {
            self.waiting.reserve_exact(ROOM);
        }
        for slice in slices {
            self.waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let mut gathered = self.0.lock();
        gathered.check()?;
        Pin::new(&mut gathered.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.0.lock().poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        self.0.lock().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What waits goes on waiting, for the sender.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut gathered = self.0.lock();
        gathered.check()?;
        if gathered.waiting.is_empty() {
            return Pin::new(&mut gathered.stream).poll_flush(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut gathered = self.0.lock();
        gathered.check()?;
        ready!(gathered.poll_send(context))?;
        Pin::new(&mut gathered.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    async fn send<S: AsyncWrite + Unpin>(sender: &Sender<S>) {
        poll_fn(|context| {
            sender.poll_send(context);
            Poll::Ready(())
        })
        .await;
    }

    /// What can be read without waiting.
    async fn arrived(client: &mut DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        while client.read_buf(&mut bytes).now_or_never().is_some() {}
        bytes
    }

    #[tokio::test]
    async fn large_writes_go_out_together_when_the_task_rests() {
        let (server, mut client) = duplex(1 << 20);
        let (mut stream, sender) = gather(server);
        stream.write_all(b"small").await.expect("written");
        assert_eq!(arrived(&mut client).await, b"small");
        for frame in [1_u8, 2, 3, 4] {
            stream.write_all(&[frame; FRAME]).await.expect("written");
            stream.flush().await.expect("flushed");
        }
        stream.write_all(b"end").await.expect("written");
        assert!(arrived(&mut client).await.is_empty());
        send(&sender).await;
        let frames = [[1; FRAME], [2; FRAME], [3; FRAME], [4; FRAME]];
        let expected = [&frames.concat()[..], b"end"].concat();
        assert_eq!(arrived(&mut client).await, expected);
        stream.write_all(b"small").await.expect("written");
        assert_eq!(arrived(&mut client).await, b"small");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_makes_the_writer_wait() {
        let (server, mut client) = duplex(1000);
        let (mut stream, sender) = gather(server);
        let all = vec![7; 3 * ROOM];
        let mut written = 0;
        while let Some(more) = stream.write(&all[written..][..LARGE]).now_or_never() {
            written += more.expect("written");
            send(&sender).await;
        }
        assert!((LARGE..=ROOM).contains(&written), "{written} bytes wait");
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).await.map(|_| bytes)
        });
        stream.write_all(&all[written..]).await.expect("written");
        stream.shutdown().await.expect("what waited is sent first");
        drop((stream, sender));
        assert_eq!(reading.await.expect("read").expect("read"), all);
    }

    /// A stream that fails once and then takes everything.
    #[derive(Default)]
    struct Faulty {
        has_failed: bool,
    }

    impl AsyncRead for Faulty {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Faulty {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<Result<usize>> {
            if std::mem::replace(&mut self.has_failed, true) {
                return Poll::Ready(Ok(bytes.len()));
            }
            Poll::Ready(Err(std::io::ErrorKind::OutOfMemory.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn lost_bytes_are_told_to_who_reads_or_writes_next() {
        for reads in [true, false] {
            let (mut stream, sender) = gather(Faulty::default());
            stream.write_all(&[7; LARGE]).await.expect("waits");
            send(&sender).await;
            let told = if reads {
                stream.read(&mut [0; 10]).await
            } else {
                stream.write(b"more").await
            };
            let kind = told.expect_err("bytes are missing").kind();
            assert_eq!(kind, std::io::ErrorKind::OutOfMemory);
        }
    }
}
