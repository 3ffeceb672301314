//! One member: which program, with which flags, where.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::paths::{metastore_binary, reference_binary};
use crate::process::{Ending, Process};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// The line, of etcd and of MetaStore alike, that says that clients are served.
const READY: &str = "ready to serve client requests";

/// Where MetaStore keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// `--storage-engine=rocksdb`
    RocksDb,
    /// `--storage-engine=memory`
    Memory,
}

/// The program under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The real etcd that `tests/reference` pins.
    Etcd,
    /// MetaStore on one of its engines.
    MetaStore(Engine),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd",
            Self::MetaStore(Engine::RocksDb) => "metastore-rocksdb",
            Self::MetaStore(Engine::Memory) => "metastore-memory",
        })
    }
}

impl Target {
    /// The program's path; an error that says what to do when it has not been built.
    pub fn binary(self) -> Result<PathBuf> {
        match self {
            Self::Etcd => reference_binary("etcd"),
            Self::MetaStore(_) => metastore_binary(),
        }
    }

    /// The flags that only this target has.
    fn own_flags(self) -> Vec<OsString> {
        match self {
            Self::Etcd => Vec::new(),
            Self::MetaStore(Engine::RocksDb) => vec!["--storage-engine=rocksdb".into()],
            Self::MetaStore(Engine::Memory) => vec!["--storage-engine=memory".into()],
        }
    }
}

/// A member of a cluster under test. Dropping it kills its process.
pub struct Member {
    pub(crate) target: Target,
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) client_url: String,
    pub(crate) peer_url: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) flags: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) process: Option<Process>,
}

impl Member {
    /// The member's name, `m1` for the first.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id etcd gives a member with these peer URLs and token.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where clients connect: `http://127.0.0.1:<port>`.
    pub fn client_url(&self) -> &str {
        &self.client_url
    }

    /// Where members connect.
    pub fn peer_url(&self) -> &str {
        &self.peer_url
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its flags; changes take effect at the next start.
    pub fn flags_mut(&mut self) -> &mut Vec<OsString> {
        &mut self.flags
    }

    /// Its environment variables beside those of the test; changes take effect at the next start.
    pub fn environment_mut(&mut self) -> &mut Vec<(String, String)> {
        &mut self.environment
    }

    /// Its process, while started.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("{} is not started", self.name))
    }

    /// Starts the process and returns without waiting until it is ready.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(self.target.binary()?);
        command
            .args(self.target.own_flags())
            .args(&self.flags)
            .envs(self.environment.iter().cloned());
        let name = format!("{} {}", self.target, self.name);
        self.process = Some(Process::spawn(&name, &mut command, &self.log)?);
        Ok(())
    }

    /// Waits until the member says that it serves clients.
    pub async fn ready(&mut self) -> Result<()> {
        self.process()?
            .wait_for_line(|line| line.contains(READY), START)
            .await
            .map(drop)
    }

    /// Starts the process and waits until it serves clients.
    pub async fn start(&mut self) -> Result<()> {
        self.launch()?;
        self.ready().await
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    pub async fn stop(&mut self) -> Result<Ending> {
        let process = self.process()?;
        process.signal(Signal::TERM)?;
        let ending = process.wait(STOP).await;
        self.process = None;
        ending
    }

    /// Ends the process without warning (SIGKILL).
    pub fn kill(&mut self) -> Result<Ending> {
        let ending = self.process()?.kill();
        self.process = None;
        ending
    }

    /// Stops the process's clock: it keeps its ports and answers nothing.
    pub fn pause(&mut self) -> Result<()> {
        self.process()?.pause()
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self) -> Result<()> {
        self.process()?.signal(Signal::CONT)
    }
}
