//! One member from its configuration to its end.

use std::process::ExitCode;

use crate::config::Config;
use crate::logging::Note;

/// Runs the member; returns where it could not start or had to stop.
pub fn run(config: Config) -> ExitCode {
    Note::fatal("failed to start")
        .with("name", config.name)
        .error("the rooms of the member are not wired into this build")
        .log();
    ExitCode::FAILURE
}
