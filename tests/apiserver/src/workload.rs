//! Many requests at once.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use crate::client::Client;
use crate::objects::version;

/// Runs `work` on every item, `width` at a time; answers come in the items' order. The first failure ends it.
pub async fn for_each<I, T>(
    items: impl IntoIterator<Item = I>,
    width: usize,
    work: impl AsyncFn(I) -> Result<T>,
) -> Result<Vec<T>> {
    let work = &work;
    stream::iter(items)
        .map(|item| async move { work(item).await })
        .buffered(width)
        .try_collect()
        .await
}

/// Creates objects, 32 at a time; their resource versions come in the objects' order.
pub async fn create_many(
    api: &Client,
    path: &str,
    objects: impl IntoIterator<Item = Value>,
) -> Result<Vec<u64>> {
    for_each(objects, 32, async |object| {
        version(&api.create(path, &object).await?)
    })
    .await
}
