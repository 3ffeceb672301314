//! An acknowledged put is on the disk: the kernel is asked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{lazy, put};
use metastore_harness::{Cluster, Engine, Spec, Target};

const PUTS: usize = 100;

/// Completed syncs of the log's segments in what strace has written. A segment that is only being prepared has
/// another suffix.
fn completed_syncs(trace: &str) -> usize {
    let mut unfinished = Vec::new();
    let mut completed = 0;
    for line in trace.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        if line.contains("<... fdatasync resumed>") {
            let was_ours = unfinished.iter().position(|one| *one == thread);
            if let Some(at) = was_ours {
                unfinished.swap_remove(at);
                completed += usize::from(succeeded(line));
            }
        } else if line.contains("fdatasync(") && line.contains(".wal>") {
            match line.ends_with("<unfinished ...>") {
                true => unfinished.push(thread),
                false => completed += usize::from(succeeded(line)),
            }
        }
    }
    completed
}

/// strace pads a short line before the result.
fn succeeded(line: &str) -> bool {
    line.ends_with(" = 0")
}

#[test]
fn syncs_are_counted_when_they_are_completed_and_of_the_log() {
    let trace = "7 fdatasync(9</d/log/0001.wal>) = 0\n\
                 7 fdatasync(9</d/log/0002.tmp>) = 0\n\
                 8 fdatasync(9</d/log/0001.wal> <unfinished ...>\n\
                 7 fdatasync(9</d/log/0001.wal>) = -1 EIO (Input/output error)\n\
                 9 <... fdatasync resumed>) = 0\n\
                 8 <... fdatasync resumed>)             = 0";
    assert_eq!(completed_syncs(trace), 2);
}

/// How often the log was synced while clients put so many keys.
async fn syncs_of_puts(spec: &Spec) -> Result<usize> {
    let mut cluster = Cluster::start(spec).await?;
    let mut clients = lazy(cluster.members()[0].client_url())?;
    clients.kv.put(put("first", "value")).await?;
    let file = cluster.folder().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fdatasync", "-p"])
        .arg(cluster.member(0).process()?.id().to_string())
        .arg("-o")
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .context("strace (tests/cluster/run.sh installs it)")?;
    let mut said = BufReader::new(strace.stderr.take().context("a pipe")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    ensure!(line.contains("attached"), "strace said: {line}");
    for number in 0..PUTS {
        clients.kv.put(put(format!("key{number}"), "value")).await?;
    }
    // It ends with the process that it follows.
    cluster.member(0).kill()?;
    std::io::copy(&mut said, &mut std::io::sink())?;
    strace.wait()?;
    Ok(completed_syncs(&fs::read_to_string(&file)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_acknowledged_put_has_a_sync_of_its_own() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let syncs = syncs_of_puts(&Spec::new(Target::MetaStore(engine), 1)).await?;
        ensure!(syncs >= PUTS, "{engine:?}: {syncs} syncs for {PUTS} puts");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_synced_where_the_flag_says_so() -> Result<()> {
    let spec = Spec::new(Target::MetaStore(Engine::RocksDb), 1);
    for (flag, some) in [
        ("--unsafe-no-fsync", false),
        ("--unsafe-no-fsync=false", true),
    ] {
        let syncs = syncs_of_puts(&spec.clone().with_flags([flag])).await?;
        ensure!((syncs > 0) == some, "{flag}: {syncs} syncs for {PUTS} puts");
    }
    Ok(())
}
