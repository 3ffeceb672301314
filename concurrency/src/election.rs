//! An election: one session at a time leads, and says something to all.

use etcd_client::{Client, Compare, Error as ClientError, EventType, KeyValue, WatchOptions};
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::{AGAIN, is_transient};
use crate::place::{Place, oldest, wait_for};
use crate::{Error, Session};

/// What an observer may be behind.
const OBSERVED: usize = 16;

/// An election by name.
#[derive(Debug, Clone)]
pub struct Election {
    session: Session,
    /// The name and a slash: keys of candidates lie below.
    prefix: Vec<u8>,
}

/// Leadership, held. Dropped, it is given up in the background; [`Leadership::resign`] tells when it is.
#[derive(Debug)]
#[must_use = "leadership is given up when this is dropped"]
pub struct Leadership {
    place: Place,
}

impl Election {
    /// The election of a name, for a session to stand in.
    pub fn new(session: &Session, name: impl AsRef<[u8]>) -> Self {
        Self {
            session: session.clone(),
            prefix: [name.as_ref(), b"/"].concat(),
        }
    }

    /// Stands for election and waits until it is won, that is until all candidates before have gone. `value` is what others
    /// are told of this leader.
    ///
    /// Whoever stops waiting, by dropping the future, is no candidate any more.
    ///
    /// # Errors
    /// [`Error::SessionLost`] when the session ends first; those of asking for the place.
    pub async fn campaign(&self, value: impl AsRef<[u8]>) -> Result<Leadership, Error> {
        let turn = self.session.turn(&self.prefix).await;
        let taken = Place::take(&self.session, &self.prefix, value.as_ref(), turn).await?;
        if taken.value.is_some_and(|there| there != value.as_ref()) {
            taken.place.set(value.as_ref()).await?;
        }
        if !taken.is_first {
            taken.place.wait().await?;
        }
        Ok(Leadership { place: taken.place })
    }

    /// The key of who leads now, with the leader's value; none when nobody does.
    ///
    /// # Errors
    /// Those of asking for it.
    pub async fn leader(&self) -> Result<Option<KeyValue>, Error> {
        let mut kv = self.session.client().kv_client();
        let answer = kv.get(self.prefix.clone(), Some(oldest())).await?;
        Ok(answer.kvs().first().cloned())
    }

    /// Follows the election: the leader of now, then each new leader, and each new value of theirs. Leaders that follow
    /// each other faster than they are read may be passed over, the last one never.
    ///
    /// The stream ends after an error; it waits while the cluster cannot be reached.
    pub fn observe(&self) -> impl Stream<Item = Result<KeyValue, Error>> + Send + Unpin + use<> {
        let (sender, receiver) = mpsc::channel(OBSERVED);
        let (client, prefix) = (self.session.client().clone(), self.prefix.clone());
        tokio::spawn(async move {
            let observer = Observer {
                client,
                prefix,
                sender: sender.clone(),
            };
            tokio::select! {
                () = sender.closed() => {}
                Err(error) = observer.run() => {
                    let _ = sender.send(Err(error)).await;
                }
            }
        });
        ReceiverStream::new(receiver)
    }
}

impl Leadership {
    /// Tells all observers another value.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when leadership has ended; those of writing.
    pub async fn proclaim(&self, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.place.set(value.as_ref()).await
    }

    /// Gives leadership up.
    ///
    /// # Errors
    /// Those of asking for it: then it is tried again in the background until the session ends.
    pub async fn resign(self) -> Result<(), Error> {
        self.place.give_up().await
    }

    /// The condition that makes a transaction fail when this leader leads no more.
    pub fn is_leader(&self) -> Compare {
        self.place.is_held()
    }

    /// The session that leads.
    pub fn session(&self) -> &Session {
        self.place.session()
    }

    /// The key that stands for it.
    pub fn key(&self) -> &[u8] {
        self.place.key()
    }

    /// The revision at which this leader stood for election.
    pub fn revision(&self) -> i64 {
        self.place.revision()
    }
}

/// Follows an election for a stream.
struct Observer {
    client: Client,
    prefix: Vec<u8>,
    sender: mpsc::Sender<Result<KeyValue, Error>>,
}

impl Observer {
    /// Runs until there is an error that does not pass.
    async fn run(&self) -> Result<(), Error> {
        let mut told = None;
        loop {
            match self.follow(&mut told).await {
                Ok(()) => {}
                Err(error) if is_transient(&error) => sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells of one leader until it has gone, or the watch has ended. `told` is what was told last: its key
    /// and revision.
    async fn follow(&self, told: &mut Option<(Vec<u8>, i64)>) -> Result<(), ClientError> {
        let mut kv = self.client.kv_client();
        let answer = kv.get(self.prefix.clone(), Some(oldest())).await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let Some(leader) = answer.kvs().first() else {
            let candidates = WatchOptions::new().with_prefix();
            let candidates = candidates.with_start_revision(revision + 1);
            return wait_for(&self.client, &self.prefix, candidates, EventType::Put).await;
        };
        self.tell(leader, told).await;
        let options = WatchOptions::new().with_start_revision(leader.mod_revision() + 1);
        let mut watches = self.client.watch_client();
        let mut watch = watches.watch(leader.key(), Some(options)).await?;
        while let Some(answer) = watch.message().await? {
            for event in answer.events() {
                match (event.event_type(), event.kv()) {
                    (EventType::Put, Some(leader)) => self.tell(leader, told).await,
                    _ => return Ok(()),
                }
            }
            if answer.canceled() {
                break;
            }
        }
        Ok(())
    }

    async fn tell(&self, leader: &KeyValue, told: &mut Option<(Vec<u8>, i64)>) {
        let now = Some((leader.key().to_vec(), leader.mod_revision()));
        // After a broken watch the same is found again.
        if *told != now {
            *told = now;
            // Who does not listen any more ends the whole task.
            let _ = self.sender.send(Ok(leader.clone())).await;
        }
    }
}
