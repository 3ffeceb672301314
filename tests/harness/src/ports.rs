//! Loopback ports that no other running test has.
//!
//! Taken from below the kernel's ephemeral range, so that an outgoing connection cannot grab one between
//! the choice and the member's `listen`; held by a lock file until the [`Port`] is dropped.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1, ours while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on and no other test of this machine holds.
    pub fn take() -> Result<Self> {
        let folder = std::env::temp_dir().join("metastore-test-ports");
        fs::create_dir_all(&folder).context("the folder of port locks")?;
        let start = (std::process::id() % u32::from(COUNT)) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST
                + (u32::from(start) * 7 + u32::from(step)).rem_euclid(u32::from(COUNT)) as u16;
            let lock =
                File::create(folder.join(number.to_string())).context("a port's lock file")?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
