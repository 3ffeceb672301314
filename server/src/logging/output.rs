//! Where lines are written: the standard streams, files, systemd's journal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use parking_lot::Mutex;

use super::Level;
use super::options::{Error, LogOptions, OutputOption};
use super::rotation::RotatingFile;
use crate::go_text;

const JOURNAL: &str = "/run/systemd/journal/socket";

/// An open output.
pub(super) enum Output {
    Stderr,
    Stdout,
    File(Mutex<File>),
    Rotating(Mutex<RotatingFile>),
    Journal(UnixDatagram),
}

/// Opens all outputs.
pub(super) fn open(options: &LogOptions) -> Result<Vec<Output>, Error> {
    options
        .outputs
        .iter()
        .map(|output| match output {
            OutputOption::Stderr => Ok(Output::Stderr),
            OutputOption::Stdout => Ok(Output::Stdout),
            OutputOption::Journal => open_journal(),
            OutputOption::File(path) => {
                let opened = match &options.rotation {
                    Some(rotation) => RotatingFile::open(path, rotation.clone())
                        .map(|file| Output::Rotating(Mutex::new(file))),
                    None => append_to(path).map(|file| Output::File(Mutex::new(file))),
                };
                opened.map_err(|error| Error::Sink {
                    name: path.display().to_string(),
                    reason: go_text::path_error("open", path, &error),
                })
            }
        })
        .collect()
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn open_journal() -> Result<Output, Error> {
    let connect = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(JOURNAL)?;
        Ok(socket)
    };
    connect()
        .map(Output::Journal)
        .map_err(|error: io::Error| Error::NoJournal(go_text::os_error(&error)))
}

impl Output {
    /// Writes a line with its end. A line that cannot be written is lost: there is nowhere to say so.
    pub(super) fn write(&self, level: Level, caller: &str, line: &str) {
        let _ = match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(line.as_bytes())
                    .and_then(|()| stdout.flush())
            }
            Self::File(file) => file.lock().write_all(line.as_bytes()),
            Self::Rotating(file) => file.lock().write(line.as_bytes()),
            Self::Journal(socket) => send(socket, level, caller, line),
        };
    }
}

/// One entry in the journal's own protocol; follows `client/pkg/logutil/zap_journal.go`.
fn send(socket: &UnixDatagram, level: Level, caller: &str, line: &str) -> io::Result<()> {
    let priority = match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    };
    let package = caller.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let entry = format!(
        "PRIORITY={priority}\nPACKAGE={package}\nSYSLOG_IDENTIFIER=metastore\nMESSAGE={}\n",
        line.trim_end()
    );
    if socket.send(entry.as_bytes()).is_err() {
        // As etcd: what the journal does not take goes to standard error.
        return io::stderr().lock().write_all(line.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(path: &Path) -> LogOptions {
        LogOptions {
            outputs: vec![OutputOption::File(path.to_owned())],
            ..LogOptions::default()
        }
    }

    #[test]
    fn a_file_is_appended_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.log");
        for line in ["a\n", "b\n"] {
            open(&options(&path)).expect("an output")[0].write(Level::Info, "", line);
        }
        assert_eq!(std::fs::read_to_string(path).expect("the file"), "a\nb\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told_as_zap_tells_it() {
        let error = open(&options(Path::new("")))
            .map(|_| ())
            .expect_err("no output");
        assert_eq!(
            error.to_string(),
            "open sink \"\": open : no such file or directory"
        );
    }

    #[test]
    fn an_entry_of_the_journal_has_its_priority() {
        let (here, there) = UnixDatagram::pair().expect("sockets");
        send(
            &here,
            Level::Warn,
            "server/tls/reload.rs:3",
            "{\"msg\":\"x\"}\n",
        )
        .expect("sent");
        let mut buffer = [0; 256];
        let length = there.recv(&mut buffer).expect("received");
        assert_eq!(
            std::str::from_utf8(&buffer[..length]),
            Ok(
                "PRIORITY=4\nPACKAGE=server/tls\nSYSLOG_IDENTIFIER=metastore\nMESSAGE={\"msg\":\"x\"}\n"
            )
        );
    }
}
