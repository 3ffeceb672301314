//! Bounds of requests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_harness::{Cluster, Engine};
use tonic::Code;

use crate::{clients, get, member, put, run};

const MIB: usize = 1 << 20;

#[test]
fn members_take_64_mib_whatever_max_request_bytes_says() -> Result<()> {
    run(async {
        let flags = ["--max-request-bytes=200000000"];
        let mut cluster = Cluster::start(&member(Engine::Memory, &flags)).await?;
        let told = |line: &str| line.contains("members take no larger requests from each other");
        let process = cluster.member(0).process()?;
        let line = process.wait_for_line(told, Duration::from_secs(10)).await?;
        ensure!(line.contains("67108864"), "{line}");
        let mut clients = clients(&cluster).await?;
        clients.kv.put(put("large", vec![1; 63 * MIB])).await?;
        let refused = clients.kv.put(put("larger", vec![1; 64 * MIB])).await;
        let refused = refused.err().context("a command of more than 64 MiB")?;
        ensure!(
            refused.code() == Code::InvalidArgument
                && refused.message() == "etcdserver: request is too large",
            "{refused:?}"
        );
        let refused = clients
            .kv
            .put(put("larger still", vec![1; 100 * MIB]))
            .await;
        let refused = refused.err().context("a message beyond what gRPC takes")?;
        ensure!(refused.code() == Code::ResourceExhausted, "{refused:?}");
        let found = clients.kv.range(get("large")).await?.into_inner();
        ensure!(found.kvs[0].value.len() == 63 * MIB);
        Ok(())
    })
}
