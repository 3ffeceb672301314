//! The door itself: every request on the client's port comes through here.
//!
//! Knows which method a path means, whom to let in (learners, `hasleader`), how long a request may take
//! and what to count. What a method does stands in the file of its service.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use metastore_node::{Node, Status};
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::check;
use crate::encoded::Encoded;
use crate::grpc::{self, Body, Code, Inbox, Kind, Metadata, Method, Outbox};
use crate::http::AccessControl;
use crate::leader_loss;
use crate::metrics::{self, Feature, Metrics, Tally};
use crate::slow;
use crate::status::{self, Refusal};

/// What the door has to be told.
pub struct Options {
    /// Where the metrics are kept; `/metrics` shows all of it.
    pub registry: Registry,
    /// Also time each gRPC method (`--metrics=extensive`).
    pub extensive_metrics: bool,
    /// Silence after which followers look for a new leader (`--election-timeout`).
    pub election_timeout: Duration,
    /// Unary requests that take longer are logged (`--warning-unary-request-duration`); zero logs none.
    pub slow_request: Duration,
    /// Reads that take longer are logged (`--warning-apply-duration`).
    pub slow_read: Duration,
    /// The feature gates, for the metrics.
    pub features: Vec<Feature>,
    /// How often an idle watch that asks for it is told its progress (`--watch-progress-notify-interval`).
    pub watch_progress_interval: Duration,
    /// Who may use the HTTP pages.
    pub access: AccessControl,
    /// The command line, for `/debug/vars`.
    pub command_line: Vec<String>,
}

/// The client's door of one member.
pub struct Door {
    pub(crate) node: Node,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: Options,
    /// The member's standing, always at hand.
    standing: watch::Receiver<Status>,
    /// Counts how often streams that need a leader had to be ended.
    leader_lost: watch::Receiver<u64>,
    /// Ends all streams when the server stops.
    stopping: CancellationToken,
    message_limit: usize,
}

/// What a client has said about how it wants to be served.
#[derive(Clone, Copy)]
struct Terms {
    timeout: Option<Duration>,
    requires_leader: bool,
}

impl Door {
    /// Opens the door of a member. Has to be called within a tokio runtime; a background task ends with the door.
    pub fn new(node: Node, options: Options) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Metrics::new(&options.registry, options.extensive_metrics)?;
        metrics::register_member(node.clone(), options.features.clone(), &options.registry)?;
        let standing = node.watch_status();
        Ok(Arc::new(Self {
            leader_lost: leader_loss::follow(standing.clone(), options.election_timeout),
            message_limit: check::message_limit(node.limits().max_request_bytes),
            stopping: CancellationToken::new(),
            node,
            metrics,
            options,
            standing,
        }))
    }

    /// The member behind the door.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Ends all streams with etcd's `server stopped`; requests under way get their answers.
    pub fn stop_streams(&self) {
        self.stopping.cancel();
    }

    /// How long etcd lets a request wait for the cluster: five seconds for the disks and two elections.
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.options.election_timeout
    }

    /// True while this member has no vote.
    pub(crate) fn is_learner(&self) -> bool {
        self.standing.borrow().is_learner
    }

    /// Whether a leader is known.
    pub(crate) fn has_leader(&self) -> bool {
        self.standing.borrow().has_leader()
    }

    /// Answers a gRPC request.
    pub(crate) async fn grpc(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let method = match Method::find(request.uri().path()) {
            Ok(method) => method,
            Err(refusal) => return grpc::refused(&refusal),
        };
        let mut tally = Tally::start(self.metrics.method(method));
        let terms = match self.admit(method, &request) {
            Ok(terms) => terms,
            Err(refusal) => {
                tally.finish(refusal.code());
                return grpc::refused(&refusal);
            }
        };
        let body = request.into_body();
        match method.kind() {
            Kind::Unary => self.answer(method, terms, body, tally).await,
            Kind::ServerStream | Kind::BidiStream => self.open(method, terms, body, tally),
        }
    }

    /// What etcd's interceptors look at before a method is called (`v3rpc/interceptor.go`).
    fn admit(&self, method: Method, request: &Request<Incoming>) -> Result<Terms, Refusal> {
        let standing = self.standing.borrow();
        // Whether a learner answers a range depends on the range.
        let for_learner = matches!(method, Method::Status | Method::Range | Method::Snapshot);
        if standing.is_learner && !for_learner {
            return Err(status::NOT_SUPPORTED_FOR_LEARNER);
        }
        let metadata = Metadata::read(request.headers())?;
        self.metrics
            .client_request(method.kind(), metadata.client_version);
        if metadata.requires_leader && !standing.has_leader() {
            return Err(status::NO_LEADER);
        }
        Ok(Terms {
            timeout: metadata.timeout,
            requires_leader: metadata.requires_leader,
        })
    }

    /// Answers a unary request.
    async fn answer(
        self: &Arc<Self>,
        method: Method,
        terms: Terms,
        body: Incoming,
        mut tally: Tally,
    ) -> Response<Body> {
        let handle = self.handle(method, body);
        let result = match terms.timeout {
            None => handle.await,
            Some(timeout) => match tokio::time::timeout(timeout, handle).await {
                Ok(result) => result,
                Err(_) => Err(status::CONTEXT_DEADLINE_EXCEEDED),
            },
        };
        let code = result.as_ref().map_or_else(Refusal::code, |_| Code::Ok);
        let took = tally.finish(code);
        if took >= self.options.slow_request && !self.options.slow_request.is_zero() {
            slow::unary(method, took, code);
        }
        match result {
            Ok(answer) => grpc::unary(answer),
            Err(refusal) => grpc::refused(&refusal),
        }
    }

    async fn handle(self: &Arc<Self>, method: Method, body: Incoming) -> Result<Encoded, Refusal> {
        let message = Inbox::new(body, self.message_limit).only().await?;
        let counters = self.metrics.method(method);
        counters.received(message.len());
        let answer = self.call(method, message).await?;
        counters.sent(answer.len());
        Ok(answer)
    }

    /// Calls a unary method with an encoded request. The frequent ones are called in place.
    pub(crate) async fn call(
        self: &Arc<Self>,
        method: Method,
        message: Bytes,
    ) -> Result<Encoded, Refusal> {
        match method {
            Method::Put => self.put(message).await,
            Method::Range => self.range(message).await,
            Method::Txn => self.txn(message).await,
            _ => Box::pin(self.call_rare(method, message)).await,
        }
    }

    async fn call_rare(
        self: &Arc<Self>,
        method: Method,
        message: Bytes,
    ) -> Result<Encoded, Refusal> {
        match method {
            Method::DeleteRange => self.delete_range(message).await,
            Method::Compact => self.compact(message).await,
            Method::LeaseGrant => self.lease_grant(message).await,
            Method::LeaseRevoke => self.lease_revoke(message).await,
            Method::LeaseTimeToLive => self.lease_time_to_live(message).await,
            Method::LeaseLeases => self.lease_leases(),
            Method::MemberList => self.member_list(message).await,
            Method::Alarm => self.alarm(message).await,
            Method::Status => Ok(self.status()),
            Method::Defragment => self.defragment().await,
            Method::Hash => self.hash().await,
            Method::HashKv => self.hash_kv(message).await,
            Method::HealthCheck => crate::health::check(message),
            Method::HealthList => Ok(crate::health::list()),
            other => Err(Refusal::unimplemented(other.name())),
        }
    }

    /// Opens a stream; the method runs as the answer's body is read.
    fn open(
        self: &Arc<Self>,
        method: Method,
        terms: Terms,
        body: Incoming,
        tally: Tally,
    ) -> Response<Body> {
        let counters = self.metrics.method(method).clone();
        let inbox = Inbox::counted(body, self.message_limit, counters.clone());
        let door = self.clone();
        grpc::streamed(counters, move |outbox| {
            door.run(method, terms, inbox, outbox, tally)
        })
    }

    /// Runs a streaming method until it ends, or until something outside ends it.
    async fn run(
        self: Arc<Self>,
        method: Method,
        terms: Terms,
        inbox: Inbox,
        outbox: Outbox,
        mut tally: Tally,
    ) -> Result<(), Refusal> {
        let result = tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(status::STOPPED),
            () = leader_loss::lost(self.leader_lost.clone()), if terms.requires_leader => Err(status::NO_LEADER),
            () = expired(terms.timeout, tally.since()) => Err(status::CONTEXT_DEADLINE_EXCEEDED),
            result = self.stream(method, inbox, outbox) => result,
        };
        tally.finish(result.as_ref().map_or_else(Refusal::code, |()| Code::Ok));
        result
    }

    async fn stream(
        self: &Arc<Self>,
        method: Method,
        inbox: Inbox,
        outbox: Outbox,
    ) -> Result<(), Refusal> {
        match method {
            Method::Watch => self.watch(inbox, outbox).await,
            Method::LeaseKeepAlive => self.lease_keep_alive(inbox, outbox).await,
            Method::RangeStream => self.range_stream(inbox, outbox).await,
            Method::HealthWatch => crate::health::watch(inbox, outbox).await,
            other => Err(Refusal::unimplemented(other.name())),
        }
    }
}

/// Resolves when `timeout` after `since` is over; never without a timeout.
async fn expired(timeout: Option<Duration>, since: Instant) {
    match timeout {
        Some(timeout) => tokio::time::sleep_until((since + timeout).into()).await,
        None => std::future::pending().await,
    }
}
