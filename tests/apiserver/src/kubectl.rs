//! kubectl, as people and scripts call it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::version::Version;

const CALL: Duration = Duration::from_secs(120);

/// kubectl with a configuration for one apiserver.
pub struct Kubectl {
    binary: PathBuf,
    configuration: PathBuf,
    home: PathBuf,
}

/// What a call of kubectl said.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Whether it exited with 0.
    pub succeeded: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    pub(crate) fn new(version: Version, configuration: &Path, home: &Path) -> Result<Self> {
        Ok(Self {
            binary: version.binary("kubectl")?,
            configuration: configuration.to_owned(),
            home: home.to_owned(),
        })
    }

    /// A command that is yet to be started; killed when its child is dropped.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.configuration)
            // Its cache of discovery is this apiserver's alone.
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs kubectl to its end, with `input` on its standard input.
    pub async fn try_with_input(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        let run = async {
            let mut child = self
                .command(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .context("starting kubectl")?;
            let mut stdin = child.stdin.take().context("kubectl's input")?;
            let input = input.to_owned();
            let feeding = tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
            let output = child.wait_with_output().await.context("kubectl")?;
            // A kubectl that reads no input closes it; that is no failure of the call.
            let _ = feeding.await;
            Ok(Finished {
                succeeded: output.status.success(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        };
        tokio::time::timeout(CALL, run)
            .await
            .with_context(|| format!("kubectl {arguments:?} did not end within {CALL:?}"))?
    }

    /// Runs kubectl to its end, with `input` on its standard input; fails when kubectl does.
    pub async fn with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let finished = self.try_with_input(arguments, input).await?;
        ensure!(
            finished.succeeded,
            "kubectl {arguments:?}: {}{}",
            finished.stdout,
            finished.stderr
        );
        Ok(finished.stdout)
    }

    /// Runs kubectl to its end; fails when kubectl does.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.with_input(arguments, "").await
    }

    /// As [`Self::run`], with `-o json`, parsed.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        serde_json::from_str(&self.run(&all).await?).context("kubectl's JSON")
    }
}
