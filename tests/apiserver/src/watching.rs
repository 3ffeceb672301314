//! A watch of kube-apiserver: a body that is one JSON object per line.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use crate::objects::{name, version};

/// One line of a watch.
#[derive(Clone, Debug)]
pub struct Change {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub kind: String,
    /// The object, or the `Status` of an error.
    pub object: Value,
}

impl Change {
    /// The object's name.
    pub fn name(&self) -> &str {
        name(&self.object)
    }

    /// The object's resource version.
    pub fn version(&self) -> Result<u64> {
        version(&self.object)
    }

    /// Whether this is the bookmark after the last initial event of a WatchList.
    pub fn ends_initial_events(&self) -> bool {
        self.kind == "BOOKMARK"
            && self.object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    }
}

/// An open watch.
pub struct Watching {
    body: Incoming,
    read: BytesMut,
}

impl Watching {
    pub(crate) fn new(body: Incoming) -> Self {
        Self {
            body,
            read: BytesMut::new(),
        }
    }

    /// The next line; `None` when the apiserver ends the watch. Fails when neither comes in time.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Change>> {
        tokio::time::timeout(within, self.read_line())
            .await
            .with_context(|| format!("the watch brought nothing within {within:?}"))?
    }

    /// The next `count` changes, bookmarks left out.
    pub async fn changes(&mut self, count: usize, within: Duration) -> Result<Vec<Change>> {
        let mut changes = Vec::with_capacity(count);
        while changes.len() < count {
            let change = self
                .next(within)
                .await
                .with_context(|| format!("after {} of {count} changes", changes.len()))?;
            match change {
                None => bail!("the watch ended after {} of {count} changes", changes.len()),
                Some(change) if change.kind == "ERROR" => {
                    bail!(
                        "after {} of {count} changes: {}",
                        changes.len(),
                        change.object
                    )
                }
                Some(change) if change.kind == "BOOKMARK" => {}
                Some(change) => changes.push(change),
            }
        }
        Ok(changes)
    }

    async fn read_line(&mut self) -> Result<Option<Change>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                let mut event: Value = serde_json::from_slice(&line).context("a watch event")?;
                return Ok(Some(Change {
                    kind: event["type"].as_str().unwrap_or_default().to_owned(),
                    object: event["object"].take(),
                }));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context("reading a watch")?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
