//! `metastore`: from the command line to a running member. Follows `server/etcdmain/etcd.go`.

use std::io::{self, Write};
use std::process::ExitCode;

use metastore::config::{self, Invalid, LoadError};
use metastore::flag::command_line::{self, CommandLine};
use metastore::flag::environment;
use metastore::flag::file;
use metastore::flag::usage;
use metastore::logging::{self, LogOptions, Note};
use metastore::{process, serve, version};

/// One heap for Rust and RocksDB.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code of a command line that is not understood, as Go's programs have it.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    logging::end_process_on_panic();
    let arguments: Vec<String> = std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let flags = arguments.get(1..).unwrap_or_default();
    if let Some(command @ ("gateway" | "grpc-proxy")) = flags.first().map(String::as_str) {
        say(
            io::stderr(),
            &format!("metastore has no {command}: etcd's own works in front of it\n"),
        );
        return ExitCode::FAILURE;
    }
    match command_line::parse(flags) {
        Ok(line) if line.rest.is_empty() && line.values.bool("version") => {
            say(io::stdout(), &version::text());
            ExitCode::SUCCESS
        }
        Ok(line) => start(arguments, line),
        Err(command_line::Error::Help) => {
            say(io::stderr(), &format!("{}\n", usage::USAGE));
            say(io::stdout(), &format!("{}\n", usage::flags_text()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(io::stderr(), &format!("{error}\n{}\n", usage::USAGE));
            ExitCode::from(MISUSE)
        }
    }
}

/// A reader that has gone is no reason to fail.
fn say(mut stream: impl Write, text: &str) {
    let _ = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
}

fn start(arguments: Vec<String>, line: CommandLine) -> ExitCode {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(key, value)| {
            (
                key.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect();
    let mut notes = Vec::new();
    let loaded = config::load(line, &environment, &mut notes);
    let options = match &loaded {
        Ok((_, options)) | Err(LoadError { log: options, .. }) => options,
    };
    if let Err(error) = logging::start(options) {
        // What else there is to say goes where it is read.
        let _ = logging::start(&LogOptions::default());
        return refuse(&notes, arguments, &error.into());
    }
    let config = match loaded {
        Ok((config, _)) => config,
        Err(LoadError { invalid, .. }) => return refuse(&notes, arguments, &invalid),
    };
    notes.iter().for_each(Note::log);
    Note::info("Running: ").with("args", arguments).log();
    if let Err(error) = process::tune_allocator() {
        Note::warn("failed to tune the allocator")
            .error(error)
            .log();
    }
    if let Err(error) = process::raise_file_limit() {
        Note::warn("failed to raise the limit of open files")
            .error(error)
            .log();
    }
    if config.lock_memory
        && let Err(error) = process::lock_memory()
    {
        Note::fatal("failed to mlock").error(error).log();
        return ExitCode::FAILURE;
    }
    serve::run(config)
}

/// Says what is wrong in etcd's way, and ends with exit code 1.
fn refuse(notes: &[Note], arguments: Vec<String>, invalid: &Invalid) -> ExitCode {
    notes.iter().for_each(Note::log);
    match invalid {
        Invalid::File(error @ file::Error::Url { .. }) => say(io::stderr(), &format!("{error}\n")),
        Invalid::Environment(error @ environment::Error::Conflict { variable }) => {
            Note::fatal(error.to_string())
                .with("environment-variable", variable.as_str())
                .log();
        }
        _ => {
            Note::info("Running: ").with("args", arguments).log();
            Note::warn("failed to verify flags").error(invalid).log();
            if matches!(invalid, Invalid::NoAdvertiseClientUrls) {
                Note::warn("advertise client URLs are not set")
                    .error(invalid)
                    .log();
            }
        }
    }
    ExitCode::FAILURE
}
