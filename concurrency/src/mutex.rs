//! A lock that one session at a time holds, in the order in which it was asked for.

use etcd_client::Compare;

use crate::place::Place;
use crate::{Error, Session};

/// A lock by name.
#[derive(Debug, Clone)]
pub struct Mutex {
    session: Session,
    /// The name and a slash: keys of those who wait lie below.
    prefix: Vec<u8>,
}

/// The lock, held. Dropped, it is freed in the background; [`Guard::unlock`] tells when it is.
#[derive(Debug)]
#[must_use = "the lock is freed when the guard is dropped"]
pub struct Guard {
    place: Place,
}

impl Mutex {
    /// The lock of a name, to be held by a session.
    pub fn new(session: &Session, name: impl AsRef<[u8]>) -> Self {
        Self {
            session: session.clone(),
            prefix: [name.as_ref(), b"/"].concat(),
        }
    }

    /// Waits for the lock: until all that asked for it before have freed it, tasks with the same session among them.
    ///
    /// Whoever stops waiting, by dropping the future, gives its place up.
    ///
    /// # Errors
    /// [`Error::SessionLost`] when the session ends first; those of asking for the place.
    pub async fn lock(&self) -> Result<Guard, Error> {
        let turn = self.session.turn(&self.prefix).await;
        let taken = Place::take(&self.session, &self.prefix, b"", turn).await?;
        if !taken.is_first {
            taken.place.wait().await?;
        }
        Ok(Guard { place: taken.place })
    }

    /// The lock, if nobody has it; none otherwise.
    ///
    /// # Errors
    /// Those of asking for it.
    pub async fn try_lock(&self) -> Result<Option<Guard>, Error> {
        let Some(turn) = self.session.try_turn(&self.prefix) else {
            return Ok(None);
        };
        let taken = Place::take(&self.session, &self.prefix, b"", turn).await?;
        if taken.is_first {
            return Ok(Some(Guard { place: taken.place }));
        }
        taken.place.give_up().await?;
        Ok(None)
    }
}

impl Guard {
    /// Frees the lock.
    ///
    /// # Errors
    /// Those of asking for it: then it is tried again in the background until the session ends.
    pub async fn unlock(self) -> Result<(), Error> {
        self.place.give_up().await
    }

    /// The condition that makes a transaction fail when the lock is not held any more.
    pub fn is_owner(&self) -> Compare {
        self.place.is_held()
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        self.place.session()
    }

    /// The key that stands for it.
    pub fn key(&self) -> &[u8] {
        self.place.key()
    }

    /// The revision at which it was asked for: it rises from holder to holder.
    pub fn revision(&self) -> i64 {
        self.place.revision()
    }
}
