//! From the command line to the end of the process.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_conformance::{Setup, check, check_with, expect, targets};
use metastore_harness::{Ending, Process, Target};

struct Run {
    ending: Ending,
    lines: Vec<String>,
}

/// Runs the program with these arguments until it ends by itself, in an empty folder.
fn run(target: Target, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Run> {
    let folder = tempfile_folder()?;
    let mut command = Command::new(target.binary()?);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(&folder.0);
    let log = folder.0.join("log");
    metastore_conformance::runtime()?.block_on(async {
        let mut process = Process::spawn(&target.to_string(), &mut command, &log)?;
        let ending = process.wait(Duration::from_secs(20)).await?;
        Ok(Run {
            ending,
            lines: process.lines(),
        })
    })
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn tempfile_folder() -> Result<Folder> {
    let name = format!(
        "metastore-startup-{}-{:x}",
        std::process::id(),
        rand::random::<u64>()
    );
    let folder = Folder(std::env::temp_dir().join(name));
    std::fs::create_dir(&folder.0).context("a folder")?;
    Ok(folder)
}

impl Run {
    /// The first line that is no log, which is what a person sees.
    fn said(&self) -> &str {
        self.lines
            .iter()
            .find(|line| !line.starts_with('{'))
            .map_or("", String::as_str)
    }
}

fn compare(arguments: &[&str]) -> Result<Option<String>> {
    let expected = run(Target::Etcd, arguments, &[])?;
    for target in targets()? {
        let got = run(target, arguments, &[])?;
        if got.ending != expected.ending || got.said() != expected.said() {
            let (ending, said) = (expected.ending, expected.said());
            return Ok(Some(format!(
                "{target} {arguments:?}: wanted {ending:?} {said:?}, got {:?} {:?}",
                got.ending,
                got.said()
            )));
        }
    }
    Ok(None)
}

#[test]
fn command_lines_that_are_not_understood() -> Result<()> {
    let mut wrong = Vec::new();
    for argument in [
        "--no-such-flag",
        "-no-such-flag=1",
        "---name",
        "--=x",
        "--name",
        "stray",
        "--heartbeat-interval=x",
        "--heartbeat-interval=-5",
        "--max-txn-ops=-1",
        "--quota-backend-bytes=1e6",
        "--snapshot-count=abc",
        "--auto-tls=maybe",
        "--initial-cluster-state=nope",
        "--listen-client-urls=http://127.0.0.1:1x",
        "--listen-client-urls=ftp://127.0.0.1:99",
        "--listen-peer-urls=127.0.0.1:99",
        "--watch-progress-notify-interval=5",
        "--auto-compaction-mode=nope",
        "--auto-compaction-retention=x",
        "--election-timeout=10",
        "--initial-cluster=other=http://127.0.0.1:2380",
        "--config-file=/nonexistent",
        "--feature-gates=Nope=true",
        "--logger=nope",
    ] {
        wrong.extend(compare(&[argument])?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_version_has_etcds_line() -> Result<()> {
    for target in targets()? {
        let run = run(target, &["--version"], &[])?;
        expect("ending", run.ending, Ending::Code(0))?;
        ensure!(
            run.lines.iter().any(|line| line == "etcd Version: 3.7.3"),
            "{:?}",
            run.lines
        );
    }
    Ok(())
}

/// Flags that etcd still describes and no longer takes.
const GONE: [&str; 2] = ["discovery", "discovery-proxy"];

#[test]
fn every_flag_in_etcds_help_is_in_ours() -> Result<()> {
    let flags = |run: &Run| -> std::collections::BTreeSet<String> {
        let words = run
            .lines
            .iter()
            .filter_map(|line| line.split_whitespace().next());
        let flags = words.filter_map(|word| word.strip_prefix("--"));
        flags
            .map(|flag| flag.split(['=', ')']).next().unwrap_or_default().to_owned())
            .collect()
    };
    let expected = run(Target::Etcd, &["--help"], &[])?;
    expect("ending", expected.ending, Ending::Code(0))?;
    let expected = flags(&expected);
    ensure!(
        expected.len() > 80,
        "{} flags found in etcd's help",
        expected.len()
    );
    for target in targets()? {
        let got = run(target, &["--help"], &[])?;
        expect("ending", got.ending, Ending::Code(0))?;
        let got = flags(&got);
        let missing: Vec<_> = expected
            .difference(&got)
            .filter(|flag| !GONE.contains(&flag.as_str()))
            .collect();
        ensure!(missing.is_empty(), "{target}'s help lacks {missing:?}");
    }
    Ok(())
}

#[test]
fn a_term_signal_ends_the_member_soon_and_frees_its_ports() -> Result<()> {
    check(async |t| {
        let url = t.url().to_owned();
        let start = Instant::now();
        let ending = t.cluster().await.member(t.index()).stop().await?;
        expect("ending", ending, Ending::Signal(15))?;
        ensure!(
            start.elapsed() < Duration::from_secs(8),
            "it took {:?}",
            start.elapsed()
        );
        let address = url.trim_start_matches("http://").to_owned();
        std::net::TcpListener::bind(address).context("the port is free")?;
        Ok(())
    })
}

#[test]
fn the_log_is_one_json_object_a_line_with_etcds_keys() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let lines = t.cluster().await.member(0).process()?.lines();
        ensure!(lines.len() > 5, "{} lines", lines.len());
        for line in &lines {
            let keys = ["{\"level\":\"", "\"ts\":\"", "\"caller\":\"", "\"msg\":\""];
            ensure!(
                keys.iter().all(|key| line.contains(key)) && line.ends_with('}'),
                "{line}"
            );
            ensure!(
                !line.starts_with("{\"level\":\"error\"")
                    && !line.starts_with("{\"level\":\"fatal\""),
                "{line}"
            );
        }
        let ready = lines
            .iter()
            .filter(|line| line.contains("ready to serve client requests"))
            .count();
        ensure!(ready >= 1, "nobody said ready");
        Ok(())
    })
}

#[test]
fn a_restart_with_the_same_arguments_keeps_the_data() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        use metastore_conformance::build::{all, put};
        t.put(put("a", "1")).await?;
        for _ in 0..3 {
            t.cluster().await.member(0).stop().await?;
            t.cluster().await.member(0).start().await?;
            let t = &t.again().await?;
            t.range(all()).await?;
            t.put(put("a", "2")).await?;
        }
        Ok(())
    })
}

#[test]
fn unknown_variables_of_the_environment_warn_and_known_ones_count() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let mut cluster = t.cluster().await;
        let member = cluster.member(0);
        member.stop().await?;
        let environment = member.environment_mut();
        environment.push(("ETCD_NO_SUCH_THING".into(), "1".into()));
        environment.push(("ETCD_MAX_TXN_OPS".into(), "2".into()));
        member.start().await?;
        let warned = member
            .process()?
            .lines()
            .iter()
            .any(|line| line.contains("ETCD_NO_SUCH_THING"));
        drop(cluster);
        expect("warned", warned, true)?;
        use metastore_conformance::build::{IntoOp, put, txn};
        let t = &t.again().await?;
        let ops = ["a", "b", "c"].map(|key| put(key, "1").op());
        let refused = t.txn(txn([], ops, [])).await;
        expect("the limit of two counts", refused.is_err(), true)
    })
}
