//! The end of a connection that asks.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use metastore_proto::peerpb::Refusal;
use parking_lot::Mutex;
use prost::Message;
use tokio::io::split;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::frame::{Frame, Kind};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::upgrade::{Dial, Refused};
use crate::peer_tally::PeerTally;
use crate::peers::PeerStream;
use crate::wire::Malformed;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The question has not left this member.
    #[error("not connected: {0}")]
    NotSent(Arc<io::Error>),
    /// The connection broke: whether the question arrived is not known.
    #[error("the connection has ended")]
    Lost,
    /// The member does not answer it.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The answer is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Asks one member. The connection is made when it is needed, and anew when it has broken. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Inner>);

struct Inner {
    dial: Dial,
    tally: Arc<PeerTally>,
    runtime: Handle,
    way: Mutex<Way>,
}

/// The way to the member.
enum Way {
    None,
    /// Goes on whether or not somebody waits for it: a heartbeat's patience may be shorter than a handshake.
    Opening(Shared<Opening>),
    Open(Arc<Open>),
}

type Opening = BoxFuture<'static, Result<Arc<Open>, Arc<io::Error>>>;

impl Caller {
    /// The connection lives on `runtime`.
    pub(crate) fn new(dial: Dial, tally: Arc<PeerTally>, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            dial,
            tally,
            runtime,
            way: Mutex::new(Way::None),
        }))
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call<A: Message + Default>(
        &self,
        kind: Kind,
        question: &impl Message,
    ) -> Result<A, CallError> {
        let answer = self.open().await?.ask(kind, question).await?;
        decode(answer)
    }

    /// What somebody who answers there says against a connection; none when it would be let in, or nobody answers.
    pub(crate) async fn refusal(&self) -> Option<String> {
        let error = self.0.dial.connect().await.err()?;
        let refused = error.get_ref()?.is::<Refused>();
        refused.then(|| error.to_string())
    }

    /// The connection there is, or a new one.
    pub(super) async fn open(&self) -> Result<Arc<Open>, CallError> {
        let opening = {
            let mut way = self.0.way.lock();
            match &*way {
                Way::Open(open) if !open.is_closed() => return Ok(open.clone()),
                Way::Opening(opening) => opening.clone(),
                Way::Open(_) | Way::None => {
                    let opening = self.begin();
                    *way = Way::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await.map_err(CallError::NotSent)
    }

    /// Has a connection made. The caller holds the lock of the way, which is set when there is one, or none.
    fn begin(&self) -> Shared<Opening> {
        let inner = self.0.clone();
        let opening = self.0.runtime.spawn(async move {
            let opened = inner.dial.connect().await;
            let opened = opened.map_err(|error| {
                inner.tally.unreachable();
                Arc::new(error)
            });
            let opened = opened.map(|(stream, read)| {
                let (inbox, open) = Open::new(stream, read, inner.tally.clone());
                let listening = listen(open.clone(), inbox, inner.dial.silence);
                inner.runtime.spawn(listening);
                open
            });
            *inner.way.lock() = match &opened {
                Ok(open) => Way::Open(open.clone()),
                Err(_) => Way::None,
            };
            opened
        });
        let opening = async move {
            let opened = opening.await;
            opened.unwrap_or_else(|ended| Err(Arc::new(io::Error::other(ended))))
        };
        opening.boxed().shared()
    }
}

/// What an answer says.
pub(super) fn decode<A: Message + Default>(frame: Frame) -> Result<A, CallError> {
    let malformed = |error: prost::DecodeError| CallError::Malformed(Malformed(error.to_string()));
    match frame.kind {
        Kind::Answer => A::decode(frame.body).map_err(malformed),
        _ => Err(CallError::Refused(
            Refusal::decode(frame.body).map_err(malformed)?,
        )),
    }
}

/// One connection.
pub(super) struct Open {
    outbox: Outbox,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
    tally: Arc<PeerTally>,
}

/// Who waits for answers.
#[derive(Default)]
struct Waiting {
    calls: HashMap<u64, oneshot::Sender<Frame>>,
    session: Option<(u64, mpsc::Sender<Frame>)>,
    closed: bool,
}

impl Open {
    fn new(stream: Box<dyn PeerStream>, read: Bytes, tally: Arc<PeerTally>) -> (Inbox, Arc<Self>) {
        let (reading, writing) = split(stream);
        let open = Self {
            outbox: Outbox::new(writing),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            tally,
        };
        (Inbox::new(reading, read), Arc::new(open))
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    async fn ask(&self, kind: Kind, question: &impl Message) -> Result<Frame, CallError> {
        let (sender, answer) = oneshot::channel();
        let number = self.next.fetch_add(1, Relaxed);
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(not_connected());
            }
            waiting.calls.insert(number, sender);
        }
        let _asked = Asked { open: self, number };
        self.write(kind, number, question)?;
        answer.await.map_err(|_| CallError::Lost)
    }

    fn write(&self, kind: Kind, number: u64, question: &impl Message) -> Result<(), CallError> {
        let written = match kind {
            // Of these many come together.
            Kind::LeaseRenew | Kind::LeaseRemaining => self.outbox.put(kind, number, question),
            _ => self.outbox.send(kind, number, question),
        };
        let bytes = written.map_err(|error| CallError::NotSent(Arc::new(error)))?;
        self.tally.sent(bytes);
        Ok(())
    }

    /// Writes a question of a session, unless another one has begun.
    pub(super) fn append(&self, session: u64, question: &impl Message) -> Result<(), CallError> {
        let waiting = self.waiting.lock();
        match &waiting.session {
            Some((current, _)) if *current == session => {
                self.write(Kind::Append, session, question)
            }
            _ => Err(not_connected()),
        }
    }

    /// A session of the log begins: its number, and where its answers arrive. It ends the one before.
    ///
    /// No more than `window` questions may be without an answer.
    pub(super) fn begin(&self, window: usize) -> (u64, mpsc::Receiver<Frame>) {
        let (sender, answers) = mpsc::channel(window);
        let number = self.next.fetch_add(1, Relaxed);
        let mut waiting = self.waiting.lock();
        if !waiting.closed {
            waiting.session = Some((number, sender));
        }
        (number, answers)
    }

    /// Nobody waits for the session's answers any more.
    pub(super) fn end(&self, session: u64) {
        let mut waiting = self.waiting.lock();
        waiting.session.take_if(|(number, _)| *number == session);
    }

    fn deliver(&self, frame: Frame) {
        self.tally.received(frame.bytes());
        let mut waiting = self.waiting.lock();
        if let Some(call) = waiting.calls.remove(&frame.number) {
            // Who has gone needs no answer.
            let _ = call.send(frame);
        } else if let Some((number, answers)) = &waiting.session
            && *number == frame.number
        {
            // There is room for as many as may be asked.
            let _ = answers.try_send(frame);
        }
    }

    /// Tells everybody that there will be no answer.
    fn close(&self, why: &io::Error) {
        self.outbox.close();
        let mut waiting = self.waiting.lock();
        tracing::debug!(error = %why, calls = waiting.calls.len(), "a connection to a member has ended");
        *waiting = Waiting {
            closed: true,
            ..Waiting::default()
        };
        drop(waiting);
        self.tally.broken_off();
    }
}

fn not_connected() -> CallError {
    CallError::NotSent(Arc::new(io::ErrorKind::NotConnected.into()))
}

/// A question whose answer somebody waits for.
struct Asked<'o> {
    open: &'o Open,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.open.waiting.lock().calls.remove(&self.number);
    }
}

/// The connection's task: takes what arrives, and writes what could not be written at once.
async fn listen(open: Arc<Open>, mut inbox: Inbox, silence: Duration) {
    let mut tick = interval(silence / 10);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pinged: Option<Instant> = None;
    let why = poll_fn(|context| {
        loop {
            match inbox.poll_frame(context) {
                Poll::Ready(Ok(Some(frame))) => {
                    open.tally.reached();
                    open.deliver(frame);
                    continue;
                }
                Poll::Ready(Ok(None)) => {
                    return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(error)) = open.outbox.poll_drain(context) {
                return Poll::Ready(error);
            }
            if tick.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            let alive = inbox.heard().max(open.outbox.taken());
            pinged.take_if(|pinged| *pinged <= alive);
            match pinged {
                // A fifth of the time has passed before it.
                Some(pinged) if pinged.elapsed() >= silence / 5 * 4 => {
                    return Poll::Ready(io::ErrorKind::TimedOut.into());
                }
                None if alive.elapsed() >= silence / 5 => {
                    pinged = Some(Instant::now());
                    // The answer is nobody's; that it comes is enough.
                    let _ = open.outbox.put(Kind::Ping, 0, &());
                }
                _ => {}
            }
        }
    })
    .await;
    open.close(&why);
}
