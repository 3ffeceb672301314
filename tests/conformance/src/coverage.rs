//! How often each request field and each error was met.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::wire::message;

/// Counts per field (`etcdserverpb.RangeRequest.limit`), per enum value and per error text.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    fields: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
}

impl Coverage {
    /// Starts at zero for every field of these messages and those within them, and for these errors.
    pub fn of(messages: &[&str], errors: &[&str]) -> Self {
        let mut coverage = Self::default();
        for name in messages {
            coverage.add_message(&message(name));
        }
        for error in errors {
            coverage.errors.insert((*error).to_owned(), 0);
        }
        coverage
    }

    fn add_message(&mut self, descriptor: &MessageDescriptor) {
        for field in descriptor.fields() {
            let name = field.full_name().to_owned();
            if self.fields.insert(name.clone(), 0).is_some() {
                continue;
            }
            match field.kind() {
                Kind::Message(inner) => self.add_message(&inner),
                Kind::Enum(kind) => {
                    for value in kind.values() {
                        self.fields.insert(format!("{name}={}", value.name()), 0);
                    }
                }
                _ => {}
            }
        }
    }

    /// Counts the fields of a request.
    pub(crate) fn count_request(&mut self, descriptor: &MessageDescriptor, body: &Bytes) {
        if let Ok(message) = DynamicMessage::decode(descriptor.clone(), body.clone()) {
            self.count_message(&message);
        }
    }

    fn count_message(&mut self, message: &DynamicMessage) {
        for field in message.descriptor().fields() {
            let name = field.full_name();
            if let Kind::Enum(kind) = field.kind() {
                let values = match &*message.get_field(&field) {
                    Value::List(items) => items.clone(),
                    value => vec![value.clone()],
                };
                for number in values.iter().filter_map(Value::as_enum_number) {
                    let value = kind
                        .get_value(number)
                        .map_or_else(|| "unknown".into(), |value| value.name().to_owned());
                    *self.fields.entry(format!("{name}={value}")).or_default() += 1;
                }
            }
            if !message.has_field(&field) {
                continue;
            }
            *self.fields.entry(name.to_owned()).or_default() += 1;
            match &*message.get_field(&field) {
                Value::Message(inner) => self.count_message(inner),
                Value::List(items) => items
                    .iter()
                    .filter_map(Value::as_message)
                    .for_each(|item| self.count_message(item)),
                _ => {}
            }
        }
    }

    /// Counts an error's text; an empty one is none.
    pub(crate) fn count_error(&mut self, text: &str) {
        if !text.is_empty() {
            *self.errors.entry(text.to_owned()).or_default() += 1;
        }
    }

    /// What was never met.
    pub fn missing(&self) -> Vec<&str> {
        let all = self.fields.iter().chain(&self.errors);
        all.filter(|(_, count)| **count == 0)
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9}  request field", "count")?;
        for (name, count) in &self.fields {
            writeln!(f, "{count:>9}  {name}")?;
        }
        writeln!(f, "{:>9}  error", "count")?;
        for (text, count) in &self.errors {
            writeln!(f, "{count:>9}  {text}")?;
        }
        Ok(())
    }
}
