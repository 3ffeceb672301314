//! Families of metrics that are put together when somebody scrapes.

use std::collections::HashMap;

use metastore_histogram::Reading;
use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// What a family is, before it has values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described {
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    /// In the order of their names.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// Shorthands for tables.
pub(super) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    described(name, MetricType::COUNTER, labels, help)
}

pub(super) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    described(name, MetricType::GAUGE, labels, help)
}

pub(super) const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    described(name, MetricType::HISTOGRAM, labels, help)
}

const fn described(
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    Described {
        name,
        kind,
        labels,
        help,
    }
}

impl Described {
    pub(super) fn desc(&self) -> Result<Desc, prometheus::Error> {
        let labels = self.labels.iter().map(|&label| label.to_owned()).collect();
        let (name, help) = (self.name.to_owned(), self.help.to_owned());
        Desc::new(name, help, labels, HashMap::new())
    }
}

/// The values of one scrape, by the families of a table.
pub(super) struct Families {
    table: &'static [Described],
    values: Vec<Vec<Metric>>,
}

impl Families {
    pub(super) fn of(table: &'static [Described]) -> Self {
        Self {
            table,
            values: table.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// Adds a number to a counter or a gauge; `labels` are the values of its labels, in their order.
    pub(super) fn number(&mut self, name: &str, labels: &[&str], value: f64) {
        let at = self.place(name);
        let mut metric = self.metric(at, labels);
        if self.table[at].kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.values[at].push(metric);
    }

    /// Adds the values of a histogram.
    pub(super) fn sizes(&mut self, name: &str, labels: &[&str], reading: &Reading) {
        let at = self.place(name);
        let mut metric = self.metric(at, labels);
        let mut histogram = Histogram::default();
        let bucket = |&(bound, number): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(number);
            bucket
        };
        histogram.set_bucket(reading.buckets.iter().map(bucket).collect());
        histogram.set_sample_count(reading.count);
        histogram.set_sample_sum(reading.sum);
        metric.set_histogram(histogram);
        self.values[at].push(metric);
    }

    /// The families that have values.
    pub(super) fn finish(self) -> Vec<MetricFamily> {
        let filled = self
            .table
            .iter()
            .zip(self.values)
            .filter(|(_, values)| !values.is_empty());
        filled
            .map(|(described, values)| {
                let mut family = MetricFamily::default();
                family.set_name(described.name.to_owned());
                family.set_help(described.help.to_owned());
                family.set_field_type(described.kind);
                family.set_metric(values);
                family
            })
            .collect()
    }

    fn place(&self, name: &str) -> usize {
        let at = self.table.iter().position(|known| known.name == name);
        at.unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    fn metric(&self, at: usize, values: &[&str]) -> Metric {
        let names = self.table[at].labels;
        assert_eq!(
            names.len(),
            values.len(),
            "labels of {}",
            self.table[at].name
        );
        let pairs = names.iter().zip(values);
        let mut metric = Metric::default();
        metric.set_label(pairs.map(|(name, value)| label(name, value)).collect());
        metric
    }
}

pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
