//! What a load is to show: a bound on MetaStore's figure, or on its ratio to etcd's in the same run.

use crate::cluster::Target;
use crate::record::Samples;
use crate::report;

/// A bound on one figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    figure: &'static str,
    /// Of the ratio to etcd's figure; otherwise of MetaStore's own.
    ratio: bool,
    bound: f64,
    /// The figure must not be below the bound; otherwise not above it.
    at_least: bool,
}

pub(crate) const fn ratio_at_most(figure: &'static str, bound: f64) -> Goal {
    Goal {
        figure,
        ratio: true,
        bound,
        at_least: false,
    }
}

pub(crate) const fn ratio_at_least(figure: &'static str, bound: f64) -> Goal {
    Goal {
        figure,
        ratio: true,
        bound,
        at_least: true,
    }
}

pub(crate) const fn own_at_most(figure: &'static str, bound: f64) -> Goal {
    Goal {
        figure,
        ratio: false,
        bound,
        at_least: false,
    }
}

pub(crate) const fn own_at_least(figure: &'static str, bound: f64) -> Goal {
    Goal {
        figure,
        ratio: false,
        bound,
        at_least: true,
    }
}

impl Goal {
    /// A row of the table of goals; none when the figure was not measured.
    pub(crate) fn row(&self, load: &str, samples: &Samples) -> Option<String> {
        let ours = report::figure(samples, Target::MetaStore, self.figure)?;
        let value = if self.ratio {
            ours / report::figure(samples, Target::Etcd, self.figure)?
        } else {
            ours
        };
        let (Self { figure, bound, .. }, sign) = (self, if self.at_least { ">=" } else { "<=" });
        let of = if self.ratio { ", ratio to etcd" } else { "" };
        let reached = if self.holds(value) { "yes" } else { "**no**" };
        Some(format!(
            "| {load} | {figure}{of} | {sign} {bound} | {value:.2} | {reached} |\n"
        ))
    }

    fn holds(&self, value: f64) -> bool {
        if self.at_least {
            value >= self.bound
        } else {
            value <= self.bound
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::Sample;

    #[test]
    fn a_goal_is_judged_by_the_medians_of_the_run() {
        let sample = |rate: f64| {
            let mut sample = Sample::default();
            sample.set("rate", rate);
            sample
        };
        let samples = BTreeMap::from([
            (Target::Etcd, vec![sample(10.0), sample(99.0), sample(11.0)]),
            (Target::MetaStore, vec![sample(22.0)]),
        ]);
        let row = |goal: Goal| goal.row("put", &samples);
        assert_eq!(
            row(ratio_at_least("rate", 2.0)).as_deref(),
            Some("| put | rate, ratio to etcd | >= 2 | 2.00 | yes |\n")
        );
        assert_eq!(
            row(own_at_most("rate", 21.5)).as_deref(),
            Some("| put | rate | <= 21.5 | 22.00 | **no** |\n")
        );
        assert_eq!(row(ratio_at_most("p50", 1.0)), None);
    }
}
