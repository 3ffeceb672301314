//! A log that has been damaged: the member says where, ends and changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_cluster_tests::client::{get, lazy, put};
use metastore_harness::{Cluster, Ending, Engine, Spec, Target};

use crate::cluster::files;

const WAIT: Duration = Duration::from_secs(60);
const PUTS: usize = 100;

fn value_of(number: usize) -> String {
    format!("the value of number {number}, and no other")
}

/// The segment of a log with these bytes, and where in it they are.
fn find(log: &Path, bytes: &[u8]) -> Result<(PathBuf, usize)> {
    for entry in fs::read_dir(log)? {
        let path = entry?.path();
        let content = fs::read(&path)?;
        let at = content.windows(bytes.len()).position(|some| some == bytes);
        if let Some(at) = at {
            return Ok((path, at));
        }
    }
    anyhow::bail!("not in {}", log.display())
}

/// Inverts a bit.
fn flip(file: &Path, at: usize) -> Result<()> {
    let mut content = fs::read(file)?;
    content[at] ^= 0x10;
    fs::write(file, content)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_has_changed_in_the_log_stops_the_member() -> Result<()> {
    for engine in [Engine::RocksDb, Engine::Memory] {
        let mut cluster = Cluster::start(&Spec::new(Target::MetaStore(engine), 1)).await?;
        let url = cluster.members()[0].client_url().to_owned();
        let mut clients = lazy(&url)?;
        for number in 0..PUTS {
            let request = put(format!("key{number}"), value_of(number));
            clients.kv.put(request).await?;
        }
        cluster.member(0).stop().await?;
        let log = cluster.members()[0].data_dir().join("member/log");
        let (file, at) = find(&log, value_of(PUTS / 2).as_bytes())?;
        flip(&file, at)?;
        // RocksDB writes some files anew whenever it is opened; of them the log's own tests know nothing.
        let untouched = match engine {
            Engine::RocksDb => log,
            Engine::Memory => cluster.members()[0].data_dir().to_owned(),
        };
        let before = files(&untouched)?;
        // Also the second time.
        for _ in 0..2 {
            cluster.member(0).launch()?;
            let process = cluster.member(0).process()?;
            let ending = process.wait(WAIT).await?;
            let said = process.tail(20);
            ensure!(ending == Ending::Code(1), "{engine:?}: {ending:?}\n{said}");
            let name = file.to_str().context("a name")?;
            ensure!(
                said.contains("corrupt raft log") && said.contains(name),
                "{engine:?}: {said}"
            );
            ensure!(files(&untouched)? == before, "{engine:?}: it was changed");
        }
        flip(&file, at)?;
        cluster.member(0).start().await?;
        let mut clients = lazy(&url)?;
        for number in 0..PUTS {
            let answer = clients.kv.range(get(format!("key{number}"))).await?;
            let kvs = answer.into_inner().kvs;
            let value = &kvs.first().context("a key")?.value;
            ensure!(*value == value_of(number), "{engine:?}: {value:?}");
        }
    }
    Ok(())
}
