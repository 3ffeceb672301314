//! A line of the log, and its two forms: JSON and console, as zap writes them.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::Value;

use super::{Format, Level, timestamp};

/// A line before it is written.
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) time: SystemTime,
    /// The library that speaks, where it is not the member itself.
    pub(super) logger: Option<&'a str>,
    /// `room/file.rs:12`; empty where it is not known.
    pub(super) caller: &'a str,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(String, Value)],
}

impl Line<'_> {
    /// The text, with the line's end.
    pub(super) fn encode(&self, format: Format) -> String {
        let mut text = String::with_capacity(160 + self.message.len() + 32 * self.fields.len());
        match format {
            Format::Json => self.encode_json(&mut text),
            Format::Console => self.encode_console(&mut text),
        }
        text.push('\n');
        text
    }

    fn encode_json(&self, text: &mut String) {
        text.push_str("{\"level\":\"");
        text.push_str(self.level.as_str());
        text.push_str("\",\"ts\":\"");
        timestamp::append(text, self.time);
        text.push('"');
        if let Some(logger) = self.logger {
            text.push_str(",\"logger\":");
            quote(text, logger);
        }
        if !self.caller.is_empty() {
            text.push_str(",\"caller\":");
            quote(text, self.caller);
        }
        text.push_str(",\"msg\":");
        quote(text, self.message);
        for (name, value) in self.fields {
            text.push(',');
            quote(text, name);
            text.push(':');
            append_value(text, value, ",");
        }
        text.push('}');
    }

    fn encode_console(&self, text: &mut String) {
        timestamp::append(text, self.time);
        text.push('\t');
        text.push_str(self.level.as_str());
        for part in self
            .logger
            .into_iter()
            .chain(Some(self.caller).filter(|caller| !caller.is_empty()))
        {
            text.push('\t');
            text.push_str(part);
        }
        text.push('\t');
        // A message cannot forge a second line.
        text.extend(self.message.chars().flat_map(|c| {
            let shown = if c == '\n' || c == '\r' { ' ' } else { c };
            std::iter::once(shown)
        }));
        for (at, (name, value)) in self.fields.iter().enumerate() {
            text.push_str(if at == 0 { "\t{" } else { ", " });
            quote(text, name);
            text.push_str(": ");
            append_value(text, value, ", ");
        }
        if !self.fields.is_empty() {
            text.push('}');
        }
    }
}

fn append_value(text: &mut String, value: &Value, comma: &str) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push_str(comma);
                }
                append_value(text, item, comma);
            }
            text.push(']');
        }
        // Writing to a string cannot fail.
        other => drop(write!(text, "{other}")),
    }
}

fn quote(text: &mut String, part: &str) {
    append_value(text, &Value::from(part), ",");
}

/// `server/raft/src/wal/segment.rs` and 12 as `raft/wal/segment.rs:12`: the crate's folder and the file.
pub(super) fn caller(file: &str, line: u32) -> String {
    let short = match file.rsplit_once("/src/") {
        Some((folder, file)) => {
            let folder = folder.rsplit('/').next().unwrap_or_default();
            format!("{folder}/{file}")
        }
        None => {
            let cut = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
            file[cut..].to_owned()
        }
    };
    format!("{short}:{line}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    fn encode(format: Format) -> String {
        let fields = [
            ("error".to_owned(), json!("a \"b\"\n")),
            ("urls".to_owned(), json!(["x", "y"])),
            ("n".to_owned(), json!(3)),
        ];
        Line {
            level: Level::Warn,
            time: UNIX_EPOCH + Duration::from_micros(1_795_466_452_419_025),
            logger: None,
            caller: "server/serve.rs:7",
            message: "failed",
            fields: &fields,
        }
        .encode(format)
    }

    #[test]
    fn a_line_of_json_has_the_order_of_zap() {
        assert_eq!(
            encode(Format::Json),
            "{\"level\":\"warn\",\"ts\":\"2026-11-23T20:40:52.419025Z\",\"caller\":\"server/serve.rs:7\",\
             \"msg\":\"failed\",\"error\":\"a \\\"b\\\"\\n\",\"urls\":[\"x\",\"y\"],\"n\":3}\n"
        );
    }

    #[test]
    fn a_line_of_the_console_has_the_form_of_zap() {
        assert_eq!(
            encode(Format::Console),
            "2026-11-23T20:40:52.419025Z\twarn\tserver/serve.rs:7\tfailed\t\
             {\"error\": \"a \\\"b\\\"\\n\", \"urls\": [\"x\", \"y\"], \"n\": 3}\n"
        );
    }

    #[test]
    fn callers_are_told_by_room_and_file() {
        for (file, short) in [
            ("server/src/serve.rs", "server/serve.rs:1"),
            ("server/raft/src/wal/segment.rs", "raft/wal/segment.rs:1"),
            (
                "/home/x/.cargo/registry/src/index/h2-0.4.1/src/proto/streams.rs",
                "h2-0.4.1/proto/streams.rs:1",
            ),
            ("build/main.rs", "build/main.rs:1"),
            ("a/b/c.rs", "b/c.rs:1"),
            ("main.rs", "main.rs:1"),
        ] {
            assert_eq!(caller(file, 1), short);
        }
    }
}
