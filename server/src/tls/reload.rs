//! Something made from files, made again when one of them changes.
//!
//! Looked at whenever it is asked for: a few `stat` calls, which a handshake does not feel. What is asked for is
//! never older than the files were when they last could be used.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::Error;

/// After a failure the files are tried again so often, even if they look unchanged: one of them may have been
/// half written.
const RETRY: Duration = Duration::from_secs(1);

/// What tells one state of a file from another; links are followed, so that an exchanged link counts.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

type Make<T> = Box<dyn Fn() -> Result<T, Error> + Send + Sync>;

/// The thing and its files.
pub(super) struct Reloaded<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Stamp>,
    value: Arc<T>,
    failed: Option<Instant>,
}

impl<T> Reloaded<T> {
    /// Makes it for the first time; `what` names it in the log.
    pub(super) fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        make: Make<T>,
    ) -> Result<Self, Error> {
        let stamps = stamps(&paths);
        let value = Arc::new(make()?);
        Ok(Self {
            what,
            paths,
            make,
            state: Mutex::new(State {
                stamps,
                value,
                failed: None,
            }),
        })
    }

    /// The thing as the files are now, or as they last could be used.
    pub(super) fn current(&self) -> Arc<T> {
        // Before the files are read: a change in between shows the next time.
        let stamps = stamps(&self.paths);
        let mut state = self.state.lock();
        let again = state.failed.is_some_and(|at| at.elapsed() >= RETRY);
        if state.stamps != stamps || again {
            state.stamps = stamps;
            match (self.make)() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    state.failed = None;
                    tracing::info!(tls = self.what, files = ?self.names(), "TLS files have changed and are in use");
                }
                Err(error) => {
                    state.failed = Some(Instant::now());
                    tracing::warn!(
                        tls = self.what, files = ?self.names(), %error,
                        "TLS files have changed and cannot be used; the old ones stay in use"
                    );
                }
            }
        }
        Arc::clone(&state.value)
    }

    fn names(&self) -> Vec<String> {
        self.paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths
        .iter()
        .map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((
                metadata.dev(),
                metadata.ino(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.size(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("number");
        fs::write(&path, "1").expect("written");
        let file = path.clone();
        let make = move || {
            let text = fs::read_to_string(&file).expect("the file");
            text.parse::<u32>().map_err(|e| Error::Content {
                path: file.clone(),
                reason: e.to_string(),
            })
        };
        let number = Reloaded::new("test", vec![path.clone()], Box::new(make)).expect("a number");
        let first = number.current();
        assert!(Arc::ptr_eq(&first, &number.current()), "nothing changed");
        fs::write(&path, "22").expect("written");
        assert_eq!(*number.current(), 22);
        fs::write(&path, "x").expect("written");
        assert_eq!(*number.current(), 22);
        // As Kubernetes exchanges a secret: another file under the same name.
        fs::write(folder.path().join("new"), "33").expect("written");
        fs::rename(folder.path().join("new"), &path).expect("renamed");
        assert_eq!(*number.current(), 33);
    }
}
