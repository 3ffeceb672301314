//! A child process whose output is kept, waited for and killed by pid.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

const LINES_KEPT: usize = 20_000;
/// How long a process may take to stop.
const PAUSE: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It returned this code.
    Code(i32),
    /// It died of this signal.
    Signal(i32),
}

#[derive(Default)]
struct Output {
    lines: Mutex<VecDeque<(u64, String)>>,
}

/// A running (or ended) child. Dropping it kills the process and waits for it.
pub struct Process {
    child: Child,
    pid: Pid,
    name: String,
    log: PathBuf,
    output: Arc<Output>,
    // The number of lines read so far; closed when the process has closed its output.
    progress: watch::Receiver<u64>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log` and kept in memory.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("a pipe for the log")?;
        let second = writer.try_clone().context("a pipe for the log")?;
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("the log {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(second)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        // The command holds copies of the pipe's writing end; the reader sees the end only without them.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let pid = Pid::from_child(&child);
        let output = Arc::new(Output::default());
        let (progress_sender, progress) = watch::channel(0);
        let kept = output.clone();
        std::thread::spawn(move || {
            read_output(BufReader::new(reader), file, &kept, &progress_sender)
        });
        Ok(Self {
            child,
            pid,
            name: name.to_owned(),
            log: log.to_owned(),
            output,
            progress,
            ended: None,
        })
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended.is_some() {
            bail!("{} has ended already", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Stops the process; returns when none of its threads runs any more. Until one of them has taken the signal, which
    /// takes its time on a busy machine, the others go on.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + PAUSE;
        while !self.is_paused()? {
            if Instant::now() > deadline {
                bail!("{} was not stopped within {PAUSE:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn is_paused(&self) -> Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            // One that has ended meanwhile does not run either.
            let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            if !state.is_empty() && !state.starts_with('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for a line of output that `wanted` accepts, looking at all lines since the start. Fails when the
    /// process ends first, or at the deadline, with the end of its log.
    pub async fn wait_for_line(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        within: Duration,
    ) -> Result<String> {
        let mut progress = self.progress.clone();
        let output = self.output.clone();
        let search = async move {
            let mut seen = 0;
            loop {
                let read = *progress.borrow_and_update();
                for (number, line) in output
                    .lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                {
                    if *number >= seen && wanted(line) {
                        return Some(line.clone());
                    }
                }
                seen = read;
                if progress.changed().await.is_err() {
                    return None;
                }
            }
        };
        match tokio::time::timeout(within, search).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => {
                let ending = self.wait(Duration::from_secs(10)).await;
                Err(anyhow!(
                    "{} ended ({ending:?}) before it was ready; its log:\n{}",
                    self.name,
                    self.tail(40)
                ))
            }
            Err(_) => Err(anyhow!(
                "{} said nothing we waited for in {within:?}; its log:\n{}",
                self.name,
                self.tail(40)
            )),
        }
    }

    /// Waits for the end of the process.
    pub async fn wait(&mut self, within: Duration) -> Result<Ending> {
        let mut progress = self.progress.clone();
        let closed = async move { while progress.changed().await.is_ok() {} };
        if self.ended.is_none() && tokio::time::timeout(within, closed).await.is_err() {
            bail!(
                "{} did not end within {within:?}; its log:\n{}",
                self.name,
                self.tail(40)
            );
        }
        self.reap()
    }

    /// Ends the process at once.
    pub fn kill(&mut self) -> Result<Ending> {
        if self.ended.is_none() {
            self.child
                .kill()
                .with_context(|| format!("killing {}", self.name))?;
        }
        self.reap()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// All lines of output kept (the newest 20 000).
    pub fn lines(&self) -> Vec<String> {
        let lines = self
            .output
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(_, line)| line.clone()).collect()
    }

    /// The last `count` lines of output.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The file that holds all output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn reap(&mut self) -> Result<Ending> {
        let status = match self.ended {
            Some(status) => status,
            None => self
                .child
                .wait()
                .with_context(|| format!("waiting for {}", self.name))?,
        };
        self.ended = Some(status);
        match (status.code(), status.signal()) {
            (Some(code), _) => Ok(Ending::Code(code)),
            (None, Some(signal)) => Ok(Ending::Signal(signal)),
            (None, None) => bail!("{} ended with neither code nor signal", self.name),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Nobody is left to tell; a process that is gone already is what we want.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read_output(
    reader: impl BufRead,
    mut file: File,
    output: &Output,
    progress: &watch::Sender<u64>,
) {
    for line in reader.split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        // A full disk must not lose the lines in memory.
        let _ = writeln!(file, "{line}");
        let mut lines = output.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *progress.borrow();
        lines.push_back((number, line));
        if lines.len() > LINES_KEPT {
            lines.pop_front();
        }
        drop(lines);
        progress.send_modify(|count| *count += 1);
    }
}
