//! The families of what is counted per method, put together when somebody scrapes.

use std::sync::Arc;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::family::label;
use super::method::SECONDS;
use super::{MethodCounters, Metrics};
use crate::grpc::{Code, Method};

/// Services that etcd shows from the start, with zeros; the others once they are used.
const LATER: [&str; 2] = ["v3lockpb.Lock", "v3electionpb.Election"];

/// Name, help text and labels of each family.
const FAMILIES: [(&str, &str, &[&str]); 8] = [
    (
        "grpc_server_started_total",
        "Total number of RPCs started on the server.",
        &["grpc_method", "grpc_service", "grpc_type"],
    ),
    (
        "grpc_server_msg_received_total",
        "Total number of RPC stream messages received on the server.",
        &["grpc_method", "grpc_service", "grpc_type"],
    ),
    (
        "grpc_server_msg_sent_total",
        "Total number of gRPC stream messages sent by the server.",
        &["grpc_method", "grpc_service", "grpc_type"],
    ),
    (
        "grpc_server_handled_total",
        "Total number of RPCs completed on the server, regardless of success or failure.",
        &["grpc_code", "grpc_method", "grpc_service", "grpc_type"],
    ),
    (
        "etcd_network_client_grpc_received_bytes_total",
        "The total number of bytes received from grpc clients.",
        &[],
    ),
    (
        "etcd_network_client_grpc_sent_bytes_total",
        "The total number of bytes sent to grpc clients.",
        &[],
    ),
    (
        "etcd_server_client_requests_total",
        "The total number of client requests per client version.",
        &["client_api_version", "type"],
    ),
    (
        "grpc_server_handling_seconds",
        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
        &["grpc_method", "grpc_service", "grpc_type"],
    ),
];

struct MethodCollector {
    metrics: Arc<Metrics>,
    descriptions: Vec<Desc>,
    extensive: bool,
}

/// Puts the families into the registry.
pub(super) fn register(
    metrics: &Arc<Metrics>,
    registry: &Registry,
    extensive: bool,
) -> Result<(), prometheus::Error> {
    let describe = |(name, help, labels): &(&str, &str, &[&str])| {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        Desc::new(
            (*name).to_owned(),
            (*help).to_owned(),
            labels,
            Default::default(),
        )
    };
    let shown = FAMILIES
        .iter()
        .take(FAMILIES.len() - usize::from(!extensive));
    let collector = MethodCollector {
        metrics: metrics.clone(),
        descriptions: shown.map(describe).collect::<Result<_, _>>()?,
        extensive,
    };
    registry.register(Box::new(collector))
}

impl Collector for MethodCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let [
            started,
            received,
            sent,
            handled,
            received_bytes,
            sent_bytes,
            clients,
            handling,
        ] = [0, 1, 2, 3, 4, 5, 6, 7];
        let mut families: Vec<_> = FAMILIES.iter().map(|_| Vec::new()).collect();
        let (mut bytes_in, mut bytes_out) = (0, 0);
        for &method in Method::ALL {
            let counters = self.metrics.method(method);
            if counters.started() == 0 && LATER.contains(&method.service()) {
                continue;
            }
            let messages = counters.messages();
            let bytes = counters.bytes();
            bytes_in += bytes.0;
            bytes_out += bytes.1;
            families[started].push(count(labels(method), counters.started()));
            families[received].push(count(labels(method), messages.0));
            families[sent].push(count(labels(method), messages.1));
            for code in Code::ALL {
                let mut labels = labels(method);
                labels.insert(0, label("grpc_code", code.name()));
                families[handled].push(count(labels, counters.handled(code)));
            }
            if self.extensive {
                families[handling].push(times(labels(method), counters));
            }
        }
        families[received_bytes].push(count(Vec::new(), bytes_in));
        families[sent_bytes].push(count(Vec::new(), bytes_out));
        for (version, unary, streams) in self.metrics.versions.all() {
            for (kind, number) in [("unary", unary), ("stream", streams)] {
                if number > 0 {
                    let labels = vec![label("client_api_version", &version), label("type", kind)];
                    families[clients].push(count(labels, number));
                }
            }
        }
        assemble(families)
    }
}

fn assemble(families: Vec<Vec<Metric>>) -> Vec<MetricFamily> {
    let filled = FAMILIES
        .iter()
        .zip(families)
        .filter(|(_, metrics)| !metrics.is_empty());
    filled
        .map(|(&(name, help, _), metrics)| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            let histogram = name.ends_with("_seconds");
            family.set_field_type(if histogram {
                MetricType::HISTOGRAM
            } else {
                MetricType::COUNTER
            });
            family.set_metric(metrics);
            family
        })
        .collect()
}

fn labels(method: Method) -> Vec<LabelPair> {
    vec![
        label("grpc_method", method.name()),
        label("grpc_service", method.service()),
        label("grpc_type", method.kind().name()),
    ]
}

fn count(labels: Vec<LabelPair>, number: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(number as f64);
    let mut metric = Metric::default();
    metric.set_label(labels);
    metric.set_counter(counter);
    metric
}

fn times(labels: Vec<LabelPair>, counters: &MethodCounters) -> Metric {
    let (numbers, seconds) = counters.handling();
    let mut histogram = Histogram::default();
    let mut sum = 0;
    let mut buckets = Vec::with_capacity(SECONDS.len());
    for (bound, number) in SECONDS.iter().zip(numbers) {
        sum += number;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(sum);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(numbers.iter().sum());
    histogram.set_sample_sum(seconds);
    let mut metric = Metric::default();
    metric.set_label(labels);
    metric.set_histogram(histogram);
    metric
}
