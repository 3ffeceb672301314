//! How to log, from the flags; follows `setupLogging` in `server/embed/config_logging.go`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::Level;
use crate::flag::values::Values;

/// The two forms of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Json,
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum OutputOption {
    Stderr,
    Stdout,
    Journal,
    File(PathBuf),
}

/// When the log's file is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationOptions {
    /// Size above which it is.
    pub max_bytes: u64,
    /// Days after which an old file is removed; 0 for never.
    pub max_age_days: u64,
    /// Old files that are kept; 0 for all.
    pub max_backups: usize,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Least level that is written.
    pub level: Level,
    /// Form of the lines.
    pub format: Format,
    /// Where they go; nowhere when empty.
    pub outputs: Vec<OutputOption>,
    /// Rotation of the one file among them.
    pub rotation: Option<RotationOptions>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Json,
            outputs: vec![OutputOption::Stderr],
            rotation: None,
        }
    }
}

/// Why logging cannot start, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A logger of the past.
    #[error("--logger=capnslog is removed in v3.5")]
    Capnslog,
    /// No such logger.
    #[error("unknown logger option {0:?}")]
    UnknownLogger(String),
    /// `default` stands for one output alone.
    #[error("multi logoutput for \"default\" is not supported yet")]
    DefaultAmongOthers,
    /// The journal stands alone too.
    #[error(
        "running with systemd/journal but other '--log-outputs' values ([{0}]) are configured with 'default'; \
         override 'default' value with something else"
    )]
    JournalAmongOthers(String),
    /// No such format.
    #[error("unknown log format: {0}, supported values json, console")]
    UnknownFormat(String),
    /// No such level; etcd panics with this text.
    #[error("unrecognized level: {0:?}")]
    UnknownLevel(String),
    /// Rotation needs a file.
    #[error("--log-outputs requires a single file path when --log-rotate-config-json is defined")]
    RotationWithoutFile,
    /// Not JSON.
    #[error("improperly formatted log rotation config: {0}")]
    RotationSyntax(String),
    /// JSON, but not of this shape.
    #[error("invalid log rotation config: {0}")]
    RotationShape(String),
    /// Old files are not compressed.
    #[error("invalid log rotation config: compress is not supported")]
    RotationCompress,
    /// An output cannot be opened.
    #[error("open sink {name:?}: {reason}")]
    Sink {
        /// The output.
        name: String,
        /// Why.
        reason: String,
    },
    /// The journal does not listen.
    #[error("can't find journal (dial unixgram /run/systemd/journal/socket: connect: {0})")]
    NoJournal(String),
}

/// Go's lumberjack, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", default)]
#[derive(Default)]
struct RotationJson {
    maxsize: u64,
    maxage: u64,
    maxbackups: usize,
    compress: bool,
}

impl LogOptions {
    /// What the flags ask for.
    ///
    /// # Errors
    /// With etcd's text, in the order of etcd's checks.
    pub fn from_values(values: &Values) -> Result<Self, Error> {
        match values.text("logger") {
            "capnslog" => return Err(Error::Capnslog),
            "zap" => {}
            other => return Err(Error::UnknownLogger(other.to_owned())),
        }
        let names = values.texts("log-outputs");
        if names.len() > 1 && names.contains("default") {
            return Err(Error::DefaultAmongOthers);
        }
        let rotation = match values.bool("enable-log-rotation") {
            true => Some(rotation(names, values.text("log-rotation-config-json"))?),
            false => None,
        };
        let level = parse_level(values.text("log-level"))?;
        let format = match values.text("log-format") {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            other => return Err(Error::UnknownFormat(other.to_owned())),
        };
        if names.contains("systemd/journal") && names.len() > 1 {
            return Err(Error::JournalAmongOthers(go_list(names)));
        }
        Ok(Self {
            level,
            format,
            outputs: outputs(names),
            rotation,
        })
    }
}

fn outputs(names: &BTreeSet<String>) -> Vec<OutputOption> {
    if names.contains("/dev/null") {
        return Vec::new();
    }
    if names.is_empty() {
        return vec![OutputOption::Stderr];
    }
    names
        .iter()
        .map(|name| match name.as_str() {
            "default" | "stderr" => OutputOption::Stderr,
            "stdout" => OutputOption::Stdout,
            "systemd/journal" => OutputOption::Journal,
            path => OutputOption::File(path.into()),
        })
        .collect()
}

/// The names as Go's `%q` prints them.
fn go_list(names: &BTreeSet<String>) -> String {
    names
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn rotation(names: &BTreeSet<String>, json: &str) -> Result<RotationOptions, Error> {
    let files = names
        .iter()
        .filter(|name| !matches!(name.as_str(), "default" | "stderr" | "stdout"))
        .count();
    if files > 1 || (names.len() <= 1 && files == 0) {
        return Err(Error::RotationWithoutFile);
    }
    let parsed: RotationJson = serde_json::from_str(json).map_err(|error| {
        if error.is_data() {
            Error::RotationShape(error.to_string())
        } else {
            Error::RotationSyntax(error.to_string())
        }
    })?;
    if parsed.compress {
        return Err(Error::RotationCompress);
    }
    let megabytes = if parsed.maxsize == 0 {
        100
    } else {
        parsed.maxsize
    };
    Ok(RotationOptions {
        max_bytes: megabytes.saturating_mul(1 << 20),
        max_age_days: parsed.maxage,
        max_backups: parsed.maxbackups,
    })
}

fn parse_level(text: &str) -> Result<Level, Error> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "debug" => Level::Debug,
        "info" | "" => Level::Info,
        "warn" | "warning" => Level::Warn,
        "error" => Level::Error,
        "dpanic" | "panic" => Level::Panic,
        "fatal" => Level::Fatal,
        _ => return Err(Error::UnknownLevel(text.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::command_line;

    fn options(arguments: &[&str]) -> Result<LogOptions, String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let line = command_line::parse(&arguments).expect("a command line");
        LogOptions::from_values(&line.values).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_is_json_at_info_to_standard_error() {
        assert_eq!(options(&[]), Ok(LogOptions::default()));
    }

    #[test]
    fn each_flag_changes_what_it_names() {
        let options = options(&[
            "--log-level=Warning",
            "--log-format=console",
            "--log-outputs=stdout,/a.log",
            "--enable-log-rotation",
            "--log-rotation-config-json={\"maxsize\": 7, \"maxage\": 8, \"maxbackups\": 9}",
        ])
        .expect("options");
        let file = OutputOption::File("/a.log".into());
        assert_eq!(
            (options.level, options.format, options.outputs),
            (
                Level::Warn,
                Format::Console,
                vec![file, OutputOption::Stdout]
            )
        );
        let rotation = RotationOptions {
            max_bytes: 7 << 20,
            max_age_days: 8,
            max_backups: 9,
        };
        assert_eq!(options.rotation, Some(rotation));
        assert_eq!(
            self::options(&["--log-outputs=stdout,/dev/null"])
                .expect("options")
                .outputs,
            []
        );
    }

    #[test]
    fn refusals_have_etcds_words() {
        let file = "--log-outputs=/a.log";
        for (arguments, error) in [
            (
                &["--logger=capnslog"][..],
                "--logger=capnslog is removed in v3.5",
            ),
            (&["--logger=foo"], "unknown logger option \"foo\""),
            (&["--log-level=foo"], "unrecognized level: \"foo\""),
            (
                &["--log-format=foo"],
                "unknown log format: foo, supported values json, console",
            ),
            (
                &["--log-outputs=default,stderr"],
                "multi logoutput for \"default\" is not supported yet",
            ),
            (
                &["--enable-log-rotation"],
                "--log-outputs requires a single file path when --log-rotate-config-json is defined",
            ),
            (
                &["--enable-log-rotation", "--log-outputs=/a,/b"],
                "--log-outputs requires a single file path when --log-rotate-config-json is defined",
            ),
            (
                &[
                    "--enable-log-rotation",
                    file,
                    "--log-rotation-config-json={\"compress\":true}",
                ],
                "invalid log rotation config: compress is not supported",
            ),
        ] {
            assert_eq!(options(arguments), Err(error.to_owned()), "{arguments:?}");
        }
        for (json, start) in [
            ("{bad", "improperly formatted log rotation config: "),
            ("{\"maxsize\":\"x\"}", "invalid log rotation config: "),
        ] {
            let json = format!("--log-rotation-config-json={json}");
            let error = options(&["--enable-log-rotation", file, &json]).expect_err("a refusal");
            assert!(error.starts_with(start), "{error}");
        }
    }
}
