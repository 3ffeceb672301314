//! `/health`, `/livez` and `/readyz` (`server/etcdserver/api/etcdhttp/health.go`).

use std::sync::Arc;

use http::{Response, StatusCode};
use metastore_mvcc::Query;
use metastore_proto::etcdserverpb::AlarmType;

use super::query;
use super::response::{PLAIN, document, failure, plain};
use crate::door::Door;
use crate::grpc::Body;
use crate::status::{self, Refusal};

/// Something that can be asked of a member by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// No member has found the data corrupt.
    DataCorruption,
    /// The member reads its own store.
    SerializableRead,
    /// The cluster agrees on what is newest.
    LinearizableRead,
    /// The member has a vote.
    NonLearner,
}

impl Check {
    const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

/// What a page checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checks {
    kind: &'static str,
    list: &'static [Check],
    /// A page for a single check has no `exclude`.
    single: bool,
}

/// The checks behind `/livez`, `/readyz`, `/livez/<check>` or `/readyz/<check>`.
pub(super) fn checks_at(path: &str) -> Option<Checks> {
    let (kind, list, rest) = if let Some(rest) = path.strip_prefix("/livez") {
        ("livez", LIVEZ, rest)
    } else {
        ("readyz", READYZ, path.strip_prefix("/readyz")?)
    };
    if rest.is_empty() {
        let single = false;
        return Some(Checks { kind, list, single });
    }
    let name = rest.strip_prefix('/')?;
    let at = list.iter().position(|check| check.name() == name)?;
    Some(Checks {
        kind,
        list: &list[at..=at],
        single: true,
    })
}

/// Runs the checks and tells `ok`, or what failed.
pub(super) async fn run(door: &Arc<Door>, checks: Checks, query: &str) -> Response<Body> {
    let excluded: Vec<_> = if checks.single {
        Vec::new()
    } else {
        given(query, "exclude")
    };
    warn_of_unknown(&excluded, checks.list);
    let mut report = String::new();
    let mut failed = false;
    for check in checks.list {
        let name = check.name();
        if excluded.iter().any(|excluded| excluded == name) {
            continue;
        }
        let result = examine(door, *check).await;
        match &result {
            Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => report.push_str(&format!("[-]{name} failed: {reason}\n")),
        }
        failed |= result.is_err();
        record(door, checks.kind, name, result.is_ok());
    }
    if failed {
        tracing::error!(path = checks.kind, reason = report, "Health check error");
        return failure(StatusCode::SERVICE_UNAVAILABLE, &report);
    }
    if query::values(query, "verbose").next().is_none() {
        report.clear();
    }
    report.push_str("ok\n");
    plain(report)
}

async fn examine(door: &Arc<Door>, check: Check) -> Result<(), String> {
    match check {
        Check::DataCorruption if door.node.view().has_alarm(AlarmType::Corrupt) => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        Check::NonLearner if door.is_learner() => Err("not supported for learner".to_owned()),
        Check::DataCorruption | Check::NonLearner => Ok(()),
        Check::SerializableRead => read(door, true)
            .await
            .map_err(|refusal| refusal.text().to_owned()),
        Check::LinearizableRead => read(door, false)
            .await
            .map_err(|refusal| refusal.text().to_owned()),
    }
}

/// Reads as a client would; what is found does not matter.
async fn read(door: &Arc<Door>, serializable: bool) -> Result<(), Refusal> {
    if !serializable {
        let barrier = tokio::time::timeout(door.request_timeout(), door.node.read_barrier());
        barrier.await.map_err(|_| status::TIMEOUT)??;
    }
    let query = Query {
        limit: 1,
        keys_only: true,
        ..Query::default()
    };
    door.node.store().range(&query)?;
    Ok(())
}

fn record(door: &Door, kind: &str, name: &str, success: bool) {
    let result = if success { "success" } else { "error" };
    let metrics = &door.metrics;
    metrics
        .check_result
        .with_label_values(&[kind, name])
        .set(i64::from(success));
    metrics
        .checks
        .with_label_values(&[kind, name, result])
        .inc();
}

fn warn_of_unknown(excluded: &[String], list: &[Check]) {
    let unknown = |name: &&String| !list.iter().any(|check| check.name() == name.as_str());
    let missing: Vec<_> = excluded.iter().filter(unknown).collect();
    if !missing.is_empty() {
        tracing::warn!(missing_health_checks = ?missing, "some health checks cannot be excluded");
    }
}

fn given(query: &str, name: &str) -> Vec<String> {
    query::values(query, name)
        .filter(|value| !value.is_empty())
        .collect()
}

/// `/health`: alarms, leader, read; the older page, which alarms fail.
pub(super) async fn health(door: &Arc<Door>, query: &str) -> Response<Body> {
    let excluded = given(query, "exclude");
    let serializable = query::values(query, "serializable")
        .next()
        .is_some_and(|value| value == "true");
    match find_fault(door, &excluded, serializable).await {
        None => {
            door.metrics.health_success.inc();
            document(PLAIN, r#"{"health":"true","reason":""}"#.to_owned())
        }
        Some(reason) => {
            door.metrics.health_failures.inc();
            let output = format!(
                r#"{{"health":"false","reason":{}}}"#,
                serde_json::Value::from(reason)
            );
            tracing::warn!(output, status_code = 503, "/health error");
            failure(StatusCode::SERVICE_UNAVAILABLE, &output)
        }
    }
}

async fn find_fault(door: &Arc<Door>, excluded: &[String], serializable: bool) -> Option<String> {
    for alarm in door.node.view().alarms(AlarmType::None) {
        let name = alarm.alarm().as_str_name();
        if excluded.iter().any(|excluded| excluded == name) {
            continue;
        }
        return Some(match alarm.alarm() {
            AlarmType::None => "ALARM UNKNOWN".to_owned(),
            _ => format!("ALARM {name}"),
        });
    }
    if !serializable && !door.has_leader() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let error = read(door, serializable).await.err()?;
    Some(format!("RANGE ERROR:{}", error.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_checks() {
        let names = |path| {
            let checks = checks_at(path)?;
            Some(
                checks
                    .list
                    .iter()
                    .map(|check| check.name())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(names("/livez"), Some(vec!["serializable_read"]));
        let ready = vec![
            "data_corruption",
            "serializable_read",
            "linearizable_read",
            "non_learner",
        ];
        assert_eq!(names("/readyz"), Some(ready));
        assert_eq!(names("/readyz/non_learner"), Some(vec!["non_learner"]));
        assert_eq!(
            names("/livez/serializable_read"),
            Some(vec!["serializable_read"])
        );
    }

    #[test]
    fn there_is_no_page_for_anything_else() {
        for path in [
            "/livez/non_learner",
            "/readyz/",
            "/readyzz",
            "/live",
            "/readyz/foo/bar",
        ] {
            assert_eq!(checks_at(path), None, "{path}");
        }
    }
}
