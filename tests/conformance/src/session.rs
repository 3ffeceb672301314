//! A connection to one member that records everything.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use metastore_harness::{Answer, BytesCodec, Cluster};
use metastore_proto::etcdserverpb as pb;
use prost::Message;
use tokio::sync::MutexGuard;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::coverage::Coverage;
use crate::render::Names;
use crate::transcript::Transcript;
use crate::wire::method_messages;

/// Longer than any answer takes, shorter than a test may hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const MESSAGE_BYTES: usize = 512 << 20;

/// Changes a message, given the method and its bytes, to imitate a server that gets it wrong.
pub(crate) type Change = fn(&str, Bytes) -> Bytes;

/// Which messages are changed.
#[derive(Debug, Clone, Copy)]
pub enum Tamper {
    /// Those on their way to the server.
    Requests(Change),
    /// Those on their way from it.
    Answers(Change),
}

/// One member, seen by a client that writes down each exchange.
#[derive(Clone)]
pub struct Session {
    cluster: Arc<tokio::sync::Mutex<Cluster>>,
    channel: Channel,
    pub(crate) names: Arc<Names>,
    transcript: Arc<Mutex<Transcript>>,
    coverage: Option<Arc<Mutex<Coverage>>>,
    tamper: Option<Tamper>,
    metadata: Metadata,
    url: String,
    index: usize,
    size: usize,
}

/// Metadata of requests, such as `hasleader: true`.
pub(crate) type Metadata = &'static [(&'static str, &'static str)];

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $method:literal ($request:ident) -> $response:ident;)*) => {
        $($(#[$doc])*
        pub async fn $name(&self, request: pb::$request) -> Result<pb::$response, Status> {
            self.call($method, &request).await
        })*
    };
}

impl Session {
    /// Connects to one member of a running cluster.
    pub async fn open(cluster: Arc<tokio::sync::Mutex<Cluster>>, index: usize) -> Result<Self> {
        let locked = cluster.lock().await;
        let member = &locked.members()[index];
        let url = member.client_url().to_owned();
        let mut urls = std::collections::HashMap::new();
        for member in locked.members() {
            urls.insert(member.client_url().to_owned(), member.name().to_owned());
            urls.insert(member.peer_url().to_owned(), member.name().to_owned());
        }
        let ids = locked
            .members()
            .iter()
            .map(metastore_harness::Member::id)
            .collect();
        let names = Arc::new(Names::new(locked.id(), member.id(), ids, urls));
        let size = locked.members().len();
        let channel = locked.clients(index).await?.channel;
        drop(locked);
        let transcript = Arc::default();
        Ok(Self {
            cluster,
            channel,
            names,
            transcript,
            coverage: None,
            tamper: None,
            metadata: &[],
            url,
            index,
            size,
        })
    }

    /// The same cluster through another member, recorded in the same transcript.
    pub async fn at(&self, index: usize) -> Result<Self> {
        let mut other = Self::open(self.cluster.clone(), index).await?;
        other.transcript = self.transcript.clone();
        Ok(other)
    }

    /// The same member over a new connection, recorded in the same transcript; after a restart, for example.
    pub async fn again(&self) -> Result<Self> {
        let mut again = self.at(self.index).await?;
        again.names = self.names.clone();
        Ok(again)
    }

    pub(crate) fn counted_by(mut self, coverage: Arc<Mutex<Coverage>>) -> Self {
        self.coverage = Some(coverage);
        self
    }

    pub(crate) fn tampered_by(mut self, tamper: Option<Tamper>) -> Self {
        self.tamper = tamper;
        self
    }

    /// The cluster, to stop, pause or restart members.
    pub async fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().await
    }

    /// The number of members of the cluster.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The index of the member this session talks to.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The connection itself, for calls that are not recorded.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where this session's member serves clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has been recorded so far.
    pub fn transcript(&self) -> Transcript {
        self.transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn transcript_mut(&self) -> std::sync::MutexGuard<'_, Transcript> {
        self.transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes something down that a case wants compared.
    pub fn record(&self, what: impl Into<String>, reply: impl Into<String>) {
        self.transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(what, reply);
    }

    /// Writes a text down in which this cluster's ids and URLs are replaced by names.
    pub fn record_text(&self, what: impl Into<String>, reply: &str) {
        self.record(what, self.names.in_text(reply));
    }

    /// Takes keepalives out of the record, for cases whose number of them depends on time.
    pub fn forget_renewals(&self) {
        let mut transcript = self
            .transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        transcript.entries.retain(|entry| {
            !entry
                .request
                .starts_with("etcdserverpb.Lease/LeaseKeepAlive")
        });
    }

    calls! {
        /// `KV.Range`
        range = "etcdserverpb.KV/Range" (RangeRequest) -> RangeResponse;
        /// `KV.Put`
        put = "etcdserverpb.KV/Put" (PutRequest) -> PutResponse;
        /// `KV.DeleteRange`
        delete = "etcdserverpb.KV/DeleteRange" (DeleteRangeRequest) -> DeleteRangeResponse;
        /// `KV.Txn`
        txn = "etcdserverpb.KV/Txn" (TxnRequest) -> TxnResponse;
        /// `KV.Compact`
        compact = "etcdserverpb.KV/Compact" (CompactionRequest) -> CompactionResponse;
        /// `Lease.LeaseRevoke`
        lease_revoke = "etcdserverpb.Lease/LeaseRevoke" (LeaseRevokeRequest) -> LeaseRevokeResponse;
        /// `Lease.LeaseTimeToLive`
        lease_time_to_live = "etcdserverpb.Lease/LeaseTimeToLive" (LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
        /// `Maintenance.Alarm`
        alarm = "etcdserverpb.Maintenance/Alarm" (AlarmRequest) -> AlarmResponse;
        /// `Maintenance.HashKV`
        hash_kv = "etcdserverpb.Maintenance/HashKV" (HashKvRequest) -> HashKvResponse;
        /// `Cluster.MemberList`
        member_list = "etcdserverpb.Cluster/MemberList" (MemberListRequest) -> MemberListResponse;
    }

    /// `Maintenance.Status`
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        self.call("etcdserverpb.Maintenance/Status", &pb::StatusRequest {})
            .await
    }

    /// `Maintenance.Hash`
    pub async fn hash(&self) -> Result<pb::HashResponse, Status> {
        self.call("etcdserverpb.Maintenance/Hash", &pb::HashRequest {})
            .await
    }

    /// `Maintenance.Defragment`
    pub async fn defragment(&self) -> Result<pb::DefragmentResponse, Status> {
        self.call(
            "etcdserverpb.Maintenance/Defragment",
            &pb::DefragmentRequest {},
        )
        .await
    }

    /// `Lease.LeaseLeases`
    pub async fn leases(&self) -> Result<pb::LeaseLeasesResponse, Status> {
        self.call("etcdserverpb.Lease/LeaseLeases", &pb::LeaseLeasesRequest {})
            .await
    }

    /// `Lease.LeaseGrant`; an id of 0 lets the server choose.
    pub async fn lease_grant(&self, ttl: i64, id: i64) -> Result<pb::LeaseGrantResponse, Status> {
        let method = "etcdserverpb.Lease/LeaseGrant";
        let request = Bytes::from(pb::LeaseGrantRequest { ttl, id }.encode_to_vec());
        let answer = self.answer(method, request.clone()).await;
        if let (0, Ok(body)) = (id, &answer) {
            self.names
                .add_lease(decode::<pb::LeaseGrantResponse>(body)?.id);
        }
        self.note(method, &request, &answer);
        decode(&answer?)
    }

    /// `KV.RangeStream`, read to its end and merged; how the answer was cut is not recorded, but a part
    /// that holds what only the last one may hold is.
    pub async fn range_stream(
        &self,
        request: pb::RangeRequest,
    ) -> Result<Vec<pb::RangeStreamResponse>, Status> {
        let method = "etcdserverpb.KV/RangeStream";
        let body = Bytes::from(request.encode_to_vec());
        let parts = tokio::time::timeout(PATIENCE, self.read_stream(method, body.clone())).await;
        let parts = parts.unwrap_or_else(|_| Err(Status::cancelled("no answer")));
        let reply = match &parts {
            Ok(parts) => self.merged(parts),
            Err(status) => error_text(status),
        };
        self.count(method, &body, parts.as_ref().err());
        self.record(self.request_text(method, &body), reply);
        parts
    }

    async fn read_stream<R: Message + Default>(
        &self,
        method: &str,
        body: Bytes,
    ) -> Result<Vec<R>, Status> {
        let mut request = Request::new(self.tampered(method, body));
        add_metadata(&mut request, self.metadata);
        let answer = self
            .grpc()
            .await?
            .server_streaming(request, path(method), BytesCodec)
            .await?;
        let mut stream = answer.into_inner();
        let mut parts = Vec::new();
        while let Some(part) = stream.message().await? {
            parts.push(decode(&self.tampered_answer(method, part))?);
        }
        Ok(parts)
    }

    fn merged(&self, parts: &[pb::RangeStreamResponse]) -> String {
        let mut body = Vec::new();
        let mut wrong = String::new();
        for (index, part) in parts.iter().enumerate() {
            let Some(part) = &part.range_response else {
                wrong.push_str(&format!(" part {} is empty", index + 1));
                continue;
            };
            let last = index + 1 == parts.len();
            if last != part.header.is_some()
                || !last && (part.more || part.count != 0 || part.kvs.is_empty())
            {
                wrong.push_str(&format!(
                    " part {} of {} holds the wrong fields",
                    index + 1,
                    parts.len()
                ));
            }
            body.extend(part.encode_to_vec());
        }
        let merged = self.names.render(
            &crate::wire::message("etcdserverpb.RangeResponse"),
            &body.into(),
        );
        format!("ok merged {merged}{wrong}")
    }

    /// Any unary method by its name, such as `etcdserverpb.KV/Range`.
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &str,
        request: &Q,
    ) -> Result<R, Status> {
        let request = Bytes::from(request.encode_to_vec());
        let answer = self.answer(method, request.clone()).await;
        self.note(method, &request, &answer);
        decode(&answer?)
    }

    /// Sends bytes that need not be a request, to a method that need not exist, and records only how it ends.
    pub async fn send_raw(&self, method: &str, body: &[u8]) -> Result<Bytes, Status> {
        let answer = self.answer(method, Bytes::copy_from_slice(body)).await;
        let reply = answer.as_ref().map_or_else(error_text, |_| "ok".to_owned());
        self.record(
            format!("{method} with the bytes {}", crate::render::short(body)),
            reply,
        );
        answer
    }

    /// As [`Session::send_raw`], but only the code is recorded: decoders word their errors differently.
    pub async fn send_code(&self, method: &str, body: &[u8]) -> Result<Bytes, Status> {
        let answer = self.answer(method, Bytes::copy_from_slice(body)).await;
        let reply = answer
            .as_ref()
            .map_or_else(|status| format!("{:?}", status.code()), |_| "ok".to_owned());
        self.record(
            format!("{method} with the bytes {}", crate::render::short(body)),
            reply,
        );
        answer
    }

    /// Any unary method with any bytes; the answer's bytes are recorded as they are.
    pub async fn send_exact(&self, method: &str, body: &[u8]) -> Result<Bytes, Status> {
        let answer = self.answer(method, Bytes::copy_from_slice(body)).await;
        let reply = answer.as_ref().map_or_else(error_text, |body| {
            format!("ok {}", crate::render::short(body))
        });
        self.record(
            format!("{method} with the bytes {}", crate::render::short(body)),
            reply,
        );
        answer
    }

    /// The first answer of a method that streams, its bytes recorded as they are.
    pub async fn first_of_stream(&self, method: &str, body: &[u8]) -> Result<Bytes, Status> {
        let request = Bytes::copy_from_slice(body);
        let reading = async {
            let answer = self
                .grpc()
                .await?
                .server_streaming(Request::new(request), path(method), BytesCodec)
                .await?;
            answer.into_inner().message().await
        };
        let answer = tokio::time::timeout(PATIENCE, reading).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::cancelled("no answer")));
        let reply = match &answer {
            Ok(Some(body)) => format!("ok {}", crate::render::short(body)),
            Ok(None) => "an empty stream".to_owned(),
            Err(status) => error_text(status),
        };
        self.record(
            format!("{method} with the bytes {}", crate::render::short(body)),
            reply,
        );
        answer.map(Option::unwrap_or_default)
    }

    /// `GET <path>` on the client port, recorded whole.
    pub async fn http_get(&self, path: &str) -> Result<Answer> {
        self.http("GET", path).await
    }

    /// `GET <path>` on another port of the cluster, recorded whole.
    pub async fn http_at(&self, url: &str, path: &str) -> Result<Answer> {
        let answer = metastore_harness::get(url, path).await?;
        self.record(format!("GET {path} elsewhere"), self.http_text(&answer));
        Ok(answer)
    }

    /// `<method> <path>` on the client port, recorded whole.
    pub async fn http(&self, method: &str, path: &str) -> Result<Answer> {
        let answer = metastore_harness::request(&self.url, path, method, "").await?;
        self.record(format!("{method} {path}"), self.http_text(&answer));
        Ok(answer)
    }

    /// An HTTP answer under the mask. The checks of `/readyz?verbose` come in no order (a map's).
    fn http_text(&self, answer: &Answer) -> String {
        let mut lines: Vec<&str> = answer.body.split('\n').collect();
        let is_check = |line: &str| line.starts_with("[+]") || line.starts_with("[-]");
        let checks = lines.iter().take_while(|line| is_check(line)).count();
        lines[..checks].sort_unstable();
        let text = format!(
            "{} {:?} {:?}",
            answer.status,
            answer.headers,
            lines.join("\n")
        );
        self.names.in_text(&text)
    }

    /// This session without a record: for calls whose number or order differs from run to run.
    pub fn unrecorded(&self) -> Self {
        Self {
            transcript: Arc::default(),
            ..self.clone()
        }
    }

    /// This session with metadata on each request, such as `hasleader: true`.
    pub fn with_metadata(&self, metadata: Metadata) -> Self {
        Self {
            metadata,
            ..self.clone()
        }
    }

    /// The id of the member this session talks to.
    pub fn member_id(&self) -> u64 {
        self.names.this()
    }

    async fn answer(&self, method: &str, request: Bytes) -> Result<Bytes, Status> {
        let call = async {
            let mut request = Request::new(self.tampered(method, request));
            add_metadata(&mut request, self.metadata);
            self.grpc()
                .await?
                .unary(request, path(method), BytesCodec)
                .await
                .map(|answer| self.tampered_answer(method, answer.into_inner()))
        };
        let answer = tokio::time::timeout(PATIENCE, call).await;
        answer.unwrap_or_else(|_| Err(Status::cancelled(format!("no answer within {PATIENCE:?}"))))
    }

    fn note(&self, method: &str, request: &Bytes, answer: &Result<Bytes, Status>) {
        let reply = match answer {
            Ok(body) => format!("ok {}", self.names.render(&method_messages(method).1, body)),
            Err(status) => error_text(status),
        };
        self.count(method, request, answer.as_ref().err());
        self.record(self.request_text(method, request), reply);
    }

    pub(crate) fn request_text(&self, method: &str, request: &Bytes) -> String {
        format!(
            "{method} {}",
            self.names.render(&method_messages(method).0, request)
        )
    }

    pub(crate) fn count(&self, method: &str, request: &Bytes, error: Option<&Status>) {
        if let Some(coverage) = &self.coverage {
            let mut coverage = coverage.lock().unwrap_or_else(PoisonError::into_inner);
            coverage.count_request(&method_messages(method).0, request);
            if let Some(error) = error {
                coverage.count_error(error.message());
            }
        }
    }

    pub(crate) fn count_text(&self, text: &str) {
        if let Some(coverage) = &self.coverage {
            coverage
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .count_error(text);
        }
    }

    pub(crate) fn tampered(&self, method: &str, body: Bytes) -> Bytes {
        match self.tamper {
            Some(Tamper::Requests(change)) => change(method, body),
            _ => body,
        }
    }

    pub(crate) fn tampered_answer(&self, method: &str, body: Bytes) -> Bytes {
        match self.tamper {
            Some(Tamper::Answers(change)) => change(method, body),
            _ => body,
        }
    }

    pub(crate) async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    /// Opens a stream in both directions. It returns at once; the answer's stream is there when the server has begun
    /// to answer.
    pub(crate) fn open_stream(
        &self,
        method: &'static str,
        requests: tokio::sync::mpsc::Receiver<Bytes>,
    ) -> tokio::task::JoinHandle<Result<Streaming<Bytes>, Status>> {
        let session = self.clone();
        let sender = session.clone();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let requests = futures::StreamExt::map(requests, move |body| sender.tampered(method, body));
        let mut request = Request::new(requests);
        add_metadata(&mut request, self.metadata);
        tokio::spawn(async move {
            let answer = session
                .grpc()
                .await?
                .streaming(request, path(method), BytesCodec)
                .await?;
            Ok(answer.into_inner())
        })
    }
}

fn add_metadata<T>(request: &mut Request<T>, metadata: Metadata) {
    for (key, value) in metadata {
        request.metadata_mut().insert(
            AsciiMetadataKey::from_static(key),
            AsciiMetadataValue::from_static(value),
        );
    }
}

fn path(method: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/{method}")).expect("methods are named literally")
}

pub(crate) fn decode<R: Message + Default>(body: &Bytes) -> Result<R, Status> {
    R::decode(body.clone())
        .map_err(|error| Status::internal(format!("an answer that cannot be decoded: {error}")))
}

/// An error as the transcript holds it.
pub(crate) fn error_text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// That a call fails with this code and text.
pub fn fails<R: Debug>(answer: Result<R, Status>, code: Code, text: &str) -> Result<()> {
    match answer {
        Ok(answer) => bail!("wanted {code:?}: {text}, got {answer:?}"),
        Err(status) => {
            ensure!(
                status.code() == code && status.message() == text,
                "wanted {code:?}: {text}, got {}",
                error_text(&status)
            );
            Ok(())
        }
    }
}

/// That two values are equal; `what` names them in the failure.
pub fn expect<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Result<()> {
    ensure!(got == wanted, "{what}: wanted {wanted:?}, got {got:?}");
    Ok(())
}
