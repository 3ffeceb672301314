//! The gRPC services as a client sees them, over a real connection.

use std::time::Duration;

use crate::running::{CLUSTER, MEMBER, Running};
use bytes::Bytes;
use futures::stream;
use metastore_proto::etcdserverpb::kv_client::KvClient;
use metastore_proto::etcdserverpb::lease_client::LeaseClient;
use metastore_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use metastore_proto::etcdserverpb::request_op::Request as Operation;
use metastore_proto::etcdserverpb::watch_client::WatchClient;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

fn put(key: &'static str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: Bytes::from_static(key.as_bytes()),
        value: value.into(),
        ..Default::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    }
}

async fn kv(running: &Running) -> KvClient<Channel> {
    let client = KvClient::connect(running.url()).await.expect("connects");
    client
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX)
}

fn refusal(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_key_is_read_back_with_a_full_header() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    let first = kv.put(put("a", "1")).await.expect("put").into_inner();
    let header = first.header.expect("header");
    assert_eq!(
        (header.cluster_id, header.member_id, header.revision),
        (CLUSTER, MEMBER, 2)
    );
    assert!(header.raft_term > 0);
    assert_eq!(first.prev_kv, None);
    let again = PutRequest {
        prev_kv: true,
        ..put("a", "2")
    };
    let second = kv.put(again).await.expect("put").into_inner();
    assert_eq!(second.prev_kv.expect("previous").value, "1");
    let range = kv.range(everything()).await.expect("range").into_inner();
    assert_eq!((range.count, range.more, range.kvs.len()), (1, false, 1));
    assert_eq!(
        (&range.kvs[0].key[..], &range.kvs[0].value[..]),
        (&b"a"[..], &b"2"[..])
    );
    assert_eq!(
        (
            range.kvs[0].create_revision,
            range.kvs[0].mod_revision,
            range.kvs[0].version
        ),
        (2, 3, 2)
    );
    let delete = DeleteRangeRequest {
        key: Bytes::from_static(b"a"),
        prev_kv: true,
        ..Default::default()
    };
    let deleted = kv.delete_range(delete).await.expect("delete").into_inner();
    assert_eq!((deleted.deleted, deleted.prev_kvs), (1, range.kvs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_has_the_code_and_text_of_etcd() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    let error = kv.put(PutRequest::default()).await.expect_err("no key");
    assert_eq!(
        refusal(&error),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let future = RangeRequest {
        revision: 100,
        ..everything()
    };
    let error = kv.range(future).await.expect_err("future");
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(refusal(&error), (Code::OutOfRange, text));
    let compaction = CompactionRequest {
        revision: 100,
        physical: false,
    };
    let error = kv.compact(compaction).await.expect_err("future");
    assert_eq!(refusal(&error), (Code::OutOfRange, text));
    let without_lease = PutRequest {
        lease: 12345,
        ..put("a", "")
    };
    let error = kv.put(without_lease).await.expect_err("no such lease");
    assert_eq!(
        refusal(&error),
        (Code::NotFound, "etcdserver: requested lease not found")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_just_so_large() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    kv.put(put("a", vec![0; 1_572_864 - 100]))
        .await
        .expect("fits");
    let error = kv
        .put(put("a", vec![0; 1_572_864]))
        .await
        .expect_err("too large");
    assert_eq!(
        refusal(&error),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    let error = kv
        .put(put("a", vec![0; 3 * 1024 * 1024]))
        .await
        .expect_err("too large");
    let text = "grpc: received message larger than max (3145736 vs. 2097152)";
    assert_eq!(refusal(&error), (Code::ResourceExhausted, text));
    let range = kv
        .range(everything())
        .await
        .expect("the connection lives on")
        .into_inner();
    assert_eq!(range.kvs[0].value.len(), 1_572_864 - 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_range_is_the_same_in_one_answer_and_in_parts() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    for number in 0..60 {
        let request = PutRequest {
            key: format!("key-{number:03}").into(),
            value: vec![7; 64 * 1024].into(),
            ..Default::default()
        };
        kv.put(request).await.expect("put");
    }
    for limit in [0, 7, 2000] {
        let request = RangeRequest {
            limit,
            ..everything()
        };
        let whole = kv.range(request.clone()).await.expect("range").into_inner();
        let keys = if limit == 7 { 7 } else { 60 };
        assert_eq!(
            (whole.kvs.len(), whole.count, whole.more),
            (keys, 60, limit == 7)
        );
        let mut parts = kv.range_stream(request).await.expect("stream").into_inner();
        let mut gathered = Vec::new();
        let mut last = None;
        while let Some(part) = parts.message().await.expect("part") {
            let part = part.range_response.expect("present");
            assert!(last.is_none(), "only the last part has a header");
            gathered.extend(part.kvs);
            last = part.header.map(|header| (header, part.count, part.more));
        }
        let (header, count, more) = last.expect("a last part");
        assert_eq!(gathered, whole.kvs);
        assert_eq!(
            (Some(header), count, more),
            (whole.header, whole.count, whole.more)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_only_reads_leaves_no_trace() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    kv.put(put("a", "1")).await.expect("put");
    let operation = |operation| RequestOp {
        request: Some(operation),
    };
    let reading = TxnRequest {
        success: vec![operation(Operation::RequestRange(everything()))],
        ..Default::default()
    };
    let before = running.node.status().applied_index;
    let answer = kv.txn(reading).await.expect("txn").into_inner();
    assert!(answer.succeeded);
    assert_eq!(
        (
            answer.header.expect("header").revision,
            answer.responses.len()
        ),
        (2, 1)
    );
    assert_eq!(running.node.status().applied_index, before);
    let twice = TxnRequest {
        success: vec![operation(Operation::RequestPut(put("b", ""))); 2],
        ..Default::default()
    };
    let error = kv.txn(twice).await.expect_err("twice");
    let text = "etcdserver: duplicate key given in txn request";
    assert_eq!(refusal(&error), (Code::InvalidArgument, text));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_refused_in_the_words_of_grpc_go() {
    let running = Running::start().await;
    let channel = Channel::from_shared(running.url())
        .expect("url")
        .connect()
        .await
        .expect("connects");
    for (path, text) in [
        (
            "/etcdserverpb.KV/Get",
            "unknown method Get for service etcdserverpb.KV",
        ),
        ("/foo.Bar/Get", "unknown service foo.Bar"),
        (
            "/etcdserverpb.Auth/AuthEnable",
            "method AuthEnable not implemented",
        ),
    ] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.expect("ready");
        let codec = tonic_prost::ProstCodec::<StatusRequest, StatusRequest>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let error = client
            .unary(Request::new(StatusRequest {}), path, codec)
            .await
            .expect_err("unknown");
        assert_eq!(refusal(&error), (Code::Unimplemented, text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_s_deadline_ends_a_stream() {
    let running = Running::start().await;
    let mut watch = WatchClient::connect(running.url()).await.expect("connects");
    let mut request = Request::new(stream::pending::<WatchRequest>());
    request.set_timeout(Duration::from_millis(50));
    let ended = async { watch.watch(request).await?.into_inner().message().await };
    let error = ended.await.expect_err("late");
    assert!(
        matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_who_leads() {
    let running = Running::start().await;
    let mut maintenance = MaintenanceClient::connect(running.url())
        .await
        .expect("connects");
    let status = maintenance
        .status(StatusRequest {})
        .await
        .expect("status")
        .into_inner();
    assert_eq!(
        (status.version.as_str(), status.leader, status.is_learner),
        ("3.7.3", MEMBER, false)
    );
    assert!(status.errors.is_empty());
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
}

struct Watcher {
    wishes: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watcher {
    async fn start(running: &Running) -> Self {
        let mut client = WatchClient::connect(running.url()).await.expect("connects");
        let (wishes, receiver) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(receiver));
        request
            .metadata_mut()
            .insert("hasleader", "true".parse().expect("value"));
        let answers = client.watch(request).await.expect("watch").into_inner();
        Self { wishes, answers }
    }

    async fn wish(&self, wish: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(wish),
        };
        self.wishes.send(request).await.expect("server listens");
    }

    async fn next(&mut self) -> WatchResponse {
        let answer = tokio::time::timeout(Duration::from_secs(10), self.answers.message()).await;
        answer
            .expect("in time")
            .expect("no error")
            .expect("not ended")
    }
}

fn watch_from(start_revision: i64) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        start_revision,
        prev_kv: true,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_told_what_happens() {
    let running = Running::start().await;
    let mut kv = kv(&running).await;
    kv.put(put("a", "1")).await.expect("put");
    let mut watcher = Watcher::start(&running).await;
    watcher.wish(watch_from(2)).await;
    let created = watcher.next().await;
    assert!(created.created && !created.canceled);
    let past = watcher.next().await;
    assert_eq!((past.watch_id, past.events.len()), (created.watch_id, 1));
    kv.put(put("a", "2")).await.expect("put");
    let present = watcher.next().await;
    let event = &present.events[0];
    assert_eq!(event.kv.as_ref().map(|kv| &kv.value[..]), Some(&b"2"[..]));
    assert_eq!(
        event.prev_kv.as_ref().map(|kv| &kv.value[..]),
        Some(&b"1"[..])
    );
    assert_eq!(present.header.expect("header").revision, 3);
    watcher
        .wish(RequestUnion::ProgressRequest(WatchProgressRequest {}))
        .await;
    let progress = watcher.next().await;
    assert_eq!(
        (progress.watch_id, progress.header.expect("header").revision),
        (-1, 3)
    );
    let cancel = WatchCancelRequest {
        watch_id: created.watch_id,
    };
    watcher.wish(RequestUnion::CancelRequest(cancel)).await;
    let cancelled = watcher.next().await;
    assert!(cancelled.canceled && cancelled.watch_id == created.watch_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_time_is_refused() {
    let running = Running::start().await;
    let mut watcher = Watcher::start(&running).await;
    watcher.wish(watch_from(-1)).await;
    let answer = watcher.next().await;
    assert!(answer.created && answer.canceled && answer.watch_id == -1);
    assert_eq!(
        answer.cancel_reason,
        "etcdserver: mvcc: required revision has been compacted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_go_on_after_the_client_s_last_wish() {
    let running = Running::start().await;
    let mut watcher = Watcher::start(&running).await;
    watcher.wish(watch_from(0)).await;
    assert!(watcher.next().await.created);
    let (closed, _) = mpsc::channel(1);
    watcher.wishes = closed;
    kv(&running).await.put(put("a", "1")).await.expect("put");
    assert_eq!(watcher.next().await.events.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_alive_as_long_as_it_exists() {
    let running = Running::start().await;
    let mut lease = LeaseClient::connect(running.url()).await.expect("connects");
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    let granted = lease.lease_grant(grant).await.expect("grant").into_inner();
    assert!(granted.id > 0 && granted.ttl == 60);
    let requests = [granted.id, 777].map(|id| LeaseKeepAliveRequest { id });
    let answers = lease
        .lease_keep_alive(stream::iter(requests))
        .await
        .expect("stream");
    let mut answers = answers.into_inner();
    let alive = answers.message().await.expect("answer").expect("one");
    assert_eq!((alive.id, alive.ttl), (granted.id, 60));
    let gone = answers.message().await.expect("answer").expect("two");
    assert_eq!((gone.id, gone.ttl), (777, 0));
    assert!(answers.message().await.expect("end").is_none());
    let request = LeaseTimeToLiveRequest {
        id: 777,
        keys: true,
    };
    let unknown = lease
        .lease_time_to_live(request)
        .await
        .expect("answer")
        .into_inner();
    assert_eq!((unknown.ttl, unknown.granted_ttl), (-1, 0));
    let request = LeaseTimeToLiveRequest {
        id: granted.id,
        keys: true,
    };
    let known = lease
        .lease_time_to_live(request)
        .await
        .expect("answer")
        .into_inner();
    assert!((58..=60).contains(&known.ttl) && known.granted_ttl == 60 && known.keys.is_empty());
    let again = LeaseGrantRequest {
        ttl: 60,
        id: granted.id,
    };
    let error = lease.lease_grant(again).await.expect_err("exists");
    assert_eq!(
        refusal(&error),
        (Code::FailedPrecondition, "etcdserver: lease already exists")
    );
}
