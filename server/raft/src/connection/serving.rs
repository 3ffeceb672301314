//! The end of a connection that answers.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use metastore_proto::peerpb::Refusal;
use prost::Message;
use tokio::io::split;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::frame::{Frame, Kind};
use super::in_order::InOrder;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::session::WINDOW;
use crate::answers::{Answers, Appended};
use crate::peer_tally::PeerTally;
use crate::peers::PeerStream;
use crate::together::Together;

/// Questions that are answered at once; more are not read before.
const CALLS_MAX: usize = 1024;

type Answering = Pin<Box<dyn Future<Output = (u64, Result<Vec<u8>, Refusal>)> + Send>>;
type Appending = Pin<Box<dyn Future<Output = Result<Appended, Refusal>> + Send>>;

/// Answers the member `from` until the connection ends, or nothing arrives for `silence`.
pub(crate) async fn serve(
    stream: Box<dyn PeerStream>,
    answers: Arc<Answers>,
    from: u64,
    silence: Duration,
) {
    let (reading, writing) = split(stream);
    let mut pause = interval(silence / 5);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut serving = Serving {
        answers,
        from,
        tally: None,
        inbox: Inbox::new(reading, Bytes::new()),
        outbox: Outbox::new(writing),
        calls: Together::default(),
        appends: InOrder::default(),
        session: 0,
        session_ended: false,
        pause,
        silence,
    };
    let why = poll_fn(|context| serving.poll(context)).await;
    tracing::debug!(from = format!("{from:x}"), error = %why, "a member's connection has ended");
}

struct Serving {
    answers: Arc<Answers>,
    from: u64,
    /// Where the traffic is counted, once the member is known here.
    tally: Option<Arc<PeerTally>>,
    inbox: Inbox,
    outbox: Outbox,
    calls: Together<Answering>,
    /// Of the session; each is before openraft.
    appends: InOrder<Appending>,
    session: u64,
    /// An error has been answered: what the session asked after that is void.
    session_ended: bool,
    pause: Interval,
    silence: Duration,
}

impl Serving {
    /// Goes on with everything; ready, with the reason, when the connection has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if let Err(error) = self.answer(context) {
                return Poll::Ready(error);
            }
            match self.poll_question(context) {
                Poll::Ready(Ok(Some(frame))) => {
                    self.take(frame, context);
                    continue;
                }
                Poll::Ready(Ok(None)) => {
                    return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(error)) = self.outbox.poll_drain(context) {
                return Poll::Ready(error);
            }
            if self.pause.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            if self.inbox.heard().elapsed() >= self.silence {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Puts what has been answered meanwhile into the outbox.
    fn answer(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Poll::Ready((number, answer)) = self.calls.poll_next(context) {
            self.reply(number, answer)?;
        }
        while let Poll::Ready(appended) = self.appends.poll_next(context) {
            let last = !appended.as_ref().is_ok_and(|appended| appended.goes_on);
            let answer = appended.map(|appended| appended.answer.encode_to_vec());
            self.reply(self.session, answer)?;
            if last {
                self.session_ended = true;
                self.appends.clear();
            }
        }
        Ok(())
    }

    fn reply(&mut self, number: u64, answer: Result<Vec<u8>, Refusal>) -> io::Result<()> {
        let bytes = match answer {
            Ok(answer) => self.outbox.put_encoded(Kind::Answer, number, &answer)?,
            Err(refusal) => self.outbox.put(Kind::Refusal, number, &refusal)?,
        };
        if let Some(tally) = &self.tally {
            tally.sent(bytes);
        }
        Ok(())
    }

    /// The next question, unless there is enough to do.
    fn poll_question(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        let busy = self.calls.len() >= CALLS_MAX || self.appends.len() > WINDOW;
        if busy || !self.outbox.has_room(context) {
            return Poll::Pending;
        }
        self.inbox.poll_frame(context)
    }

    fn take(&mut self, frame: Frame, context: &mut Context<'_>) {
        if self.tally.is_none() {
            self.tally = self.answers.tally(self.from);
        }
        if let Some(tally) = &self.tally {
            tally.received(frame.bytes());
        }
        match frame.kind {
            Kind::Append => self.append(frame, context),
            _ => {
                let (answers, number) = (self.answers.clone(), frame.number);
                let answer = async move { (number, answers.answer(frame.kind, frame.body).await) };
                self.calls.push(Box::pin(answer));
            }
        }
    }

    fn append(&mut self, frame: Frame, context: &mut Context<'_>) {
        if frame.number > self.session {
            self.session = frame.number;
            self.session_ended = false;
            self.appends.clear();
        }
        // What an older session still says is void as well.
        if !self.session_ended && frame.number == self.session {
            let appending: Appending = Box::pin(self.answers.append(frame.body));
            self.appends.push(appending, context);
        }
    }
}
