//! Metrics in Prometheus' text format.

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// What was scraped.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// The sum of the samples of `name` that carry all these labels; 0 when there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name)
            .filter(|(found, _)| {
                labels
                    .iter()
                    .all(|(label, value)| has_label(found, label, value))
            })
            .map(|(_, value)| value)
            .sum()
    }

    /// Whether any sample of `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.samples(name).next().is_some()
    }

    /// The lines of `name`, for a failure's message.
    pub fn lines(&self, name: &str) -> String {
        let lines: Vec<&str> = self
            .text
            .lines()
            .filter(|line| line.starts_with(name))
            .collect();
        lines.join("\n")
    }

    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }
}

fn has_label(labels: &str, label: &str, value: &str) -> bool {
    let wanted = format!("{label}=\"{value}\"");
    labels
        .match_indices(&wanted)
        .any(|(at, _)| at == 0 || labels.as_bytes()[at - 1] == b',')
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_summed_by_name_and_labels() {
        let metrics = Metrics::new(
            "# HELP a_total help\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total_more 9\nb 5e+00\n"
                .to_owned(),
        );
        assert_eq!(metrics.sum("a_total", &[]), 7.0);
        assert_eq!(metrics.sum("a_total", &[("y", "3")]), 4.0);
        assert_eq!(metrics.sum("a_total", &[("y", "4")]), 0.0);
        assert_eq!(metrics.sum("b", &[]), 5.0);
        assert!(!metrics.has("a"));
    }
}
