//! The room's rules, each with a store that does nothing by itself and a hub that matches when it is told to.

mod creating;
mod events;
mod lagging;
mod model;
mod progress;
mod real_store;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use metastore_mvcc::EventKind;
use metastore_proto::etcdserverpb::WatchResponse;
use metastore_proto::mvccpb::KeyValue;
use prost::Message;

use self::store::{Op, TestStore};
use crate::{Filters, Hub, Notice, Options, Stream, StreamOptions, Subscription};

/// A notice, decoded.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Events {
        watch: i64,
        revision: i64,
        events: Vec<Event>,
        fragment: bool,
    },
    Progress(i64, i64),
    Compacted(i64, i64),
    Cancelled(i64, String),
}

/// An event, decoded.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    kind: EventKind,
    kv: KeyValue,
    prev: Option<KeyValue>,
}

impl Told {
    fn of(notice: Notice) -> Self {
        match notice {
            Notice::Events {
                watch_id,
                revision,
                events,
                fragment,
            } => {
                let bytes = events.to_vec();
                assert_eq!(bytes.len(), events.encoded_len());
                let decoded = WatchResponse::decode(&bytes[..]).unwrap().events;
                assert_eq!(decoded.len(), events.count());
                let event = |event: metastore_proto::mvccpb::Event| Event {
                    kind: if event.r#type == 0 {
                        EventKind::Put
                    } else {
                        EventKind::Delete
                    },
                    kv: event.kv.unwrap(),
                    prev: event.prev_kv,
                };
                Self::Events {
                    watch: watch_id,
                    revision,
                    events: decoded.into_iter().map(event).collect(),
                    fragment,
                }
            }
            Notice::Progress { watch_id, revision } => Self::Progress(watch_id, revision),
            Notice::Compacted {
                watch_id,
                compact_revision,
            } => Self::Compacted(watch_id, compact_revision),
            Notice::Cancelled {
                watch_id, reason, ..
            } => Self::Cancelled(watch_id, reason),
        }
    }

    /// "watch@revision: key=value key-", a tilde before the colon of a fragment.
    fn brief(&self) -> String {
        match self {
            Self::Events {
                watch,
                revision,
                events,
                fragment,
            } => {
                let mut brief = format!("{watch}@{revision}{}:", if *fragment { "~" } else { "" });
                for event in events {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let value = match event.kind {
                        EventKind::Put => format!("={}", text(&event.kv.value)),
                        EventKind::Delete => "-".into(),
                    };
                    let prev = event
                        .prev
                        .as_ref()
                        .map_or(String::new(), |prev| format!("({})", text(&prev.value)));
                    brief.push_str(&format!(" {}{value}{prev}", text(&event.kv.key)));
                }
                brief
            }
            Self::Progress(watch, revision) => format!("{watch}@{revision}"),
            Self::Compacted(watch, revision) => format!("{watch} compacted {revision}"),
            Self::Cancelled(watch, reason) => format!("{watch} cancelled: {reason}"),
        }
    }
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Store, hub, and whether it has been woken.
struct Fixture {
    store: Arc<TestStore>,
    hub: Hub,
    alarm: Arc<Alarm>,
}

impl Fixture {
    fn new() -> Self {
        Self::with_options(Options::default())
    }

    fn with_options(options: Options) -> Self {
        let store = TestStore::new();
        Self {
            hub: Hub::over(store.clone(), options),
            store,
            alarm: Arc::default(),
        }
    }

    fn stream(&self) -> Stream {
        self.hub.stream(StreamOptions::default())
    }

    /// Commits and has the hub match it.
    fn commit(&self, ops: &[Op]) -> i64 {
        let revision = self.store.commit(ops);
        self.hub.pump();
        revision
    }

    fn put(&self, key: &str, value: &str) -> i64 {
        self.commit(&[store::put(key, value)])
    }

    /// The next notice, `None` when the stream waits to be woken.
    fn poll(&self, stream: &mut Stream) -> Option<Told> {
        let waker = Waker::from(self.alarm.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            let woken = self.woken();
            match stream.poll_next(&mut cx) {
                Poll::Ready(notice) => return Some(Told::of(notice)),
                Poll::Pending if self.woken() == woken => return None,
                Poll::Pending => {}
            }
        }
    }

    /// Everything that the stream has to tell.
    fn told(&self, stream: &mut Stream) -> Vec<Told> {
        std::iter::from_fn(|| self.poll(stream)).collect()
    }

    fn brief(&self, stream: &mut Stream) -> Vec<String> {
        self.told(stream).iter().map(Told::brief).collect()
    }

    /// How often a stream was woken so far.
    fn woken(&self) -> usize {
        self.alarm.0.load(Ordering::SeqCst)
    }
}

fn on(key: &str) -> Subscription {
    Subscription {
        key: key.as_bytes().to_vec().into(),
        ..Subscription::default()
    }
}

fn range(key: &str, end: &str) -> Subscription {
    Subscription {
        end: end.as_bytes().to_vec().into(),
        ..on(key)
    }
}

fn everything() -> Subscription {
    range("", "\0")
}

fn from(start_revision: i64, subscription: Subscription) -> Subscription {
    Subscription {
        start_revision,
        ..subscription
    }
}

fn with_prev(subscription: Subscription) -> Subscription {
    Subscription {
        prev_kv: true,
        ..subscription
    }
}

const NO_PUT: Filters = Filters {
    no_put: true,
    no_delete: false,
};
const NO_DELETE: Filters = Filters {
    no_put: false,
    no_delete: true,
};
