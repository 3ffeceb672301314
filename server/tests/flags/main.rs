//! Flags that only MetaStore has, or whose effect shows in its files, and those that need a cluster of three;
//! `src/flag/proof.rs` says which test proves which flag.

mod cluster;
mod disk;
mod requests;
mod tls;

use anyhow::{Context, Result};
use metastore_harness::{Clients, Cluster, Engine, Spec, Target};
use metastore_proto::etcdserverpb::{PutRequest, RangeRequest};

/// A member of its own, with these flags.
fn member(engine: Engine, flags: &[&str]) -> Spec {
    Spec::new(Target::MetaStore(engine), 1).with_flags(flags.iter().copied())
}

/// Runs a test.
fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")?;
    runtime.block_on(test)
}

async fn clients(cluster: &Cluster) -> Result<Clients> {
    cluster.clients(0).await
}

fn put(key: impl Into<String>, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key: key.into().into_bytes().into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into_bytes().into(),
        ..RangeRequest::default()
    }
}
