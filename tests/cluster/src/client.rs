//! Clients that outlive the members they talk to.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use metastore_harness::Clients;
pub use metastore_harness::requests::{get, put};
use metastore_proto::etcdserverpb::RangeRequest;
use tonic::transport::Endpoint;

/// Clients of a member that connect when they are used, and again after the member has been away.
pub fn lazy(url: &str) -> Result<Clients> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("the URL {url}"))?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true);
    Ok(Clients::new(endpoint.connect_lazy()))
}

/// A read of one key, answered by the member alone.
pub fn get_serializable(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        serializable: true,
        ..get(key)
    }
}

/// Asks again and again until there is an answer that is good; the error tells the last try.
pub async fn until<T, F>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let last = match tokio::time::timeout(left.min(Duration::from_secs(10)), ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            bail!("{what}: not within {within:?}; the last try: {last}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
