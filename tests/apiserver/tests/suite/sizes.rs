//! How large an object may be.

use anyhow::{Result, ensure};
use metastore_apiserver_tests::objects::{
    CONFIG_MAPS, DEFINITIONS, WIDGETS, config_map, definition, widget,
};
use metastore_apiserver_tests::{Client, Refused, Setup, check, eventually};
use std::time::Duration;

const MIB: usize = 1 << 20;

async fn define_widgets(api: &Client) -> Result<()> {
    api.create(DEFINITIONS, &definition()).await?;
    eventually(Duration::from_secs(60), async || {
        api.create(WIDGETS, &widget("first", "small"))
            .await
            .map(drop)
    })
    .await
}

#[test]
fn objects_up_to_the_request_limit() -> Result<()> {
    check(&Setup::single(), async |world| {
        let api = &world.api;
        let full = "x".repeat(MIB - 5);
        api.create(CONFIG_MAPS, &config_map("full", &full)).await?;
        let read = api.get(&format!("{CONFIG_MAPS}/full")).await?;
        ensure!(read["data"]["datum"] == full.as_str(), "it reads back");

        define_widgets(api).await?;
        let fits = "x".repeat(MIB * 14 / 10);
        api.create(WIDGETS, &widget("fits", &fits)).await?;
        let read = api.get(&format!("{WIDGETS}/fits")).await?;
        ensure!(read["spec"]["size"] == fits.as_str(), "it reads back");
        let large = "x".repeat(MIB * 16 / 10);
        let refused = Refused::of(api.create(WIDGETS, &widget("large", &large)).await)?;
        ensure!(
            refused.text.contains("etcdserver: request is too large"),
            "{refused}"
        );
        // The client library sends no more than 2 MiB, whatever the store takes.
        let huge = "x".repeat(MIB * 21 / 10);
        let refused = Refused::of(api.create(WIDGETS, &widget("huge", &huge)).await)?;
        ensure!(
            refused
                .text
                .contains("trying to send message larger than max"),
            "{refused}"
        );
        Ok(())
    })
}

#[test]
fn a_larger_request_limit_lets_larger_objects_in() -> Result<()> {
    let setup = Setup::single().member_flags(&["--max-request-bytes=10485760"]);
    check(&setup, async |world| {
        let api = &world.api;
        define_widgets(api).await?;
        let large = "x".repeat(MIB * 19 / 10);
        for number in 0..12 {
            api.create(WIDGETS, &widget(&format!("large{number}"), &large))
                .await?;
        }
        // 23 MiB in one list: no limit of message sizes stands in the way of an answer.
        let list = api.get(WIDGETS).await?;
        let whole = list["items"]
            .as_array()
            .is_some_and(|items| items.len() == 13);
        ensure!(whole, "13 widgets");
        let page = api
            .get(&format!("{WIDGETS}?limit=13&resourceVersion="))
            .await?;
        ensure!(
            page["items"]
                .as_array()
                .is_some_and(|items| items.len() == 13),
            "13 widgets"
        );
        Ok(())
    })
}
