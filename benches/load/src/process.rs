//! What a process has cost: CPU time, memory, syscalls of one kind, from /proc.

use std::fs;

use anyhow::{Context, Result};

/// CPU time of a process and all its threads, user and system, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks = cpu_ticks(&pid.to_string())?;
    Ok(seconds(ticks[0] + ticks[1]))
}

/// CPU time of all children of this process that have ended, in seconds.
pub(crate) fn ended_children_cpu_seconds() -> Result<f64> {
    let ticks = cpu_ticks("self")?;
    Ok(seconds(ticks[2] + ticks[3]))
}

/// utime, stime, cutime and cstime of a process (proc_pid_stat(5)).
fn cpu_ticks(process: &str) -> Result<[u64; 4]> {
    let stat =
        fs::read_to_string(format!("/proc/{process}/stat")).context("read process status")?;
    // The command's name, in parentheses, may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map_while(|field| field.parse().ok())
        .collect();
    fields
        .try_into()
        .ok()
        .context("a process status without times")
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// A field of /proc/<pid>/status in bytes, e.g. `VmRSS` or `VmHWM`.
pub(crate) fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("read process status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(field))
        .with_context(|| format!("no {field}"))?;
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?;
    Ok(kib * 1024)
}

/// Bytes that the files under a directory occupy.
pub(crate) fn disk_bytes(directory: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
