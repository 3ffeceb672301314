//! The log: one line per event, in the form of etcd's.
//!
//! Promises lines with `level`, `ts`, `caller`, `msg` and the event's fields, written whole; `--log-level`,
//! `--log-format`, `--log-outputs` and rotation as in etcd. What other crates say is shown from `warn` on and
//! never above `warn`, since a library cannot know what is an error of the member. Of equal lines, the first
//! hundred in a second and then every hundredth are written, as etcd does.

mod line;
mod note;
mod options;
mod output;
mod rotation;
mod sampler;
mod subscriber;
mod timestamp;

use std::backtrace::Backtrace;
use std::fmt;
use std::panic;
use std::sync::OnceLock;

pub use note::Note;
pub use options::{Error, Format, LogOptions, OutputOption, RotationOptions};

use line::Line;
use output::Output;
use sampler::Sampler;
use subscriber::Events;

/// How much an event matters; the names of zap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

impl Level {
    /// As it stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the process logs to; set once.
static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    level: Level,
    format: Format,
    outputs: Vec<Output>,
    sampler: Sampler,
}

impl Logger {
    fn write(&self, line: &Line<'_>) {
        if line.level < self.level || !self.sampler.admits(line.level, line.message) {
            return;
        }
        let text = line.encode(self.format);
        for output in &self.outputs {
            output.write(line.level, line.caller, &text);
        }
    }
}

/// Starts logging for the process. The first call decides; later ones change nothing.
///
/// # Errors
/// Where an output cannot be opened.
pub fn start(options: &LogOptions) -> Result<(), Error> {
    let outputs = output::open(options)?;
    let logger = Logger {
        level: options.level,
        format: options.format,
        outputs,
        sampler: Sampler::default(),
    };
    if LOGGER.set(logger).is_ok() {
        // Only a second subscriber fails, and this is the only one.
        let _ = tracing::subscriber::set_global_default(Events::new(options.level));
    }
    Ok(())
}

/// Logs a panic as a line of level `panic` and ends the process at once, in every build: a member with a dead
/// part must not go on.
pub fn end_process_on_panic() {
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panic".to_owned());
        let mut note = Note::panic(message);
        if let Some(location) = info.location() {
            note = note.at(location.file(), location.line());
        }
        let thread = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .to_owned();
        note.with("thread", thread)
            .with("stacktrace", Backtrace::force_capture().to_string())
            .log();
        std::process::abort();
    }));
}

fn write(line: &Line<'_>) {
    if let Some(logger) = LOGGER.get() {
        logger.write(line);
    }
}
