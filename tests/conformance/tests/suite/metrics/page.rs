//! A page of metrics, taken apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use metastore_conformance::Session;

/// What a family of metrics is.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) labels: BTreeSet<String>,
    /// Of a histogram: the upper bounds of its buckets.
    pub(super) bounds: Vec<f64>,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.labels
            .iter()
            .try_for_each(|label| write!(f, " {label}"))
    }
}

/// A page in Prometheus' text format.
pub(crate) struct Page(String);

impl Page {
    pub(super) fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The member's page as it is now.
    pub(crate) async fn get(t: &Session) -> Result<Self> {
        Ok(Self(t.unrecorded().http_get("/metrics").await?.body))
    }

    /// Every family by its name.
    pub(super) fn families(&self) -> BTreeMap<String, Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        for line in self.0.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                if let Some((name, kind)) = rest.split_once(' ') {
                    families.entry(name.to_owned()).or_default().kind = kind.to_owned();
                }
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap_or_default();
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .filter_map(|suffix| name.strip_suffix(suffix))
                    .find(|base| families.contains_key(*base))
                    .unwrap_or(name);
                families.entry(base.to_owned()).or_default().add(line);
            }
        }
        families
    }

    /// The value of a metric, summed over its labels' values that contain `with`; of a histogram, how many values
    /// it holds.
    pub(crate) fn value(&self, name: &str, with: &str) -> f64 {
        let count = format!("{name}_count");
        let lines = self.0.lines().filter(|line| {
            let found = line.split(['{', ' ']).next().unwrap_or_default();
            (found == name || found == count) && line.contains(with)
        });
        // Not `sum`, which makes a negative zero of nothing.
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.fold(0.0, |sum, value| sum + value)
    }
}

impl Family {
    fn add(&mut self, line: &str) {
        let labels = line
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .map_or("", |(labels, _)| labels);
        for label in labels.split("\",").filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once("=\"").unwrap_or((label, ""));
            self.labels.insert(name.to_owned());
            let bound = value.trim_end_matches('"').parse().unwrap_or(f64::NAN);
            if name == "le" && !self.bounds.contains(&bound) {
                self.bounds.push(bound);
            }
        }
    }
}

#[test]
fn a_page_is_taken_apart() {
    let page = Page::of(
        "# HELP a_seconds Time.\n# TYPE a_seconds histogram\na_seconds_bucket{op=\"x\",le=\"1e-04\"} 1\n\
         a_seconds_bucket{op=\"x\",le=\"+Inf\"} 2\na_seconds_sum{op=\"x\"} 3\na_seconds_count{op=\"x\"} 2\n\
         # TYPE b gauge\nb 1.5e+03\n",
    );
    let families = page.families();
    assert_eq!(families["a_seconds"].to_string(), "histogram le op");
    assert_eq!(families["a_seconds"].bounds, [0.0001, f64::INFINITY]);
    assert_eq!(families["b"].to_string(), "gauge");
    let values = [
        page.value("a_seconds", "op=\"x\""),
        page.value("b", ""),
        page.value("b", "{"),
    ];
    assert_eq!(values.map(|value| value as i64), [2, 1500, 0]);
}
