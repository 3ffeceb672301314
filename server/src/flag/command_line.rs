//! The command line, in the syntax of Go's `flag` package.
//!
//! `-f v`, `--f v`, `-f=v`, `--f=v`, `--f` and `--f=false` for booleans; `--` and the first argument that is no
//! flag end the flags; the last of several wins.

use super::table::{self, FLAGS};
use super::values::Values;

/// A command line that was understood.
#[derive(Clone, Debug, Default)]
pub struct CommandLine {
    /// The flags.
    pub values: Values,
    /// What stands behind the flags.
    pub rest: Vec<String>,
}

/// Why the command line was not understood. All but help end with exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `--help` or `-h`: no error, exit code 0.
    #[error("help requested")]
    Help,
    /// Not even a name.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// No such flag.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A value is missing.
    #[error("flag needs an argument: -{0}")]
    NoArgument(String),
    /// Not a value of the flag.
    #[error("invalid value {value:?} for flag -{name}: {error}")]
    Value {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        error: super::value::Error,
    },
    /// Not a boolean.
    #[error("invalid boolean value {value:?} for -{name}: {error}")]
    Bool {
        /// The flag.
        name: String,
        /// What was given.
        value: String,
        /// What is wrong with it.
        error: super::value::Error,
    },
}

/// Reads the arguments behind the program's name.
///
/// # Errors
/// At the first argument that is not understood, with Go's text.
pub fn parse(arguments: &[String]) -> Result<CommandLine, Error> {
    let mut line = CommandLine::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(name) = flag_in(argument)? else {
            if argument != "--" {
                line.rest.push(argument.clone());
            }
            line.rest.extend(arguments.cloned());
            break;
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let Some(position) = table::position(name) else {
            return Err(if name == "help" || name == "h" {
                Error::Help
            } else {
                Error::Unknown(name.to_owned())
            });
        };
        let name = name.to_owned();
        if FLAGS[position].kind.is_bool() {
            let value = value.unwrap_or_else(|| "true".to_owned());
            line.values
                .read(position, &value)
                .map_err(|error| Error::Bool { name, value, error })?;
        } else {
            let value = match value.or_else(|| arguments.next().cloned()) {
                Some(value) => value,
                None => return Err(Error::NoArgument(name)),
            };
            line.values
                .read(position, &value)
                .map_err(|error| Error::Value { name, value, error })?;
        }
    }
    Ok(line)
}

/// What stands behind the dashes; `None` where the flags end.
fn flag_in(argument: &str) -> Result<Option<&str>, Error> {
    let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name == "-" {
        return Ok(None);
    }
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.is_empty() || name.starts_with(['-', '=']) {
        return Err(Error::Syntax(argument.to_owned()));
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        super::parse(&arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_go_is_understood() {
        for arguments in [
            &["--name=a"][..],
            &["-name=a"],
            &["--name", "a"],
            &["-name", "a"],
            &["--name=b", "--name", "a"],
        ] {
            assert_eq!(
                parse(arguments)
                    .expect("a command line")
                    .values
                    .text("name"),
                "a",
                "{arguments:?}"
            );
        }
        for (arguments, value) in [
            (&["--pre-vote"][..], true),
            (&["--pre-vote=false"], false),
            (&["--pre-vote=F"], false),
            (&["--pre-vote=false", "-pre-vote"], true),
        ] {
            assert_eq!(
                parse(arguments)
                    .expect("a command line")
                    .values
                    .bool("pre-vote"),
                value,
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn a_boolean_takes_no_second_argument() {
        let line = parse(&["--pre-vote", "false", "--name=a"]).expect("a command line");
        assert!(line.values.bool("pre-vote"));
        assert_eq!(line.rest, ["false", "--name=a"]);
    }

    #[test]
    fn flags_end_at_two_dashes_and_at_the_first_other_argument() {
        assert_eq!(
            parse(&["--", "--name=a"]).expect("a command line").rest,
            ["--name=a"]
        );
        assert_eq!(
            parse(&["foo", "--name=a"]).expect("a command line").rest,
            ["foo", "--name=a"]
        );
        assert_eq!(parse(&["-"]).expect("a command line").rest, ["-"]);
        assert_eq!(parse(&[""]).expect("a command line").rest, [""]);
    }

    /// Texts of etcd 3.7.3 for the same arguments.
    #[test]
    fn refusals_have_gos_words() {
        for (arguments, error) in [
            (&["--foo"][..], "flag provided but not defined: -foo"),
            (&["-foo=1"], "flag provided but not defined: -foo"),
            (
                &["--discovery=x"],
                "flag provided but not defined: -discovery",
            ),
            (&["--name"], "flag needs an argument: -name"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--=1"], "bad flag syntax: --=1"),
            (
                &["--pre-vote=maybe"],
                "invalid boolean value \"maybe\" for -pre-vote: parse error",
            ),
            (
                &["--heartbeat-interval=x"],
                "invalid value \"x\" for flag -heartbeat-interval: parse error",
            ),
            (
                &["--grpc-keepalive-min-time=5"],
                "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
            ),
            (
                &["--max-concurrent-streams=99999999999"],
                "invalid value \"99999999999\" for flag -max-concurrent-streams: \
                 strconv.ParseUint: parsing \"99999999999\": value out of range",
            ),
            (
                &["--quota-backend-bytes=99999999999999999999"],
                "invalid value \"99999999999999999999\" for flag -quota-backend-bytes: value out of range",
            ),
            (
                &["--initial-cluster-state=bogus"],
                "invalid value \"bogus\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--v2-deprecation=foo"],
                "invalid value \"foo\" for flag -v2-deprecation: invalid value \"foo\"",
            ),
            (
                &["--listen-peer-urls=foo"],
                "invalid value \"foo\" for flag -listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                &["--feature-gates=Foo=true"],
                "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
            ),
            (&["-h"], "help requested"),
            (&["--help"], "help requested"),
        ] {
            assert_eq!(
                parse(arguments).map(|_| ()),
                Err(error.to_owned()),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn names_that_etcd_dropped_are_taken_with_and_without_a_value() {
        let line = parse(&["--snapshot=abc", "-v", "--vv", "--name=a"]).expect("a command line");
        assert_eq!(line.values.text("name"), "a");
    }
}
