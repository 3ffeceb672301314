//! `--auto-compaction-mode` and `--auto-compaction-retention`; follows `parseCompactionRetention` in
//! `server/embed/etcd.go`.

use std::time::Duration;

use metastore_node::AutoCompaction;

use super::Invalid;
use crate::duration::GoDuration;

const HOUR: i64 = 3_600_000_000_000;

/// What automatic compaction keeps; `None` where it is off. As in etcd, a duration given in mode `revision`
/// counts its nanoseconds.
///
/// # Errors
/// Where the retention is neither a number nor a duration.
pub(super) fn parse(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, Invalid> {
    let retention = if retention.is_empty() { "0" } else { retention };
    let by_revision = mode == "revision";
    let amount = match atoi(retention) {
        Some(number) if by_revision => number,
        Some(hours) => hours.saturating_mul(HOUR),
        None => GoDuration::parse(retention)?.0,
    };
    Ok(match u64::try_from(amount) {
        Err(_) | Ok(0) => None,
        Ok(_) if by_revision => Some(AutoCompaction::Revision(amount)),
        Ok(nanoseconds) => Some(AutoCompaction::Periodic(Duration::from_nanos(nanoseconds))),
    })
}

/// Go's `strconv.Atoi`, of which etcd takes no negative number.
fn atoi(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retention_is_read_by_its_mode() {
        let hours = |n: u64| Some(AutoCompaction::Periodic(Duration::from_secs(n * 3600)));
        for (mode, retention, compaction) in [
            ("periodic", "0", None),
            ("periodic", "", None),
            ("periodic", "5", hours(5)),
            ("periodic", "+5", hours(5)),
            ("periodic", "1h", hours(1)),
            (
                "periodic",
                "10m",
                Some(AutoCompaction::Periodic(Duration::from_secs(600))),
            ),
            ("periodic", "-1h", None),
            ("revision", "1000", Some(AutoCompaction::Revision(1000))),
            ("revision", "1us", Some(AutoCompaction::Revision(1000))),
            ("revision", "0", None),
        ] {
            assert_eq!(
                parse(mode, retention).expect("a retention"),
                compaction,
                "{mode} {retention}"
            );
        }
    }

    #[test]
    fn refusals_have_etcds_words() {
        for (retention, error) in [
            (
                "foo",
                "error parsing CompactionRetention: time: invalid duration \"foo\"",
            ),
            (
                "-1",
                "error parsing CompactionRetention: time: missing unit in duration \"-1\"",
            ),
        ] {
            assert_eq!(
                parse("periodic", retention)
                    .expect_err("a refusal")
                    .to_string(),
                error
            );
        }
    }
}
