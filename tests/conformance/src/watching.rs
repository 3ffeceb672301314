//! A watch stream that records.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use metastore_proto::mvccpb::Event;
use metastore_proto::mvccpb::event::EventType;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use crate::session::{PATIENCE, Session, decode, error_text};
use crate::wire::method_messages;

const METHOD: &str = "etcdserverpb.Watch/Watch";

enum Answers {
    Opening(JoinHandle<Result<Streaming<Bytes>, Status>>),
    Open(Box<Streaming<Bytes>>),
    Failed(Status),
}

/// One stream of watches.
pub struct Watching {
    session: Session,
    requests: Option<mpsc::Sender<Bytes>>,
    answers: Answers,
    // For each watch the revision of its last event, and whether more of that revision may follow.
    last: BTreeMap<i64, (i64, bool)>,
    // Watches there are, with the revision they start at.
    watches: BTreeMap<i64, i64>,
    // What came while something else was waited for, per watch.
    pending: BTreeMap<i64, Vec<String>>,
}

impl Session {
    /// Opens a watch stream.
    pub fn watch(&self) -> Watching {
        let (requests, receiver) = mpsc::channel(1024);
        let answers = Answers::Opening(self.open_stream(METHOD, receiver));
        Watching {
            session: self.clone(),
            requests: Some(requests),
            answers,
            last: BTreeMap::new(),
            watches: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }
}

impl Watching {
    /// Sends a request without waiting for an answer.
    pub async fn send(&mut self, union: RequestUnion) -> Result<()> {
        let request = Bytes::from(
            WatchRequest {
                request_union: Some(union),
            }
            .encode_to_vec(),
        );
        self.session.count(METHOD, &request, None);
        self.session
            .record(self.session.request_text(METHOD, &request), "sent");
        self.send_bytes(request).await
    }

    /// Sends bytes that need not be a request.
    pub async fn send_bytes(&mut self, body: Bytes) -> Result<()> {
        let requests = self
            .requests
            .as_ref()
            .context("the stream has been closed")?;
        requests.send(body).await.context("the stream is gone")
    }

    /// Asks for a watch and reads the next answer, which should be about it.
    pub async fn create(&mut self, request: WatchCreateRequest) -> Result<WatchResponse> {
        self.send(RequestUnion::CreateRequest(request)).await?;
        self.next().await
    }

    /// Asks for a watch that must come to be; its id.
    pub async fn created(&mut self, request: WatchCreateRequest) -> Result<i64> {
        let answer = self.create(request).await?;
        ensure!(
            answer.created && !answer.canceled,
            "the watch should be created: {answer:?}"
        );
        Ok(answer.watch_id)
    }

    /// Cancels a watch and reads the next answer.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<WatchResponse> {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await?;
        self.next().await
    }

    /// Asks for progress, without reading the answer.
    pub async fn request_progress(&mut self) -> Result<()> {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await
    }

    /// Asks for progress until an answer comes (a server need not answer while a watch is behind), which must be the
    /// next one: nothing else may be on its way. Its revision.
    pub async fn progress(&mut self) -> Result<i64> {
        for _ in 0..100 {
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            let request = Bytes::from(
                WatchRequest {
                    request_union: Some(request),
                }
                .encode_to_vec(),
            );
            self.session.count(METHOD, &request, None);
            self.send_bytes(request).await?;
            let wait = std::time::Duration::from_millis(500);
            if let Ok(answer) = tokio::time::timeout(wait, self.read()).await {
                let answer = answer.context("the watch stream ended")?;
                let response: WatchResponse = decode(&answer)?;
                self.session
                    .record("progress asked for until answered", self.text(&answer));
                ensure!(
                    response.watch_id == -1
                        && response.events.is_empty()
                        && !response.created
                        && !response.canceled,
                    "wanted nothing but progress, got {response:?}"
                );
                return Ok(response.header.unwrap_or_default().revision);
            }
        }
        bail!("no progress notification after 100 requests")
    }

    /// The next answer, recorded whole.
    pub async fn next(&mut self) -> Result<WatchResponse> {
        let answer = match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::cancelled("no answer")),
        };
        match answer {
            Ok(answer) => {
                self.session.record("watch answers", self.text(&answer));
                let response: WatchResponse = decode(&answer)?;
                self.session.count_text(&response.cancel_reason);
                self.check(&response)?;
                Ok(response)
            }
            Err(status) => {
                self.session.record("watch answers", error_text(&status));
                bail!("the watch stream ended: {}", error_text(&status))
            }
        }
    }

    /// The next answer, checked but not recorded: for answers that may be cut in several ways.
    pub async fn next_unrecorded(&mut self) -> Result<WatchResponse> {
        let answer = tokio::time::timeout(PATIENCE, self.read())
            .await
            .context("no answer")?;
        let response: WatchResponse = decode(&answer.context("the watch stream ended")?)?;
        self.check(&response)?;
        Ok(response)
    }

    /// Reads until `count` events have come, recorded per watch and without how answers were cut: a server may put
    /// several revisions into one answer.
    pub async fn events(&mut self, count: usize) -> Result<Vec<(i64, Event)>> {
        let mut events: Vec<(i64, Event)> = Vec::new();
        let reading = async {
            while events.len() < count {
                let response: WatchResponse = decode(&self.read().await?)?;
                if response.created || response.canceled || response.events.is_empty() {
                    return Err(Status::internal(format!(
                        "wanted events only, got {response:?}"
                    )));
                }
                self.check(&response)
                    .map_err(|error| Status::internal(error.to_string()))?;
                let watch = response.watch_id;
                events.extend(response.events.into_iter().map(|event| (watch, event)));
            }
            Ok(())
        };
        let outcome = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::cancelled("no answer")),
        };
        let descriptor = crate::wire::message("mvccpb.Event");
        let mut texts: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (watch, event) in &events {
            let text = self
                .session
                .names
                .render(&descriptor, &event.encode_to_vec().into());
            texts.entry(*watch).or_default().push(text);
        }
        for (watch, texts) in texts {
            self.session
                .record(format!("events of watch {watch}"), texts.join(" "));
        }
        if let Err(status) = outcome {
            self.session.record("watch answers", error_text(&status));
            bail!(
                "{} of {count} events came, then: {}",
                events.len(),
                error_text(&status)
            );
        }
        Ok(events)
    }

    /// Asks for a watch and reads until its answer comes, keeping events that come before it for [`Self::settle`].
    pub(crate) async fn create_among(
        &mut self,
        request: WatchCreateRequest,
    ) -> Result<WatchResponse> {
        let start = request.start_revision;
        self.send(RequestUnion::CreateRequest(request)).await?;
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.read())
                .await
                .context("no answer")??;
            let response: WatchResponse = decode(&answer)?;
            if response.created {
                self.session.record("watch answers", self.text(&answer));
                self.session.count_text(&response.cancel_reason);
                if !response.canceled {
                    self.watches.insert(response.watch_id, start);
                    self.last.remove(&response.watch_id);
                }
                return Ok(response);
            }
            self.keep(&response)?;
        }
    }

    /// Cancels a watch and reads until that is answered, as [`Self::create_among`].
    pub(crate) async fn cancel_among(&mut self, watch_id: i64) -> Result<WatchResponse> {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await?;
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.read())
                .await
                .context("no answer")??;
            let response: WatchResponse = decode(&answer)?;
            if response.canceled && response.watch_id == watch_id {
                self.session.record("watch answers", self.text(&answer));
                self.watches.remove(&watch_id);
                return Ok(response);
            }
            self.keep(&response)?;
        }
    }

    /// Whether this stream has such a watch.
    pub(crate) fn has(&self, watch_id: i64) -> bool {
        self.watches.contains_key(&watch_id)
    }

    /// The revision from which on every watch of this stream has started.
    pub(crate) fn starts_at(&self) -> i64 {
        self.watches.values().copied().max().unwrap_or(0)
    }

    /// Reads until progress of this revision is told, asking as often as needed, and records what came, per watch and
    /// without how answers were cut. A watch that a compaction cancelled is cancelled by the client too: until then
    /// etcd tells this stream no progress.
    pub(crate) async fn settle(&mut self, revision: i64) -> Result<()> {
        let start = std::time::Instant::now();
        loop {
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            let request = Bytes::from(
                WatchRequest {
                    request_union: Some(request),
                }
                .encode_to_vec(),
            );
            self.session.count(METHOD, &request, None);
            self.send_bytes(request).await?;
            if self.read_until_progress(revision).await? {
                break;
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "no progress to revision {revision} within {PATIENCE:?}"
            );
        }
        for (watch, texts) in std::mem::take(&mut self.pending) {
            self.session
                .record(format!("watch {watch} was told"), texts.join(" "));
        }
        Ok(())
    }

    async fn read_until_progress(&mut self, revision: i64) -> Result<bool> {
        let wait = std::time::Duration::from_millis(60);
        loop {
            let Ok(answer) = tokio::time::timeout(wait, self.read()).await else {
                return Ok(false);
            };
            let response: WatchResponse = decode(&answer?)?;
            if response.watch_id == -1
                && response.events.is_empty()
                && !response.created
                && !response.canceled
            {
                if response
                    .header
                    .as_ref()
                    .is_some_and(|header| header.revision >= revision)
                {
                    return Ok(true);
                }
                continue;
            }
            self.keep(&response)?;
            if response.canceled && response.compact_revision != 0 {
                let cancel = RequestUnion::CancelRequest(WatchCancelRequest {
                    watch_id: response.watch_id,
                });
                let request = WatchRequest {
                    request_union: Some(cancel),
                };
                self.send_bytes(request.encode_to_vec().into()).await?;
            }
        }
    }

    /// Keeps what a watch was told.
    fn keep(&mut self, response: &WatchResponse) -> Result<()> {
        self.check(response)?;
        // etcd confirms that a watch is cancelled which a compaction had cancelled already.
        let confirmed = response.compact_revision == 0 && !self.has(response.watch_id);
        if response.events.is_empty() && (!response.canceled || confirmed) {
            return Ok(());
        }
        let descriptor = crate::wire::message("mvccpb.Event");
        let texts = self.pending.entry(response.watch_id).or_default();
        for event in &response.events {
            texts.push(
                self.session
                    .names
                    .render(&descriptor, &event.encode_to_vec().into()),
            );
        }
        if response.canceled {
            texts.push(format!(
                "canceled, compacted at {}: {}",
                response.compact_revision, response.cancel_reason
            ));
            self.watches.remove(&response.watch_id);
        }
        Ok(())
    }

    /// Closes the sending side.
    pub fn close_sending(&mut self) {
        self.requests = None;
    }

    /// Waits for the server to end the stream and records how.
    pub async fn ended(&mut self) -> Result<Status> {
        let status = self.ended_unrecorded().await?;
        self.session
            .record("watch stream ended", error_text(&status));
        Ok(status)
    }

    /// As [`Self::ended`], for texts that are worded differently.
    pub async fn ended_unrecorded(&mut self) -> Result<Status> {
        match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(Err(status)) => Ok(status),
            Ok(Ok(answer)) => bail!("wanted the end of the stream, got {}", self.text(&answer)),
            Err(_) => bail!("the server did not end the stream"),
        }
    }

    fn text(&self, answer: &Bytes) -> String {
        format!(
            "ok {}",
            self.session
                .names
                .render(&method_messages(METHOD).1, answer)
        )
    }

    /// What holds for every answer: no revision twice, none out of order, none split without `fragment`, none above
    /// the header's.
    fn check(&mut self, response: &WatchResponse) -> Result<()> {
        let header = response
            .header
            .as_ref()
            .context("an answer without a header")?
            .revision;
        let Some(first) = response.events.first() else {
            return Ok(());
        };
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if let Some((last, open)) = self.last.get(&response.watch_id) {
            let next = revision(first);
            ensure!(
                next > *last || *open && next == *last,
                "revision {next} came after {last}: {response:?}"
            );
        }
        ensure!(
            response.events.is_sorted_by_key(revision),
            "events within an answer are out of order: {response:?}"
        );
        let last = response.events.last().map_or(0, revision);
        ensure!(
            last <= header,
            "an event of revision {last} under a header of revision {header}"
        );
        self.last
            .insert(response.watch_id, (last, response.fragment));
        Ok(())
    }

    async fn read(&mut self) -> Result<Bytes, Status> {
        if let Answers::Opening(opening) = &mut self.answers {
            let opened = opening
                .await
                .unwrap_or_else(|error| Err(Status::internal(error.to_string())));
            self.answers = match opened {
                Ok(stream) => Answers::Open(Box::new(stream)),
                Err(status) => Answers::Failed(status),
            };
        }
        match &mut self.answers {
            Answers::Open(stream) => match stream.message().await? {
                Some(answer) => Ok(self.session.tampered_answer(METHOD, answer)),
                None => Err(Status::ok("end of stream")),
            },
            Answers::Failed(status) => Err(status.clone()),
            Answers::Opening(_) => Err(Status::internal("still opening")),
        }
    }
}

/// Events as short texts: `0:put a=v@5`, `1:delete a@6`.
pub fn labelled(events: &[(i64, Event)]) -> Vec<String> {
    let label = |(watch, event): &(i64, Event)| {
        let kv = event.kv.clone().unwrap_or_default();
        let key = kv.key.escape_ascii();
        match event.r#type() {
            EventType::Put => format!(
                "{watch}:put {key}={}@{}",
                kv.value.escape_ascii(),
                kv.mod_revision
            ),
            EventType::Delete => format!("{watch}:delete {key}@{}", kv.mod_revision),
        }
    };
    events.iter().map(label).collect()
}
