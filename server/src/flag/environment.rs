//! Flags from the environment: `ETCD_` and the name in capitals.
//!
//! Follows `pkg/flags/flag.go`: a variable that no flag has warns, an empty one counts as unset, and one whose
//! flag stands on the command line too stops the start, since one of the two is a mistake.

use super::table::FLAGS;
use super::values::Values;
use crate::logging::Note;

/// Why the environment stops the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a value of the flag.
    #[error("invalid value {value:?} for {variable}: {error}")]
    Value {
        /// The variable.
        variable: String,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        error: super::value::Error,
    },
    /// The flag is on the command line too.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
         environment variable or disable flag))"
    )]
    Conflict {
        /// The variable.
        variable: String,
    },
}

/// Sets the flags that the command line has not set from `environment`; what there is to say about it goes to
/// `notes`.
///
/// # Errors
/// The last value that is none, after all variables were looked at, as etcd does; a conflict at once.
pub fn apply(
    values: &mut Values,
    environment: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(), Error> {
    if let Some((key, value)) = environment
        .iter()
        .find(|(key, value)| key == "ETCD_VERSION" && !value.is_empty())
    {
        notes.push(
            Note::warn("cannot set special environment variable")
                .with("key", key.as_str())
                .with("value", value.as_str()),
        );
    }
    let on_command_line: Vec<&str> = values.set_flags().map(|flag| flag.name).collect();
    let mut flags: Vec<_> = FLAGS.iter().enumerate().collect();
    flags.sort_by_key(|(_, flag)| flag.name);
    let mut failure = Ok(());
    let mut used = Vec::new();
    for (position, flag) in flags {
        let variable = flag.environment_variable();
        if variable == "ETCD_VERSION" {
            continue;
        }
        let Some((_, value)) = environment
            .iter()
            .find(|(key, value)| *key == variable && !value.is_empty())
        else {
            continue;
        };
        if on_command_line.contains(&flag.name) {
            continue;
        }
        if let Err(error) = values.read(position, value) {
            failure = Err(Error::Value {
                variable: variable.clone(),
                value: value.clone(),
                error,
            });
        } else {
            notes.push(
                Note::info("recognized and used environment variable")
                    .with("variable-name", variable.as_str())
                    .with("variable-value", shown(flag.name, value)),
            );
        }
        used.push(variable);
    }
    for (key, value) in environment {
        if !key.starts_with("ETCD_") || used.contains(key) || key == "ETCD_VERSION" {
            continue;
        }
        if FLAGS
            .iter()
            .any(|flag| flag.environment_variable() == *key && on_command_line.contains(&flag.name))
        {
            return Err(Error::Conflict {
                variable: key.clone(),
            });
        }
        notes.push(
            Note::warn("unrecognized environment variable")
                .with("environment-variable", format!("{key}={value}")),
        );
    }
    failure
}

/// Passwords stay out of the log.
fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if name.ends_with("-password") {
        "********"
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flag::command_line;

    fn apply(
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> (Values, Vec<String>, Result<(), String>) {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut values = command_line::parse(&arguments)
            .expect("a command line")
            .values;
        let environment: Vec<_> = environment
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let mut notes = Vec::new();
        let result =
            super::apply(&mut values, &environment, &mut notes).map_err(|error| error.to_string());
        (
            values,
            notes.iter().map(|note| note.message().to_owned()).collect(),
            result,
        )
    }

    #[test]
    fn a_variable_sets_the_flag_of_its_name() {
        let (values, notes, result) = apply(
            &[],
            &[
                ("ETCD_NAME", "a"),
                ("ETCD_GRPC_KEEPALIVE_MIN_TIME", "7s"),
                ("NAME", "b"),
            ],
        );
        assert_eq!((values.text("name"), result), ("a", Ok(())));
        assert!(values.is_set("name") && !values.is_set("data-dir"));
        assert_eq!(values.duration("grpc-keepalive-min-time").to_string(), "7s");
        assert_eq!(notes, ["recognized and used environment variable"; 2]);
    }

    #[test]
    fn an_unknown_variable_and_an_empty_one_warn() {
        let (values, notes, result) = apply(
            &[],
            &[("ETCD_FOO", "1"), ("ETCD_NAME", ""), ("ETCD_VERSION", "3")],
        );
        assert_eq!((values.text("name"), result), ("default", Ok(())));
        assert_eq!(
            notes,
            [
                "cannot set special environment variable",
                "unrecognized environment variable",
                "unrecognized environment variable"
            ]
        );
    }

    #[test]
    fn a_variable_and_a_flag_for_the_same_are_a_conflict() {
        let (_, _, result) = apply(&["--name=b"], &[("ETCD_NAME", "a")]);
        assert_eq!(
            result,
            Err(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag))"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_wrong_value_is_told_with_the_variable() {
        let (_, _, result) = apply(&[], &[("ETCD_HEARTBEAT_INTERVAL", "x")]);
        assert_eq!(
            result,
            Err("invalid value \"x\" for ETCD_HEARTBEAT_INTERVAL: parse error".to_owned())
        );
    }
}
