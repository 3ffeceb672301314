//! The values of all flags: each flag's default until something sets it.
//!
//! Knows which flags were set, not by whom; who wins is decided by whoever sets them.

use std::collections::BTreeSet;

use super::Flag;
use super::feature_gates::FeatureGates;
use super::table::{self, FLAGS};
use super::value::{Error, Kind, UrlSet, Value};
use crate::duration::GoDuration;

/// A value for every flag of the table.
#[derive(Clone, Debug)]
pub struct Values {
    values: Vec<Value>,
    set: Vec<bool>,
}

impl Default for Values {
    fn default() -> Self {
        let values = FLAGS.iter().map(default_of).collect();
        Self {
            values,
            set: vec![false; FLAGS.len()],
        }
    }
}

fn default_of(flag: &Flag) -> Value {
    let empty = flag.kind.empty();
    let list = matches!(
        flag.kind,
        Kind::Urls(_) | Kind::List | Kind::Set | Kind::SomeOf(_)
    );
    if flag.kind == Kind::Ignored || (list && flag.default.is_empty()) {
        return empty;
    }
    flag.kind
        .read(flag.default, &empty)
        .expect("a test reads every default of the table")
}

impl Values {
    /// Sets the flag at `position` of the table from the text that was given for it.
    ///
    /// # Errors
    /// Where the text is no value of the flag's kind; then nothing has changed.
    pub fn read(&mut self, position: usize, text: &str) -> Result<(), Error> {
        let value = FLAGS[position].kind.read(text, &self.values[position])?;
        self.put(position, value);
        Ok(())
    }

    /// Sets the flag at `position` of the table.
    pub fn put(&mut self, position: usize, value: Value) {
        self.values[position] = value;
        self.set[position] = true;
    }

    /// Whether the flag was set, if only to its default.
    pub fn is_set(&self, name: &str) -> bool {
        self.set[place(name)]
    }

    /// The flags that were set.
    pub fn set_flags(&self) -> impl Iterator<Item = &'static Flag> {
        FLAGS
            .iter()
            .zip(&self.set)
            .filter(|(_, set)| **set)
            .map(|(flag, _)| flag)
    }

    /// The flags whose value differs from their default.
    pub fn changed_flags(&self) -> impl Iterator<Item = &'static Flag> {
        FLAGS
            .iter()
            .zip(&self.values)
            .filter(|(flag, value)| **value != default_of(flag))
            .map(|(flag, _)| flag)
    }

    /// The value of a flag.
    ///
    /// # Panics
    /// Where the table has no such flag, as all accessors below; and they where it is of another kind.
    pub fn get(&self, name: &str) -> &Value {
        &self.values[place(name)]
    }

    /// A boolean.
    pub fn bool(&self, name: &str) -> bool {
        match self.get(name) {
            Value::Bool(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Value::Text(value) => value,
            other => wrong_kind(name, other),
        }
    }

    /// A text, where there is one.
    pub fn some_text(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// A number that may be negative.
    pub fn signed(&self, name: &str) -> i64 {
        match self.get(name) {
            Value::Signed(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A number.
    pub fn unsigned(&self, name: &str) -> u64 {
        match self.get(name) {
            Value::Unsigned(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// A duration.
    pub fn duration(&self, name: &str) -> GoDuration {
        match self.get(name) {
            Value::Duration(value) => *value,
            other => wrong_kind(name, other),
        }
    }

    /// URLs.
    pub fn urls(&self, name: &str) -> &UrlSet {
        match self.get(name) {
            Value::Urls(value) => value,
            other => wrong_kind(name, other),
        }
    }

    /// A list.
    pub fn list(&self, name: &str) -> &[String] {
        match self.get(name) {
            Value::List(value) => value,
            other => wrong_kind(name, other),
        }
    }

    /// A set.
    pub fn texts(&self, name: &str) -> &BTreeSet<String> {
        match self.get(name) {
            Value::Set(value) => value,
            other => wrong_kind(name, other),
        }
    }

    /// The feature gates.
    pub fn gates(&self, name: &str) -> &FeatureGates {
        match self.get(name) {
            Value::Gates(value) => value,
            other => wrong_kind(name, other),
        }
    }
}

fn place(name: &str) -> usize {
    table::position(name).unwrap_or_else(|| panic!("the table has no flag {name}"))
}

fn wrong_kind(name: &str, value: &Value) -> ! {
    panic!("--{name} is asked for as another kind than {value:?}")
}
