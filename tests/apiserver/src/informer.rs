//! A client that keeps a copy of a collection up to date: it lists, watches from the list's version, and
//! comes back after every interruption, as client-go's informers do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinHandle;

use crate::apiserver::Address;
use crate::client::Refused;
use crate::objects::{items, name, next_page, version};
use crate::runner::eventually;

const QUIET: Duration = Duration::from_secs(20);
const BACK: Duration = Duration::from_millis(200);

/// What an informer has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The collection: version by name.
    pub objects: BTreeMap<String, u64>,
    /// Every change that a watch brought: kind, name, version, in order.
    pub changes: Vec<(String, String, u64)>,
    /// How often it listed.
    pub lists: usize,
    /// How often it opened a watch.
    pub watches: usize,
    /// A rule that was broken; nothing is followed after it.
    pub broken: Option<String>,
    newest: u64,
}

/// A running informer. Dropping it ends it.
pub struct Informer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Informer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Informer {
    /// Follows the collection at `path` of the apiserver at `address`.
    pub fn start(address: Address, path: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let follower = Follower {
            address,
            path: path.to_owned(),
            seen: seen.clone(),
        };
        Self {
            seen,
            task: tokio::spawn(follower.run()),
        }
    }

    /// What it has seen until now.
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until `wanted` holds of what it has seen; fails when a rule was broken or time is up.
    pub async fn wait(&self, within: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        eventually(within, async || {
            let seen = self.seen();
            ensure!(
                wanted(&seen),
                "the informer has {} objects after {} changes, {} lists, {} watches; broken: {:?}",
                seen.objects.len(),
                seen.changes.len(),
                seen.lists,
                seen.watches,
                seen.broken
            );
            Ok(seen)
        })
        .await
        .and_then(|seen| {
            ensure!(seen.broken.is_none(), "{:?}", seen.broken);
            Ok(seen)
        })
    }
}

struct Follower {
    address: Address,
    path: String,
    seen: Arc<Mutex<Seen>>,
}

impl Follower {
    async fn run(self) {
        while self.with(|seen| seen.broken.is_none()) {
            // An apiserver that is away or answers an error: try again, like every informer.
            if self.list_and_watch().await.is_err() {
                tokio::time::sleep(BACK).await;
            }
        }
    }

    async fn list_and_watch(&self) -> Result<()> {
        if self.with(|seen| seen.newest) == 0 {
            self.list().await?;
        }
        let client = self.address.client().await?;
        let newest = self.with(|seen| seen.newest);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={newest}",
            self.path
        );
        let opened = client.watch(&path).await;
        if let Err(error) = &opened {
            self.forget_if_expired(error.downcast_ref::<Refused>().map(|refused| refused.code));
        }
        let mut watching = opened?;
        self.with(|seen| seen.watches += 1);
        while let Some(change) = watching.next(QUIET).await? {
            if change.kind == "ERROR" {
                self.forget_if_expired(change.object["code"].as_u64().map(|code| code as u16));
                return Ok(());
            }
            let revision = change.version()?;
            if !self.with(|seen| seen.take(&change.kind, change.name(), revision)) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<()> {
        let client = self.address.client().await?;
        let mut objects = BTreeMap::new();
        let mut page = String::new();
        let newest = loop {
            let list = client
                .get(&format!("{}?limit=500&continue={page}", self.path))
                .await?;
            for item in items(&list)? {
                objects.insert(name(item).to_owned(), version(item)?);
            }
            page = next_page(&list).to_owned();
            if page.is_empty() {
                break version(&list).context("a list")?;
            }
        };
        self.with(|seen| {
            seen.lists += 1;
            seen.objects = objects;
            seen.newest = newest;
        });
        Ok(())
    }

    /// After `410 Gone` the next round begins with a list.
    fn forget_if_expired(&self, code: Option<u16>) {
        if code == Some(410) {
            self.with(|seen| seen.newest = 0);
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Seen) -> T) -> T {
        use_it(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    /// Takes a change in; false (and `broken` says why) when it cannot follow what came before.
    fn take(&mut self, kind: &str, name: &str, revision: u64) -> bool {
        // Bookmarks may repeat a revision; changes never.
        let follows = if kind == "BOOKMARK" {
            revision >= self.newest
        } else {
            revision > self.newest
        };
        let fits = match kind {
            "ADDED" => !self.objects.contains_key(name),
            "MODIFIED" | "DELETED" => self.objects.contains_key(name),
            _ => true,
        };
        if !follows || !fits {
            self.broken = Some(format!(
                "{kind} of {name} at {revision} after {}; it was {:?}",
                self.newest,
                self.objects.get(name)
            ));
            return false;
        }
        self.newest = revision;
        match kind {
            "BOOKMARK" => return true,
            "DELETED" => drop(self.objects.remove(name)),
            _ => drop(self.objects.insert(name.to_owned(), revision)),
        }
        self.changes
            .push((kind.to_owned(), name.to_owned(), revision));
        true
    }
}
