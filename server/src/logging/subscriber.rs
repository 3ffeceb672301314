//! The end of `tracing`: events of this process become lines. Spans are not kept: nobody reads them.

use std::fmt::{self, Debug};
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::Level;
use super::line::{self, Line};

/// Takes events of `level` and above.
pub(super) struct Events {
    level: Level,
}

impl Events {
    pub(super) fn new(level: Level) -> Self {
        Self { level }
    }
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level_of(metadata).is_some_and(|level| level >= self.level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            Level::Debug => LevelFilter::TRACE,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
            Level::Panic | Level::Fatal => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let Some(level) = level_of(metadata) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let caller = match (metadata.file(), metadata.line()) {
            (Some(file), Some(line)) => line::caller(file, line),
            _ => String::new(),
        };
        super::write(&Line {
            level,
            time: SystemTime::now(),
            logger: library(metadata.target()),
            caller: &caller,
            message: &fields.message,
            fields: &fields.others,
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The library's name, where it is not the member that speaks.
fn library(target: &str) -> Option<&str> {
    let name = target.split("::").next().unwrap_or(target);
    (!name.starts_with("metastore")).then_some(name)
}

/// The level of the line; `None` for what libraries say below `warn`.
fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    let level = match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    };
    if library(metadata.target()).is_none() {
        return Some(level);
    }
    (level >= Level::Warn).then_some(Level::Warn)
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
        } else {
            // etcd's names have dashes.
            self.others.push((field.name().replace('_', "-"), value));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = fmt::format(format_args!("{value:?}"));
        // `?urls` of a list of texts is a list in the line too.
        let list = text
            .starts_with('[')
            .then(|| serde_json::from_str::<Vec<String>>(&text).ok())
            .flatten();
        self.put(field, list.map_or(Value::String(text), Value::from));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps what an event became.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            Events::new(Level::Info).enabled(metadata)
        }

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let level = level_of(event.metadata()).expect("an event that is shown");
            let text = format!("{level} {} {:?}", fields.message, fields.others);
            self.0.lock().expect("no test panicked").push(text);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            unreachable!("no span is enabled")
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    fn kept(speak: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        tracing::subscriber::with_default(kept.clone(), speak);
        let lines = kept.0.lock().expect("no test panicked");
        lines.clone()
    }

    #[test]
    fn fields_keep_their_types_and_get_dashes() {
        let urls = vec!["a".to_owned()];
        let lines = kept(|| {
            tracing::info!(member_id = 3, ok = true, error = %"broken", ?urls, "ready {}", 1);
            tracing::debug!("not shown");
        });
        assert_eq!(
            lines,
            [
                "info ready 1 [(\"member-id\", Number(3)), (\"ok\", Bool(true)), (\"error\", String(\"broken\")), \
              (\"urls\", Array [String(\"a\")])]"
            ]
        );
    }

    #[test]
    fn libraries_are_heard_from_warn_on_and_never_louder() {
        let lines = kept(|| {
            tracing::error!(target: "openraft::core", "gone");
            tracing::info!(target: "openraft::core", "fine");
            tracing::error!(target: "metastore_raft::log", "ours");
            let _span = tracing::error_span!("nobody keeps it").entered();
        });
        assert_eq!(lines, ["warn gone []", "error ours []"]);
    }
}
