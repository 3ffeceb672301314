//! Something to log that was found out before the log was open, or whose fields are known at run time only.

use std::fmt;
use std::panic::Location;
use std::time::SystemTime;

use serde_json::Value;

use super::line::{self, Line};
use super::{Format, Level};

/// An event that waits to be logged.
#[derive(Clone, Debug)]
pub struct Note {
    level: Level,
    time: SystemTime,
    caller: String,
    message: String,
    fields: Vec<(String, Value)>,
}

impl Note {
    #[track_caller]
    fn new(level: Level, message: impl Into<String>) -> Self {
        let place = Location::caller();
        let caller = line::caller(place.file(), place.line());
        Self {
            level,
            time: SystemTime::now(),
            caller,
            message: message.into(),
            fields: Vec::new(),
        }
    }

    /// A normal event.
    #[track_caller]
    pub fn info(message: impl Into<String>) -> Self {
        Self::new(Level::Info, message)
    }

    /// Something that the operator should know.
    #[track_caller]
    pub fn warn(message: impl Into<String>) -> Self {
        Self::new(Level::Warn, message)
    }

    /// The last line before the process ends with exit code 1.
    #[track_caller]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Level::Fatal, message)
    }

    /// The last line of a process that panicked.
    #[track_caller]
    pub(super) fn panic(message: impl Into<String>) -> Self {
        Self::new(Level::Panic, message)
    }

    /// Says that it comes from another place than where it was made.
    pub(super) fn at(mut self, file: &str, line: u32) -> Self {
        self.caller = line::caller(file, line);
        self
    }

    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds an error as the field `error`.
    #[must_use]
    pub fn error(self, error: impl fmt::Display) -> Self {
        self.with("error", error.to_string())
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Writes it to the log, with the time at which it was made.
    pub fn log(&self) {
        super::write(&self.line());
    }

    fn line(&self) -> Line<'_> {
        Line {
            level: self.level,
            time: self.time,
            logger: None,
            caller: &self.caller,
            message: &self.message,
            fields: &self.fields,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.line().encode(Format::Json).trim_end())
    }
}
