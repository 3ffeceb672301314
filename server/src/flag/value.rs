//! The kinds of values that flags take, and how each is read from the text after `=`.
//!
//! Follows Go's `flag` package and etcd's `pkg/flags`: each kind with its failures in their words.

use std::collections::BTreeSet;

use super::feature_gates::FeatureGates;
use super::number::{Failure, parse_bool, parse_signed, parse_unsigned};
use crate::duration::GoDuration;
use crate::url::{self, Url};

/// What values a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; bare means `true`.
    Bool,
    /// Any text.
    Text,
    /// Go's `int` or `int64`: the name of the type stands in messages about the file.
    Signed(&'static str),
    /// Go's `uint` or `uint64`.
    Unsigned(&'static str),
    /// etcd's own 32-bit value, which has texts of its own.
    Unsigned32,
    /// Go's `time.Duration`.
    Duration,
    /// URLs, sorted and without doubles; besides them this one text, which stands for no URL.
    Urls(&'static str),
    /// Texts separated by commas, in their order.
    List,
    /// Texts separated by commas, sorted and without doubles.
    Set,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// Some of these, separated by commas.
    SomeOf(&'static [&'static str]),
    /// Feature gates.
    Gates,
    /// A path or action of `flag` itself, such as `--version`.
    Switch,
    /// Taken and dropped.
    Ignored,
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Bool`] and [`Kind::Switch`].
    Bool(bool),
    /// Of [`Kind::Text`] and [`Kind::OneOf`].
    Text(String),
    /// Of [`Kind::Signed`].
    Signed(i64),
    /// Of [`Kind::Unsigned`] and [`Kind::Unsigned32`].
    Unsigned(u64),
    /// Of [`Kind::Duration`].
    Duration(GoDuration),
    /// Of [`Kind::Urls`].
    Urls(UrlSet),
    /// Of [`Kind::List`] and [`Kind::SomeOf`].
    List(Vec<String>),
    /// Of [`Kind::Set`].
    Set(BTreeSet<String>),
    /// Of [`Kind::Gates`].
    Gates(FeatureGates),
    /// Of [`Kind::Ignored`].
    Ignored,
}

/// URLs, or the one text that a flag takes instead of URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlSet {
    /// The URLs, sorted, without doubles.
    pub urls: Vec<Url>,
    /// What was given, URL or not.
    pub texts: BTreeSet<String>,
}

/// Why a text is not a value of a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Go's `errParse`.
    #[error("parse error")]
    Parse,
    /// Go's `errRange`.
    #[error("value out of range")]
    Range,
    /// As `strconv.ParseUint` says it; etcd's 32-bit value passes it on.
    #[error("strconv.ParseUint: parsing {text:?}: {reason}")]
    Unsigned32 {
        /// The text.
        text: String,
        /// `invalid syntax` or `value out of range`.
        reason: &'static str,
    },
    /// Not a URL.
    #[error(transparent)]
    Url(#[from] url::Error),
    /// None of the allowed values.
    #[error("invalid value")]
    NotOneOf,
    /// This is none of the allowed values.
    #[error("invalid value {0:?}")]
    NotSomeOf(String),
    /// Not feature gates.
    #[error(transparent)]
    Gates(#[from] super::feature_gates::Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Syntax => Self::Parse,
            Failure::Range => Self::Range,
        }
    }
}

impl Kind {
    /// Whether it may stand without a value.
    pub fn is_bool(self) -> bool {
        matches!(self, Self::Bool | Self::Switch | Self::Ignored)
    }

    /// The value that `text` makes of `before`, the value so far: lists are replaced, gates are added to, and a
    /// text that stands for no URL leaves the URLs as they are (`pkg/flags/unique_urls.go`).
    ///
    /// # Errors
    /// With Go's or etcd's text.
    pub fn read(self, text: &str, before: &Value) -> Result<Value, Error> {
        Ok(match self {
            Self::Bool | Self::Switch => Value::Bool(parse_bool(text)?),
            Self::Text => Value::Text(text.to_owned()),
            Self::Signed(_) => Value::Signed(parse_signed(text)?),
            Self::Unsigned(_) => Value::Unsigned(parse_unsigned(text, u64::MAX)?),
            Self::Unsigned32 => {
                Value::Unsigned(parse_unsigned(text, u32::MAX.into()).map_err(|failure| {
                    let reason = match failure {
                        Failure::Syntax => "invalid syntax",
                        Failure::Range => "value out of range",
                    };
                    Error::Unsigned32 {
                        text: text.to_owned(),
                        reason,
                    }
                })?)
            }
            Self::Duration => Value::Duration(GoDuration::parse(text).map_err(|_| Error::Parse)?),
            Self::Urls(instead) => Value::Urls(read_urls(text, instead, before)?),
            Self::List => Value::List(text.split(',').map(str::to_owned).collect()),
            Self::Set => Value::Set(text.split(',').map(str::to_owned).collect()),
            Self::OneOf(allowed) => {
                if !allowed.contains(&text) {
                    return Err(Error::NotOneOf);
                }
                Value::Text(text.to_owned())
            }
            Self::SomeOf(allowed) => {
                let texts: Vec<String> = text.split(',').map(str::to_owned).collect();
                if let Some(wrong) = texts.iter().find(|text| !allowed.contains(&text.as_str())) {
                    return Err(Error::NotSomeOf(wrong.clone()));
                }
                Value::List(texts)
            }
            Self::Gates => {
                let mut gates = match before {
                    Value::Gates(gates) => gates.clone(),
                    _ => FeatureGates::default(),
                };
                gates.set(text)?;
                Value::Gates(gates)
            }
            Self::Ignored => Value::Ignored,
        })
    }

    /// The value before anything was read.
    pub fn empty(self) -> Value {
        match self {
            Self::Bool | Self::Switch => Value::Bool(false),
            Self::Text | Self::OneOf(_) => Value::Text(String::new()),
            Self::Signed(_) => Value::Signed(0),
            Self::Unsigned(_) | Self::Unsigned32 => Value::Unsigned(0),
            Self::Duration => Value::Duration(GoDuration::default()),
            Self::Urls(_) => Value::Urls(UrlSet::default()),
            Self::List | Self::SomeOf(_) => Value::List(Vec::new()),
            Self::Set => Value::Set(BTreeSet::new()),
            Self::Gates => Value::Gates(FeatureGates::default()),
            Self::Ignored => Value::Ignored,
        }
    }
}

fn read_urls(text: &str, instead: &str, before: &Value) -> Result<UrlSet, url::Error> {
    let before = match before {
        Value::Urls(set) => set.clone(),
        _ => UrlSet::default(),
    };
    if before.texts.contains(text) {
        return Ok(before);
    }
    if text == instead {
        let mut set = before;
        set.texts.insert(text.to_owned());
        return Ok(set);
    }
    let mut urls = Url::parse_list(text)?;
    urls.dedup();
    let texts = urls.iter().map(|url| url.as_str().to_owned()).collect();
    Ok(UrlSet { urls, texts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, text: &str) -> Result<Value, String> {
        kind.read(text, &kind.empty())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_fails_in_its_own_words() {
        for (kind, text, error) in [
            (Kind::Bool, "maybe", "parse error"),
            (Kind::Unsigned("uint"), "x", "parse error"),
            (Kind::Unsigned("uint"), "-1", "parse error"),
            (
                Kind::Signed("int64"),
                "99999999999999999999",
                "value out of range",
            ),
            (
                Kind::Unsigned32,
                "99999999999",
                "strconv.ParseUint: parsing \"99999999999\": value out of range",
            ),
            (
                Kind::Unsigned32,
                "x",
                "strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (Kind::Duration, "5", "parse error"),
            (
                Kind::Urls(""),
                "foo",
                "URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                Kind::Urls("*"),
                "",
                "URL scheme must be http, https, unix, or unixs: ",
            ),
            (Kind::OneOf(&["new", "existing"]), "bogus", "invalid value"),
            (Kind::SomeOf(&["gone"]), "gone,foo", "invalid value \"foo\""),
        ] {
            assert_eq!(read(kind, text), Err(error.to_owned()), "{kind:?}");
        }
    }

    #[test]
    fn urls_are_sorted_and_told_once() {
        let Ok(Value::Urls(set)) = read(Kind::Urls(""), "http://b:1,http://a:1,http://b:1") else {
            panic!()
        };
        assert_eq!(
            set.urls.iter().map(Url::as_str).collect::<Vec<_>>(),
            ["http://a:1", "http://b:1"]
        );
    }

    #[test]
    fn the_text_that_stands_for_no_url_leaves_the_urls() {
        let kind = Kind::Urls("");
        let before = read(kind, "http://a:1").expect("URLs");
        let Ok(Value::Urls(set)) = kind.read("", &before) else {
            panic!()
        };
        assert_eq!(set.urls.len(), 1);
        let star = Kind::Urls("*").read("*", &Kind::Urls("*").empty());
        let Ok(Value::Urls(set)) = star else { panic!() };
        assert!(set.urls.is_empty() && set.texts.contains("*"));
    }

    #[test]
    fn gates_add_up_and_lists_are_replaced() {
        let first = read(Kind::Gates, "LeaseCheckpoint=true").expect("gates");
        let Ok(Value::Gates(gates)) = Kind::Gates.read("CompactHashCheck=true", &first) else {
            panic!()
        };
        assert!(gates.enabled("LeaseCheckpoint") && gates.enabled("CompactHashCheck"));
        let first = read(Kind::List, "b,a").expect("a list");
        assert_eq!(
            Kind::List.read("c", &first),
            Ok(Value::List(vec!["c".to_owned()]))
        );
    }
}
