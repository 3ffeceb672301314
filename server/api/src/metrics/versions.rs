//! Requests per version of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// So many versions are told apart; a client that sends ever new ones cannot fill the memory.
const MOST: usize = 64;

/// What stands for versions beyond [`MOST`].
const OTHERS: &str = "other";

#[derive(Debug, Default)]
struct Version {
    name: String,
    unary: AtomicU64,
    streams: AtomicU64,
}

/// The clients' versions seen so far, few in practice.
#[derive(Debug, Default)]
pub(super) struct ClientVersions(RwLock<Vec<Arc<Version>>>);

impl ClientVersions {
    pub(super) fn count(&self, unary: bool, version: &str) {
        let found = self
            .0
            .read()
            .iter()
            .find(|known| known.name == version)
            .cloned();
        let known = found.unwrap_or_else(|| self.add(version));
        let counter = if unary { &known.unary } else { &known.streams };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    #[cold]
    fn add(&self, version: &str) -> Arc<Version> {
        let mut versions = self.0.write();
        let name = if versions.len() < MOST {
            version
        } else {
            OTHERS
        };
        if let Some(known) = versions.iter().find(|known| known.name == name) {
            return known.clone();
        }
        let added = Arc::new(Version {
            name: name.to_owned(),
            ..Default::default()
        });
        versions.push(added.clone());
        added
    }

    /// Every version with its unary requests and its streams.
    pub(super) fn all(&self) -> Vec<(String, u64, u64)> {
        let versions = self.0.read();
        let row = |known: &Arc<Version>| {
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            (known.name.clone(), load(&known.unary), load(&known.streams))
        };
        versions.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_end_share_one_row() {
        let versions = ClientVersions::default();
        for number in 0..1000 {
            versions.count(true, &number.to_string());
        }
        let all = versions.all();
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(
            all.last(),
            Some(&(OTHERS.to_owned(), 1000 - MOST as u64, 0))
        );
    }
}
