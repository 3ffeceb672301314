//! Bounds of memory and pace.

use std::time::Duration;

/// Bounds of a hub.
#[derive(Debug, Clone)]
pub struct Options {
    /// Newest commits kept for the streams, in bytes. They are shared with the store's own recent events.
    pub ring_bytes: usize,
    /// Streams that may read history from the store at the same time; the others wait for their turn.
    pub history_readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ring_bytes: 32 << 20,
            history_readers: 4,
        }
    }
}

/// Bounds of a stream.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Events are gathered into one response until it has so many bytes. A revision that is larger goes whole.
    pub response_bytes: usize,
    /// A response of at least so many bytes is cut if the watch allows it: etcd's `--max-request-bytes` plus 512 KiB.
    pub fragment_bytes: usize,
    /// How often idle watches that want it are told their progress (`--watch-progress-notify-interval`). Up to a tenth
    /// is added at random. Below 100 ms counts as 100 ms.
    pub progress_interval: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            response_bytes: 128 << 10,
            fragment_bytes: 2 << 20,
            progress_interval: Duration::from_secs(600),
        }
    }
}
