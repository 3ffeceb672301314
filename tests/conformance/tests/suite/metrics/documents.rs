//! The tables in the documents, held against what a member shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use metastore_conformance::{Session, runtime, sizes, targets};
use metastore_harness::{Cluster, Spec, Target};
use tokio::sync::Mutex;

use super::ABSENT;
use super::load::{self, eventually};
use super::page::{Family, Page};

const DOCUMENTS: [(&str, &str); 2] = [
    (
        "docs/en/metrics.md",
        include_str!("../../../../../docs/en/metrics.md"),
    ),
    (
        "docs/zh/metrics.md",
        include_str!("../../../../../docs/zh/metrics.md"),
    ),
];

/// Stands behind the name of a metric that is shown from its first use on.
const LATER: &str = "\u{2020}";
/// Stands behind the name of one that only members with others show.
const OF_PEERS: &str = "\u{2021}";

#[derive(Debug, PartialEq, Eq)]
struct Row {
    mark: String,
    kind: String,
    labels: String,
}

/// The rows of a document's tables whose first cell names a metric: `name`, mark, type and labels.
fn rows(document: &str) -> Result<BTreeMap<&str, Row>> {
    let mut rows = BTreeMap::new();
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [first, kind, labels, _meaning] = cells[..] else {
            continue;
        };
        let (name, mark) = first
            .trim_start_matches('`')
            .split_once('`')
            .unwrap_or((first, ""));
        let row = Row {
            mark: mark.trim().to_owned(),
            kind: kind.to_owned(),
            labels: labels.replace(['`', ','], ""),
        };
        ensure!(rows.insert(name, row).is_none(), "{name} stands twice");
    }
    Ok(rows)
}

fn shown(family: &Family) -> (String, String) {
    let labels = family.labels.iter().filter(|label| *label != "le");
    let labels: Vec<&str> = labels.map(String::as_str).collect();
    (family.kind.clone(), labels.join(" "))
}

fn compare(
    document: &str,
    text: &str,
    page: &Page,
    size: usize,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let rows = rows(text)?;
    let families = page.families();
    for (name, family) in &families {
        let is = shown(family);
        match rows.get(name.as_str()) {
            None => wrong.push(format!("{document} lacks {name}: {is:?}")),
            Some(row) if (&row.kind, &row.labels) != (&is.0, &is.1) => {
                wrong.push(format!("{document} has {name} as {row:?}, it is {is:?}"));
            }
            Some(_) => {}
        }
    }
    for (name, row) in rows {
        let expected = match row.mark.as_str() {
            "" => true,
            OF_PEERS => size > 1,
            LATER => false,
            mark => {
                wrong.push(format!("{document} marks {name} with {mark:?}"));
                false
            }
        };
        if expected && !families.contains_key(name) {
            wrong.push(format!("{document} has {name}, which is not shown"));
        }
    }
    Ok(())
}

#[test]
fn the_documents_list_what_a_member_shows() -> Result<()> {
    for target in targets()?
        .into_iter()
        .filter(|target| *target != Target::Etcd)
    {
        for size in sizes()? {
            runtime()?.block_on(one_cluster(target, size))?;
        }
    }
    Ok(())
}

async fn one_cluster(target: Target, size: usize) -> Result<()> {
    let spec = Spec::new(target, size).with_flags(["--metrics=extensive"]);
    let cluster = Arc::new(Mutex::new(Cluster::start(&spec).await?));
    let t = Session::open(cluster, 0).await?;
    let _watching = load::run(&t).await?;
    let timed = "etcd_network_peer_round_trip_time_seconds";
    eventually("members should be timed", async || {
        Ok(size == 1 || Page::get(&t).await?.value(timed, "") > 0.0)
    })
    .await?;
    let page = Page::get(&t).await?;
    let mut wrong = Vec::new();
    for (document, text) in DOCUMENTS {
        compare(document, text, &page, size, &mut wrong)?;
    }
    ensure!(
        wrong.is_empty(),
        "{target} with {size} member(s):\n{}",
        wrong.join("\n")
    );
    Ok(())
}

#[test]
fn the_documents_name_what_is_left_out() {
    for (document, text) in DOCUMENTS {
        for (name, why) in ABSENT {
            assert!(text.contains(name), "{document} should name {name}: {why}");
        }
    }
}

#[test]
fn both_documents_have_the_same_tables() -> Result<()> {
    let [(_, english), (_, chinese)] = DOCUMENTS;
    assert_eq!(rows(english)?, rows(chinese)?);
    Ok(())
}
