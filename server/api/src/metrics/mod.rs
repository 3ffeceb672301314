//! What the door counts, under etcd's metric names.
//!
//! Counting costs a few relaxed additions; the families are put together when somebody scrapes.
//! This module must not know what a request means.

mod collector;
mod family;
mod member;
mod method;
mod process;
mod table;
mod timing;
mod versions;

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

pub use member::Feature;
pub(crate) use member::register_member;
pub use method::{MethodCounters, Tally};
pub use timing::{RequestKind, Timing};

use crate::grpc::{Code, Kind, Method};
use crate::status::Refusal;
use versions::ClientVersions;

/// Everything the door counts.
pub struct Metrics {
    methods: Vec<Arc<MethodCounters>>,
    versions: ClientVersions,
    /// Time that requests and reads take.
    pub timing: Timing,
    /// Time to hand one answer with events to the connection.
    pub watch_events: Histogram,
    /// The same, divided by the number of events.
    pub watch_per_event: Histogram,
    /// Time to hand one answer to a client's wish to the connection.
    pub watch_control: Histogram,
    /// Time to hand a notice of progress to the connection.
    pub watch_progress: Histogram,
    /// `/health` answered well.
    pub health_success: IntCounter,
    /// `/health` answered badly.
    pub health_failures: IntCounter,
    /// The last result of each check of `/livez` and `/readyz` (labels type and name).
    pub check_result: IntGaugeVec,
    /// Runs of each check (labels type, name and status).
    pub checks: IntCounterVec,
    /// Streams that broke off by a mistake of the client (labels API and Type).
    stream_failures: IntCounterVec,
}

impl Metrics {
    /// Creates all metrics and puts them into `registry`. `extensive` adds the histogram of handling
    /// times per method (`--metrics=extensive`).
    pub fn new(registry: &Registry, extensive: bool) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Self {
            methods: Method::ALL.iter().map(|_| Arc::default()).collect(),
            versions: ClientVersions::default(),
            timing: Timing::new(registry)?,
            watch_events: watch_histogram(
                registry,
                "watch_stream_duration_seconds",
                "The total duration in seconds of running through the send loop watch stream response all events.",
            )?,
            watch_per_event: watch_histogram(
                registry,
                "watch_stream_duration_per_event_seconds",
                "The average duration in seconds of running through the send loop watch stream response, per event.",
            )?,
            watch_control: watch_histogram(
                registry,
                "control_stream_duration_seconds",
                "The total duration in seconds of running through the send loop control stream response.",
            )?,
            watch_progress: watch_histogram(
                registry,
                "progress_duration_seconds",
                "The total duration in seconds of running through the progress loop control stream response.",
            )?,
            health_success: counter(
                registry,
                "etcd_server_health_success",
                "The total number of successful health checks",
            )?,
            health_failures: counter(
                registry,
                "etcd_server_health_failures",
                "The total number of failed health checks",
            )?,
            check_result: check_result(registry)?,
            checks: counters(
                registry,
                "etcd_server_healthchecks_total",
                "The total number of each kind of healthcheck.",
                &["type", "name", "status"],
            )?,
            stream_failures: counters(
                registry,
                "etcd_network_server_stream_failures_total",
                "The total number of stream failures from the local server.",
                &["API", "Type"],
            )?,
        };
        let metrics = Arc::new(metrics);
        collector::register(&metrics, registry, extensive)?;
        process::register(registry)?;
        Ok(metrics)
    }

    /// The counters of one method.
    pub fn method(&self, method: Method) -> &Arc<MethodCounters> {
        &self.methods[method as usize]
    }

    /// Counts a request of a client of this version (`etcd_server_client_requests_total`).
    pub fn client_request(&self, kind: Kind, version: &str) {
        self.versions.count(kind == Kind::Unary, version);
    }
}

impl Metrics {
    /// What a client sent on a stream of `api` could not be taken. That it went away is no failure (etcd:
    /// `isClientCtxErr`).
    pub(crate) fn stream_failed(&self, api: &str, refusal: &Refusal) {
        if !matches!(refusal.code(), Code::Canceled | Code::DeadlineExceeded) {
            let labels = [api, "receive"];
            self.stream_failures.with_label_values(&labels).inc();
        }
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::new(name, help)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn check_result(registry: &Registry) -> Result<IntGaugeVec, prometheus::Error> {
    let options = Opts::new(
        "etcd_server_healthcheck",
        "The result of each kind of healthcheck.",
    );
    let gauges = IntGaugeVec::new(options, &["type", "name"])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn watch_histogram(
    registry: &Registry,
    name: &str,
    help: &str,
) -> Result<Histogram, prometheus::Error> {
    let name = format!("etcd_debugging_server_watch_send_loop_{name}");
    let buckets = prometheus::exponential_buckets(0.001, 2.0, 14)?;
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .expect("encodes")
    }

    #[test]
    fn a_request_shows_under_the_names_of_etcd() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, false).expect("registers");
        let mut tally = Tally::start(metrics.method(Method::Put));
        metrics.method(Method::Put).received(10);
        metrics.method(Method::Put).sent(20);
        tally.finish(Code::Ok);
        metrics.client_request(Kind::Unary, "3.6");
        let text = scrape(&registry);
        let labels = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
        for line in [
            format!("grpc_server_started_total{{{labels}}} 1"),
            format!("grpc_server_msg_received_total{{{labels}}} 1"),
            format!("grpc_server_msg_sent_total{{{labels}}} 1"),
            format!(r#"grpc_server_handled_total{{grpc_code="OK",{labels}}} 1"#),
            format!(r#"grpc_server_handled_total{{grpc_code="Internal",{labels}}} 0"#),
            "etcd_network_client_grpc_received_bytes_total 10".to_owned(),
            "etcd_network_client_grpc_sent_bytes_total 20".to_owned(),
            r#"etcd_server_client_requests_total{client_api_version="3.6",type="unary"} 1"#
                .to_owned(),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in:\n{text}"
            );
        }
        assert!(
            !text.contains("v3lockpb.Lock"),
            "etcd shows a lock only once it is used"
        );
    }

    #[test]
    fn a_request_that_is_dropped_counts_as_cancelled() {
        let counters = Arc::new(MethodCounters::default());
        drop(Tally::start(&counters));
        assert_eq!(counters.handled(Code::Canceled), 1);
    }
}
