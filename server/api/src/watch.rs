//! The Watch service (`server/etcdserver/api/v3rpc/watch.go`).
//!
//! One stream is one future: it takes the client's wishes and the hub's notices in turn and sends answers
//! as the connection takes them. A client that does not read stops the future, and with it the hub's
//! work for this stream. Events are written as the hub has encoded them.

use std::time::Instant;

use bytes::Bytes;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};
use metastore_watch::{Filters, Notice, Stream, StreamOptions, Subscription};

use crate::check;
use crate::door::Door;
use crate::encoded::{Encoded, Writer};
use crate::grpc::{Inbox, Outbox, decode_streamed};
use crate::status::{self, Refusal};

/// The id in an answer to a watch that was not created.
const NO_WATCH: i64 = -1;

/// The id in a notice of progress that was asked for.
const WHOLE_STREAM: i64 = -1;

/// Tags of `WatchResponse`.
const WATCH_ID: u32 = 2;
const CREATED: u32 = 3;
const CANCELED: u32 = 4;
const COMPACT_REVISION: u32 = 5;
const CANCEL_REASON: u32 = 6;
const FRAGMENT: u32 = 7;

impl Door {
    /// Watch.Watch. After the client's last wish its watches go on.
    pub(crate) async fn watch(&self, mut inbox: Inbox, mut outbox: Outbox) -> Result<(), Refusal> {
        let mut stream = self.node.hub().stream(self.stream_options());
        let mut listening = true;
        loop {
            let notice = tokio::select! {
                biased;
                message = inbox.next(), if listening => {
                    let failed = |refusal: &Refusal| self.metrics.stream_failed("watch", refusal);
                    let message = message.inspect_err(failed);
                    match message.map_err(|_| status::WATCH_CANCELED)? {
                        Some(message) => self.wish(&mut stream, &mut outbox, message).await?,
                        None => listening = false,
                    }
                    continue;
                }
                notice = stream.next() => notice,
            };
            self.tell(notice, &mut outbox).await;
        }
    }

    fn stream_options(&self) -> StreamOptions {
        StreamOptions {
            fragment_bytes: check::message_limit(self.node.limits().max_request_bytes),
            progress_interval: self.options.watch_progress_interval,
            ..StreamOptions::default()
        }
    }

    /// Does what the client wishes. A request without content is passed over, as etcd does.
    async fn wish(
        &self,
        stream: &mut Stream,
        outbox: &mut Outbox,
        message: Bytes,
    ) -> Result<(), Refusal> {
        let since = Instant::now();
        let request: WatchRequest = decode_streamed(message)
            .inspect_err(|refusal| self.metrics.stream_failed("watch", refusal))?;
        let answer = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(self.create(stream, create)),
            Some(RequestUnion::CancelRequest(cancel)) => {
                stream.cancel(cancel.watch_id).map(|cancelled| {
                    let header = self.node.header(cancelled.revision);
                    let writer = Writer::new(&header).int(WATCH_ID, cancelled.watch_id);
                    writer.flag(CANCELED, true).finish()
                })
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                stream.request_progress();
                None
            }
            None => None,
        };
        if let Some(answer) = answer {
            outbox.send(answer).await;
            self.metrics
                .watch_control
                .observe(since.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn create(&self, stream: &mut Stream, request: WatchCreateRequest) -> Encoded {
        match stream.create(subscription(request)) {
            Ok(created) => {
                let header = self.node.header(created.revision);
                let writer = Writer::new(&header).int(WATCH_ID, created.watch_id);
                writer.flag(CREATED, true).finish()
            }
            Err(error) => {
                let header = self.header_now();
                let reason = error.to_string();
                let writer = Writer::new(&header)
                    .int(WATCH_ID, NO_WATCH)
                    .flag(CREATED, true);
                writer
                    .flag(CANCELED, true)
                    .text(CANCEL_REASON, &reason)
                    .finish()
            }
        }
    }

    /// Tells the client what the hub has noticed.
    async fn tell(&self, notice: Notice, outbox: &mut Outbox) {
        let since = Instant::now();
        let revision = match &notice {
            Notice::Events { revision, .. }
            | Notice::Progress { revision, .. }
            | Notice::Cancelled { revision, .. } => *revision,
            Notice::Compacted { .. } => 0,
        };
        outbox
            .send(written(&notice, &self.node.header(revision)))
            .await;
        let seconds = since.elapsed().as_secs_f64();
        let metrics = &self.metrics;
        match notice {
            Notice::Events { events, .. } => {
                metrics.watch_events.observe(seconds);
                let each = seconds / events.count().max(1) as f64;
                metrics.watch_per_event.observe(each);
            }
            // etcd sends what was asked for as it sends events, and only what is due on its own as progress.
            Notice::Progress { watch_id, .. } if watch_id == WHOLE_STREAM => {
                metrics.watch_events.observe(seconds);
            }
            Notice::Progress { .. } => metrics.watch_progress.observe(seconds),
            Notice::Compacted { .. } | Notice::Cancelled { .. } => {}
        }
    }
}

fn written(notice: &Notice, header: &ResponseHeader) -> Encoded {
    let writer = Writer::new(header).int(WATCH_ID, notice.watch_id());
    match notice {
        Notice::Events {
            events, fragment, ..
        } => {
            let writer = writer.flag(FRAGMENT, *fragment);
            writer.finish_encoding(events.encoded_len(), |bytes| events.encode(bytes))
        }
        Notice::Progress { .. } => writer.finish(),
        Notice::Compacted {
            compact_revision, ..
        } => writer
            .flag(CANCELED, true)
            .int(COMPACT_REVISION, *compact_revision)
            .finish(),
        Notice::Cancelled { reason, .. } => writer
            .flag(CANCELED, true)
            .text(CANCEL_REASON, reason)
            .finish(),
    }
}

/// What the hub is asked for. Filters that etcd does not know mean nothing.
fn subscription(request: WatchCreateRequest) -> Subscription {
    let has = |filter: FilterType| request.filters.contains(&(filter as i32));
    Subscription {
        filters: Filters {
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
        },
        id: Some(request.watch_id),
        key: request.key,
        end: request.range_end,
        start_revision: request.start_revision,
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        progress_notify: request.progress_notify,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore_proto::etcdserverpb::WatchResponse;
    use prost::Message;

    const HEADER: ResponseHeader = ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 3,
        raft_term: 4,
    };

    fn decoded(notice: &Notice) -> WatchResponse {
        WatchResponse::decode(written(notice, &HEADER).message()).expect("valid")
    }

    #[test]
    fn a_compacted_watch_is_cancelled_with_the_revision() {
        let notice = Notice::Compacted {
            watch_id: 7,
            compact_revision: 5,
        };
        let expected = WatchResponse {
            header: Some(HEADER),
            watch_id: 7,
            canceled: true,
            compact_revision: 5,
            ..Default::default()
        };
        assert_eq!(decoded(&notice), expected);
    }

    #[test]
    fn progress_of_a_whole_stream_has_the_id_minus_one() {
        let notice = Notice::Progress {
            watch_id: -1,
            revision: 3,
        };
        let expected = WatchResponse {
            header: Some(HEADER),
            watch_id: -1,
            ..Default::default()
        };
        assert_eq!(decoded(&notice), expected);
    }

    #[test]
    fn filters_are_taken_as_far_as_they_are_known() {
        let request = WatchCreateRequest {
            filters: vec![FilterType::Nodelete as i32, 17],
            ..Default::default()
        };
        let expected = Filters {
            no_put: false,
            no_delete: true,
        };
        assert_eq!(subscription(request).filters, expected);
    }
}
