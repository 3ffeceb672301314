//! Messages as text under the mask: two answers are equal when their texts are.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};
use sha1::{Digest, Sha1};

use crate::mask::{Rule, rule};

const BYTES_SHOWN: usize = 96;

/// What the masked values of one cluster are called.
pub(crate) struct Names {
    cluster: u64,
    this: u64,
    members: Vec<u64>,
    urls: HashMap<String, String>,
    // Ids of leases that the server chose, in order of appearance.
    leases: Mutex<Vec<i64>>,
}

impl Names {
    pub(crate) fn new(
        cluster: u64,
        this: u64,
        members: Vec<u64>,
        urls: HashMap<String, String>,
    ) -> Self {
        Self {
            cluster,
            this,
            members,
            urls,
            leases: Mutex::default(),
        }
    }

    /// Gives a lease that the server named a number of its own.
    pub(crate) fn add_lease(&self, id: i64) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if !leases.contains(&id) {
            leases.push(id);
        }
    }

    pub(crate) fn this(&self) -> u64 {
        self.this
    }

    /// A text with this cluster's ids and URLs replaced by names, and runs of spaces by one (Go's printing of
    /// messages varies them on purpose).
    pub(crate) fn in_text(&self, text: &str) -> String {
        let mut text = text
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        for (url, name) in &self.urls {
            text = text.replace(url, name);
        }
        for id in &self.members {
            let name = self.member(*id);
            text = text
                .replace(&id.to_string(), &name)
                .replace(&format!("{id:x}"), &name);
        }
        text.replace(&self.cluster.to_string(), "cluster")
            .replace(&format!("{:x}", self.cluster), "cluster")
    }

    fn lease(&self, id: i64) -> String {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        match leases.iter().position(|known| *known == id) {
            Some(index) => format!("lease#{}", index + 1),
            None => id.to_string(),
        }
    }

    fn member(&self, id: u64) -> String {
        match id {
            0 => "0".to_owned(),
            id if id == self.this => "self".to_owned(),
            id if self.members.contains(&id) => "other".to_owned(),
            id => id.to_string(),
        }
    }

    fn member_name(&self, id: u64) -> String {
        match self.members.iter().position(|member| *member == id) {
            Some(index) => format!("m{}", index + 1),
            None => id.to_string(),
        }
    }

    fn masked(&self, rule: Rule, value: &Value) -> Option<String> {
        Some(match (rule, value) {
            (Rule::Ignored, _) => return None,
            (Rule::NonZero, _) => "*".to_owned(),
            (Rule::ClusterId, Value::U64(id)) if *id == self.cluster => "cluster".to_owned(),
            (Rule::MemberId, Value::U64(id)) => self.member(*id),
            (Rule::MemberName, Value::U64(id)) => self.member_name(*id),
            (Rule::Url, Value::List(urls)) => {
                let names = urls.iter().map(|url| match url.as_str() {
                    Some(url) => self
                        .urls
                        .get(url)
                        .cloned()
                        .unwrap_or_else(|| format!("{url:?}")),
                    None => "?".to_owned(),
                });
                names.collect::<Vec<_>>().join(",")
            }
            (Rule::Text, Value::List(texts)) => {
                let texts = texts
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|text| format!("{:?}", self.in_text(text)));
                let mut texts: Vec<String> = texts.collect();
                texts.sort();
                texts.join(" ")
            }
            (Rule::LeaseId, Value::I64(id)) => self.lease(*id),
            (Rule::Remaining, Value::I64(seconds)) if *seconds > 0 => "running".to_owned(),
            (_, value) => scalar(value),
        })
    }

    /// The message as text. Fields at their default are left out, as on the wire.
    pub(crate) fn render(&self, descriptor: &MessageDescriptor, body: &Bytes) -> String {
        match DynamicMessage::decode(descriptor.clone(), body.clone()) {
            Ok(message) => {
                let mut text = String::new();
                self.message(&mut text, &message);
                text
            }
            Err(error) => format!(
                "<{} bytes that are no {}: {error}>",
                body.len(),
                descriptor.name()
            ),
        }
    }

    fn message(&self, text: &mut String, message: &DynamicMessage) {
        text.push('{');
        let descriptor = message.descriptor();
        let mut first = true;
        for (field, value) in message.fields() {
            let shown = match rule(descriptor.full_name(), field.name()) {
                Some(Rule::Unordered) => Some(self.unordered(&field, value)),
                Some(rule) => self.masked(rule, value),
                None => Some(self.value(&field, value)),
            };
            if let Some(shown) = shown {
                separate(text, &mut first);
                let _ = write!(text, "{}:{shown}", field.name());
            }
        }
        for unknown in message.unknown_fields() {
            separate(text, &mut first);
            let _ = write!(text, "?{}:{unknown:?}", unknown.number());
        }
        text.push('}');
    }

    fn unordered(&self, field: &FieldDescriptor, value: &Value) -> String {
        let items = value.as_list().unwrap_or_default();
        let mut texts: Vec<String> = items.iter().map(|item| self.value(field, item)).collect();
        texts.sort();
        format!("in any order [{}]", texts.join(" "))
    }

    fn value(&self, field: &FieldDescriptor, value: &Value) -> String {
        match value {
            Value::Message(message) => {
                let mut text = String::new();
                self.message(&mut text, message);
                text
            }
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| self.value(field, item)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::EnumNumber(number) => match field.kind() {
                Kind::Enum(kind) => kind
                    .get_value(*number)
                    .map_or_else(|| number.to_string(), |value| value.name().to_owned()),
                _ => number.to_string(),
            },
            value => scalar(value),
        }
    }
}

fn separate(text: &mut String, first: &mut bool) {
    if !*first {
        text.push(' ');
    }
    *first = false;
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => short(bytes),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        value => format!("{value:?}"),
    }
}

/// Bytes as text; long ones by their beginning, length and digest.
pub(crate) fn short(bytes: &[u8]) -> String {
    if bytes.len() <= BYTES_SHOWN {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let digest = Sha1::digest(bytes);
    format!(
        "\"{}\"...({} bytes, sha1 {:02x}{:02x}{:02x}{:02x})",
        bytes[..16].escape_ascii(),
        bytes.len(),
        digest[0],
        digest[1],
        digest[2],
        digest[3]
    )
}
