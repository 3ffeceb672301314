//! What the kernel knows of this process, under the names of the Prometheus libraries and of etcd.

use std::fs;
use std::path::Path;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::family::{Described, Families, counter, gauge};

#[rustfmt::skip]
pub(super) const PROCESS: &[Described] = &[
    gauge("os_fd_limit", &[], "The file descriptor limit."),
    gauge("os_fd_used", &[], "The number of used file descriptors."),
    counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds."),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors."),
    counter("process_network_receive_bytes_total", &[], "Number of bytes received by the process over the network."),
    counter("process_network_transmit_bytes_total", &[], "Number of bytes sent by the process over the network."),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes."),
    gauge("process_start_time_seconds", &[], "Start time of the process since unix epoch in seconds."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes."),
    gauge("process_virtual_memory_max_bytes", &[], "Maximum amount of virtual memory available in bytes."),
];

struct ProcessCollector {
    descriptions: Vec<Desc>,
}

/// Puts the process' families into the registry.
pub(super) fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    let descriptions = PROCESS.iter().map(|described| described.desc());
    registry.register(Box::new(ProcessCollector {
        descriptions: descriptions.collect::<Result<_, _>>()?,
    }))
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    /// What cannot be read is left out.
    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Families::of(PROCESS);
        let folder = Path::new("/proc/self");
        if let Ok(open) = fs::read_dir(folder.join("fd")) {
            let open = open.count() as f64;
            families.number("os_fd_used", &[], open);
            families.number("process_open_fds", &[], open);
        }
        let limit = |resource| getrlimit(resource).current.unwrap_or(u64::MAX) as f64;
        let files = limit(Resource::Nofile);
        families.number("os_fd_limit", &[], files);
        families.number("process_max_fds", &[], files);
        families.number("process_virtual_memory_max_bytes", &[], limit(Resource::As));
        let stat = fs::read_to_string(folder.join("stat")).ok();
        if let Some(stat) = stat.and_then(|text| Stat::read(&text)) {
            let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
            families.number("process_cpu_seconds_total", &[], seconds(stat.cpu_ticks));
            families.number(
                "process_virtual_memory_bytes",
                &[],
                stat.virtual_bytes as f64,
            );
            let resident = stat.resident_pages * page_size() as u64;
            families.number("process_resident_memory_bytes", &[], resident as f64);
            let kernel = fs::read_to_string("/proc/stat").ok();
            if let Some(boot) = kernel.and_then(|text| boot_time(&text)) {
                let start = boot as f64 + seconds(stat.start_ticks);
                families.number("process_start_time_seconds", &[], start);
            }
        }
        let network = fs::read_to_string(folder.join("net/netstat")).ok();
        if let Some((received, sent)) = network.and_then(|text| octets(&text)) {
            families.number("process_network_receive_bytes_total", &[], received as f64);
            families.number("process_network_transmit_bytes_total", &[], sent as f64);
        }
        families.finish()
    }
}

/// What is used of `/proc/<pid>/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    /// Since the kernel started.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The name in parentheses may hold anything; the third field follows it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// Seconds since 1970 at which the kernel started, from `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Bytes of IP received and sent, from `net/netstat`: a line of names, and one of numbers. They are those of the
/// process' network namespace, as in Prometheus' own libraries.
fn octets(text: &str) -> Option<(u64, u64)> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split(' ').position(|name| name == wanted)?;
        numbers.split(' ').nth(at)?.parse().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let text = "7 (a) name) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 9 0 5000 1048576 256 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";
        let expected = Stat {
            cpu_ticks: 42,
            start_ticks: 5000,
            virtual_bytes: 1_048_576,
            resident_pages: 256,
        };
        assert_eq!(Stat::read(text), Some(expected));
        assert_eq!(Stat::read("7 (short"), None);
    }

    #[test]
    fn the_bytes_of_ip_stand_below_their_names() {
        let text =
            "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 30 40\n";
        assert_eq!(octets(text), Some((30, 40)));
        assert_eq!(octets("IpExt: A\n"), None);
    }

    #[test]
    fn this_process_shows_all_of_it() {
        let collector = ProcessCollector {
            descriptions: Vec::new(),
        };
        assert_eq!(collector.collect().len(), PROCESS.len());
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }
}
