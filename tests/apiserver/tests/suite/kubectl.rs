//! kubectl, as people use it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use metastore_apiserver_tests::objects::{CONFIG_MAPS, config_map, definition, items, pod, widget};
use metastore_apiserver_tests::{Kubectl, Setup, check, create_many, eventually};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

#[test]
fn apply_get_change_and_delete() -> Result<()> {
    check(&Setup::single(), async |world| {
        let kubectl = world.apiserver.kubectl()?;
        let all = [config_map("a", "1"), config_map("b", "1"), pod("p")];
        let manifest = all.map(|object| object.to_string()).join("\n---\n");
        let said = kubectl.with_input(&["apply", "-f", "-"], &manifest).await?;
        ensure!(said.contains("configmap/a created"), "{said}");
        let said = kubectl.with_input(&["apply", "-f", "-"], &manifest).await?;
        ensure!(said.contains("configmap/a unchanged"), "{said}");
        let changed = config_map("a", "2").to_string();
        let diff = kubectl
            .try_with_input(&["diff", "-f", "-"], &changed)
            .await?;
        ensure!(diff.stdout.contains("+  datum: \"2\""), "{diff:?}");
        let said = kubectl.with_input(&["apply", "-f", "-"], &changed).await?;
        ensure!(said.contains("configmap/a configured"), "{said}");
        let said = kubectl
            .with_input(
                &["apply", "--server-side", "--force-conflicts", "-f", "-"],
                &config_map("a", "3").to_string(),
            )
            .await?;
        ensure!(said.contains("serverside-applied"), "{said}");
        ensure!(
            kubectl.json(&["get", "configmap", "a"]).await?["data"]["datum"] == "3",
            "applied"
        );
        kubectl
            .run(&["patch", "configmap", "a", "-p", r#"{"data":{"datum":"4"}}"#])
            .await?;
        kubectl
            .run(&["annotate", "configmap", "a", "note=x"])
            .await?;
        kubectl
            .run(&["label", "configmap", "a", "b", "tier=one"])
            .await?;
        let list = kubectl
            .json(&["get", "configmap", "-l", "tier=one"])
            .await?;
        ensure!(items(&list)?.len() == 2, "{list}");
        let read = kubectl.json(&["get", "configmap", "a"]).await?;
        ensure!(read["data"]["datum"] == "4", "{read}");
        let said = kubectl.run(&["get", "pods"]).await?;
        ensure!(said.contains("Pending"), "{said}");
        let said = kubectl.run(&["describe", "configmap", "a"]).await?;
        ensure!(
            said.contains("note: x") || said.contains("note=x"),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn namespaces_and_deletes() -> Result<()> {
    check(&Setup::single(), async |world| {
        let kubectl = world.apiserver.kubectl()?;
        let mut labelled = config_map("a", "1");
        labelled["metadata"]["labels"]["tier"] = json!("one");
        let manifest = format!("{labelled}\n---\n{}", pod("p"));
        kubectl
            .with_input(&["create", "-f", "-"], &manifest)
            .await?;
        kubectl.run(&["create", "namespace", "other"]).await?;
        kubectl
            .with_input(
                &["create", "-n", "other", "-f", "-"],
                &config_map("a", "x").to_string(),
            )
            .await?;
        let list = kubectl
            .json(&["get", "configmap", "-A", "--field-selector=metadata.name=a"])
            .await?;
        ensure!(items(&list)?.len() == 2, "{list}");
        kubectl.run(&["delete", "pod", "p", "--now"]).await?;
        kubectl
            .run(&["delete", "configmap", "-l", "tier=one"])
            .await?;
        let gone = kubectl
            .try_with_input(&["get", "configmap", "a"], "")
            .await?;
        ensure!(
            !gone.succeeded && gone.stderr.contains("NotFound"),
            "{gone:?}"
        );
        Ok(())
    })
}

#[test]
fn custom_resources_and_pages() -> Result<()> {
    check(&Setup::single(), async |world| {
        let kubectl = world.apiserver.kubectl()?;
        kubectl
            .with_input(&["apply", "-f", "-"], &definition().to_string())
            .await?;
        kubectl
            .run(&[
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "crd/widgets.lab.metastore.io",
            ])
            .await?;
        eventually(Duration::from_secs(60), async || {
            let object = widget("w", "large").to_string();
            kubectl.with_input(&["apply", "-f", "-"], &object).await
        })
        .await?;
        let read = kubectl.json(&["get", "widgets", "w"]).await?;
        ensure!(read["spec"]["size"] == "large", "{read}");
        let said = kubectl
            .run(&["api-resources", "--api-group=lab.metastore.io"])
            .await?;
        ensure!(said.contains("widgets"), "{said}");

        let objects = (0..1_200).map(|number| config_map(&format!("c{number:04}"), "x"));
        create_many(&world.api, CONFIG_MAPS, objects).await?;
        let said = kubectl
            .run(&["get", "configmap", "--chunk-size=100", "-o", "name"])
            .await?;
        ensure!(
            said.lines().count() == 1_200,
            "{} lines",
            said.lines().count()
        );
        kubectl
            .run(&["delete", "configmap", "--all", "--wait=false"])
            .await?;
        let left = kubectl.run(&["get", "configmap", "-o", "name"]).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
}

async fn waiting(kubectl: &Kubectl) -> Result<String> {
    kubectl
        .run(&[
            "wait",
            "--for=jsonpath={.data.datum}=done",
            "--timeout=60s",
            "configmap/awaited",
        ])
        .await
}

#[test]
fn watching() -> Result<()> {
    check(&Setup::single(), async |world| {
        let kubectl = world.apiserver.kubectl()?;
        world
            .api
            .create(CONFIG_MAPS, &config_map("before", "x"))
            .await?;
        let mut child = kubectl
            .command(&[
                "get",
                "configmap",
                "--watch",
                "--output-watch-events",
                "--no-headers",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting kubectl")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut expect = async |kind: &str, name: &str| {
            let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line())
                .await
                .with_context(|| format!("no {kind} of {name}"))??
                .context("kubectl has ended")?;
            let words: Vec<&str> = line.split_whitespace().collect();
            ensure!(
                words.starts_with(&[kind, name]),
                "{line:?} for {kind} {name}"
            );
            Ok(())
        };
        expect("ADDED", "before").await?;
        world
            .api
            .create(CONFIG_MAPS, &config_map("awaited", "x"))
            .await?;
        expect("ADDED", "awaited").await?;
        let patch = json!({"data": {"datum": "done"}});
        let path = format!("{CONFIG_MAPS}/awaited");
        let (waited, patched) =
            tokio::join!(waiting(&kubectl), world.api.patch(&path, "merge", &patch));
        patched?;
        ensure!(waited?.contains("condition met"), "kubectl wait");
        expect("MODIFIED", "awaited").await?;
        world.api.delete(&path).await?;
        expect("DELETED", "awaited").await?;
        child.kill().await.context("ending kubectl")
    })
}
