//! The real etcdctl of 3.7 against both: what it prints and how it exits.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_conformance::{Session, Setup, check, check_with, expect};
use metastore_harness::reference_binary;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// Numbers after these words differ from run to run or from engine to engine, for the reasons in the mask.
const VARYING: [&str; 15] = [
    "\"raft_term\":",
    "\"raftTerm\":",
    "\"raftIndex\":",
    "\"raftAppliedIndex\":",
    "\"dbSize\":",
    "\"dbSizeInUse\":",
    "\"storageVersion\":",
    "\"RaftTerm\" : ",
    "took = ",
    "took ",
    "remaining(",
    "\"took\":",
    "\"ttl\":",
    "\"hash\":",
    "Took: ",
];

struct Output {
    code: Option<i32>,
    text: String,
}

fn command(t: &Session, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(reference_binary("etcdctl")?);
    command
        .arg("--endpoints")
        .arg(t.url())
        .args(arguments)
        .kill_on_drop(true);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Runs etcdctl to its end and records what it printed (of stderr only its own error lines: the rest is a log).
async fn etcdctl_with(
    t: &Session,
    arguments: &[&str],
    input: &str,
    names: &[(&str, &str)],
) -> Result<Output> {
    let mut child = command(t, arguments)?.spawn().context("starting etcdctl")?;
    let mut stdin = child.stdin.take().context("its stdin")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await;
    let output = output.with_context(|| format!("etcdctl {arguments:?} does not end"))??;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_log = |line: &&str| !line.starts_with('{');
    text.push_str(
        &errors
            .lines()
            .filter(is_log)
            .map(|line| format!("! {line}\n"))
            .collect::<String>(),
    );
    let mut shown = text.clone();
    let mut asked = arguments.join(" ");
    for (value, name) in names {
        shown = shown.replace(value, name);
        asked = asked.replace(value, name);
    }
    let code = output.status.code();
    t.record_text(
        format!("etcdctl {asked}"),
        &format!("{code:?}\n{}", varying(&shown)),
    );
    Ok(Output { code, text })
}

async fn etcdctl(t: &Session, arguments: &[&str]) -> Result<Output> {
    etcdctl_with(t, arguments, "", &[]).await
}

fn varying(text: &str) -> String {
    let mut text = text.to_owned();
    for word in VARYING {
        let mut from = 0;
        while let Some(at) = text[from..].find(word) {
            let start = from + at + word.len();
            let is_value = |c: char| c.is_alphanumeric() || ".\"-µ".contains(c);
            let length = text[start..]
                .find(|c: char| !is_value(c))
                .unwrap_or(text.len() - start);
            text.replace_range(start..start + length, "*");
            from = start + 1;
        }
    }
    text
}

#[test]
fn put_get_and_del_in_every_form() -> Result<()> {
    check(async |t| {
        for arguments in [
            &["put", "a", "1"][..],
            &["put", "a", "2", "--prev-kv"],
            &["put", "b", "1"],
            &["put", "c/1", "x"],
            &["put", "c/2", "y"],
            &["put", "a", "--ignore-value"],
            &["put", "missing", "--ignore-value"],
            &["put", "a", "v", "--ignore-lease"],
            &["put", "a", "v", "--lease=77"],
            &["get", "a"],
            &["get", "missing"],
            &["get", "a", "-w", "json"],
            &["get", "a", "-w", "fields"],
            &["get", "a", "c"],
            &["get", "c/", "--prefix"],
            &["get", "", "--prefix", "--keys-only"],
            &["get", "", "--prefix", "--count-only", "-w", "fields"],
            &["get", "", "--prefix", "--limit=2"],
            &["get", "", "--prefix", "--limit=2", "-w", "json"],
            &[
                "get",
                "",
                "--from-key",
                "--sort-by=MODIFY",
                "--order=DESCEND",
            ],
            &["get", "", "--prefix", "--sort-by=VALUE"],
            &["get", "a", "--rev=2"],
            &["get", "a", "--rev=99"],
            &["get", "a", "--print-value-only"],
            &["get", "a", "--consistency=s"],
            &["get", "a", "--min-mod-rev=3", "--prefix"],
            &["del", "b"],
            &["del", "b"],
            &["del", "c/", "--prefix", "--prev-kv"],
            &["del", "", "--prefix"],
        ] {
            etcdctl(t, arguments).await?;
        }
        Ok(())
    })
}

#[test]
fn txn_from_standard_input() -> Result<()> {
    check(async |t| {
        etcdctl(t, &["put", "a", "1"]).await?;
        let guard = "mod(\"a\") = \"2\"\n\nput a 2\nget a\n\nget a\n\n";
        etcdctl_with(t, &["txn"], guard, &[]).await?;
        etcdctl_with(t, &["txn"], guard, &[]).await?;
        etcdctl_with(
            t,
            &["txn", "-w", "json"],
            "value(\"a\") > \"1\"\nversion(\"a\") < \"5\"\n\ndel a\n\n\n",
            &[],
        )
        .await?;
        etcdctl_with(
            t,
            &["txn"],
            "create(\"x\") = \"0\"\n\nput x 1\nput x 2\n\n\n",
            &[],
        )
        .await?;
        Ok(())
    })
}

#[test]
fn leases_from_grant_to_revoke() -> Result<()> {
    check(async |t| {
        let granted = etcdctl_unrecorded(t, &["lease", "grant", "600"]).await?;
        let id = granted
            .split_whitespace()
            .nth(1)
            .context("an id")?
            .to_owned();
        ensure!(granted.contains("granted with TTL(600s)"), "{granted}");
        let names = [(id.as_str(), "lease#1")];
        let flag = format!("--lease={id}");
        for arguments in [
            &["put", "a", "1", flag.as_str()][..],
            &["lease", "timetolive", &id],
            &["lease", "timetolive", &id, "--keys"],
            &["lease", "list"],
            &["lease", "keep-alive", "--once", &id],
            &["lease", "revoke", &id],
            &["lease", "revoke", &id],
            &["lease", "timetolive", &id],
            &["lease", "keep-alive", "--once", &id],
            &["get", "a"],
        ] {
            etcdctl_with(t, arguments, "", &names).await?;
        }
        Ok(())
    })
}

async fn etcdctl_unrecorded(t: &Session, arguments: &[&str]) -> Result<String> {
    let output = etcdctl(&t.unrecorded(), arguments).await?;
    expect("exit code", output.code, Some(0))?;
    Ok(output.text)
}

#[test]
fn watch_prints_events_of_past_and_present() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        etcdctl(t, &["put", "a", "1"]).await?;
        etcdctl(t, &["del", "a"]).await?;
        let mut child = command(t, &["watch", "a", "--rev=1", "--prev-kv"])?.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("its stdout")?).lines();
        let mut read = async |count: usize| {
            let mut text = Vec::new();
            for _ in 0..count {
                let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
                text.push(line.context("no event")??.context("the watch ended")?);
            }
            Ok::<_, anyhow::Error>(text.join("\n"))
        };
        // PUT, key, value; then DELETE, previous key and value, key, an empty line for its value.
        t.record("etcdctl watch a --rev=1 --prev-kv", read(8).await?);
        etcdctl(t, &["put", "a", "2"]).await?;
        t.record("etcdctl watch goes on", read(3).await?);
        child.kill().await?;
        Ok(())
    })
}

#[test]
fn compaction_says_what_it_did_and_refuses() -> Result<()> {
    check(async |t| {
        for value in ["1", "2", "3"] {
            etcdctl(t, &["put", "a", value]).await?;
        }
        for arguments in [
            &["compact", "3"][..],
            &["compaction", "3"],
            &["compact", "99"],
            &["compact", "4", "--physical"],
            &["get", "a", "--rev=2"],
            &["watch", "a", "--rev=2"],
        ] {
            etcdctl(t, arguments).await?;
        }
        Ok(())
    })
}

#[test]
fn endpoint_alarm_and_defrag() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        etcdctl(t, &["put", "a", "1"]).await?;
        for arguments in [
            &["endpoint", "health"][..],
            &["endpoint", "health", "-w", "json"],
            &["endpoint", "status", "-w", "json"],
            &["endpoint", "hashkv"],
            &["endpoint", "hashkv", "--rev=2", "-w", "fields"],
            &["alarm", "list"],
            &["alarm", "disarm"],
            &["defrag"],
            &["member", "list"],
            &["member", "list", "-w", "json"],
            &["get", "a"],
        ] {
            etcdctl(t, arguments).await?;
        }
        let table = etcdctl_unrecorded(t, &["endpoint", "status", "-w", "table"]).await?;
        t.record(
            "lines of the status table",
            table.lines().count().to_string(),
        );
        Ok(())
    })
}

#[test]
fn locks_and_elections_of_the_client_work() -> Result<()> {
    check(async |t| {
        etcdctl(t, &["lock", "l", "echo", "held"]).await?;
        etcdctl(t, &["lock", "l", "--", "sh", "-c", "exit 3"]).await?;
        Ok(())
    })
}

#[test]
fn the_version_of_the_server_is_told() -> Result<()> {
    check_with(&Setup::single(), async |t| {
        let text = etcdctl_unrecorded(t, &["endpoint", "status"]).await?;
        ensure!(text.contains(", 3.7.3, "), "{text}");
        Ok(())
    })
}
