//! What a member keeps on its disk and in its memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use metastore_harness::{Cluster, Ending, Engine};

use crate::{clients, get, member, put, run};

#[test]
fn a_data_folder_keeps_the_engine_it_was_made_with() -> Result<()> {
    run(async {
        let mut cluster = Cluster::start(&member(Engine::Memory, &[])).await?;
        let marker = cluster.members()[0].data_dir().join("member/METASTORE");
        ensure!(fs::read_to_string(&marker)?.contains("\"memory\""));
        let member = cluster.member(0);
        member.stop().await?;
        member.flags_mut().push("--storage-engine=rocksdb".into());
        member.launch()?;
        let ending = member.process()?.wait(Duration::from_secs(30)).await?;
        ensure!(ending == Ending::Code(1), "{ending:?}");
        member.flags_mut().push("--data-dir".into());
        member
            .flags_mut()
            .push(marker.with_file_name("other").into());
        member.start().await?;
        let other = marker.with_file_name("other/member/METASTORE");
        ensure!(fs::read_to_string(&other)?.contains("\"rocksdb\""));
        Ok(())
    })
}

/// The size of a write buffer in the newest of RocksDB's files of options.
fn write_buffer_bytes(folder: &Path) -> Result<u64> {
    let mut files: Vec<_> = fs::read_dir(folder)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| file.to_string_lossy().contains("/OPTIONS-"));
    files.sort();
    let text = fs::read_to_string(files.last().context("no file of options")?)?;
    let line = text
        .lines()
        .rfind(|line| line.trim_start().starts_with("write_buffer_size="))
        .context("no size of a write buffer")?;
    Ok(line
        .trim()
        .trim_start_matches("write_buffer_size=")
        .parse()?)
}

#[test]
fn the_memory_of_the_engine_is_what_the_flag_says() -> Result<()> {
    run(async {
        let mut sizes = Vec::new();
        for flag in [
            "--engine-memory-bytes=33554432",
            "--engine-memory-bytes=67108864",
        ] {
            let cluster = Cluster::start(&member(Engine::RocksDb, &[flag])).await?;
            let state = cluster.members()[0]
                .data_dir()
                .join("member/state/1/rocksdb");
            sizes.push(write_buffer_bytes(&state)?);
        }
        ensure!(sizes[1] == 2 * sizes[0], "write buffers of {sizes:?} bytes");
        Ok(())
    })
}

/// Number of the oldest segment of the log.
fn oldest_segment(log: &Path) -> Result<u64> {
    let mut oldest = None;
    for file in fs::read_dir(log)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_suffix(".wal") {
            let number = u64::from_str_radix(number, 16)?;
            oldest = Some(oldest.map_or(number, |oldest: u64| oldest.min(number)));
        }
    }
    oldest.context("the log has no segment")
}

#[test]
fn the_log_is_shortened_to_the_bytes_set() -> Result<()> {
    run(async {
        for (flag, shortened) in [
            ("--raft-log-retention-bytes=1048576", true),
            ("--raft-log-retention-bytes=1073741824", false),
        ] {
            let cluster = Cluster::start(&member(Engine::Memory, &[flag])).await?;
            let log = cluster.members()[0].data_dir().join("member/log");
            let mut kv = clients(&cluster).await?.kv;
            // More than the first segments hold.
            for number in 0..48 {
                kv.put(put(format!("k{}", number % 4), vec![b'x'; 1 << 20]))
                    .await?;
            }
            let since = Instant::now();
            let patience = Duration::from_secs(if shortened { 60 } else { 4 });
            while oldest_segment(&log)? == 1 && since.elapsed() < patience {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ensure!((oldest_segment(&log)? > 1) == shortened, "{flag}");
        }
        Ok(())
    })
}

#[test]
fn memory_is_locked_where_the_flag_says_so() -> Result<()> {
    run(async {
        for (flag, locked) in [("--memory-mlock=false", false), ("--memory-mlock", true)] {
            let mut cluster = Cluster::prepare(&member(Engine::Memory, &[flag]))?;
            let member = cluster.member(0);
            member.launch()?;
            if member.ready().await.is_err() {
                // Who may not lock so much memory is told, and the member does not start without.
                ensure!(locked, "{}", member.process()?.tail(10));
                ensure!(member.process()?.tail(20).contains("failed to mlock"));
                continue;
            }
            let status = fs::read_to_string(format!("/proc/{}/status", member.process()?.id()))?;
            let line = status
                .lines()
                .find(|line| line.starts_with("VmLck:"))
                .context("VmLck")?;
            let kilobytes: u64 = line
                .split_whitespace()
                .nth(1)
                .context("a number")?
                .parse()?;
            ensure!((kilobytes > 0) == locked, "{flag}: {line}");
        }
        Ok(())
    })
}

#[test]
fn a_member_without_fsync_answers_and_keeps_its_data_over_a_stop() -> Result<()> {
    run(async {
        let mut cluster = Cluster::start(&member(Engine::RocksDb, &["--unsafe-no-fsync"])).await?;
        clients(&cluster)
            .await?
            .kv
            .put(put("a", b"1".to_vec()))
            .await?;
        let lines = cluster.member(0).process()?.lines();
        ensure!(
            lines
                .iter()
                .any(|line| line.contains("--unsafe-no-fsync is set")),
            "no warning"
        );
        ensure!(
            lines.iter().any(|line| line.contains("\"fsync\":false")),
            "not announced"
        );
        cluster.member(0).stop().await?;
        cluster.member(0).start().await?;
        let page = clients(&cluster)
            .await?
            .kv
            .range(get("a"))
            .await?
            .into_inner();
        ensure!(page.count == 1, "{page:?}");
        Ok(())
    })
}
