//! One field of the file: from a node to the flag's value.

use super::super::node::Node;
use super::super::value::{self, Kind, Value};
use super::super::{FileKey, Flag};
use super::Error;
use super::place::{self, Place};
use crate::duration::GoDuration;

/// A field and what belongs there.
pub(super) struct Field<'a> {
    pub(super) flag: &'static Flag,
    pub(super) place: &'a Place,
    pub(super) node: &'a Node,
}

impl Field<'_> {
    /// The flag's value, where the node is not null; `None` where it leaves `before`, the default, in place.
    ///
    /// # Errors
    /// Where the node has another type, or its value is not allowed.
    pub(super) fn read(&self, before: &Value) -> Result<Option<Value>, Error> {
        let flag = self.flag;
        Ok(Some(match flag.kind {
            Kind::Bool => Value::Bool(self.node.boolean().ok_or_else(|| self.mismatch())?),
            // etcd looks at the state with the rest of the configuration.
            Kind::OneOf(_) if flag.name != "initial-cluster-state" => {
                let text = self.text()?;
                flag.kind
                    .read(text, before)
                    .map_err(|error| self.refuse(text, error))?
            }
            Kind::Text | Kind::OneOf(_) => Value::Text(self.text()?.to_owned()),
            Kind::Signed(_) => Value::Signed(self.integer()?),
            Kind::Unsigned(_) => Value::Unsigned(self.integer()?),
            Kind::Unsigned32 => Value::Unsigned(u64::from(self.integer::<u32>()?)),
            Kind::Duration => Value::Duration(GoDuration(self.integer()?)),
            Kind::List => Value::List(self.texts()?),
            Kind::SomeOf(_) => Value::List(self.text()?.split(',').map(str::to_owned).collect()),
            Kind::Set if flag.file != FileKey::ConfigJson => {
                Value::Set(self.texts()?.into_iter().collect())
            }
            Kind::Set | Kind::Urls(_) | Kind::Gates => {
                let text = self.text()?;
                if text.is_empty() {
                    return Ok(None);
                }
                flag.kind
                    .read(text, before)
                    .map_err(|error| self.refuse(text, error))?
            }
            Kind::Switch | Kind::Ignored => return Ok(None),
        }))
    }

    fn text(&self) -> Result<&str, Error> {
        match self.node {
            Node::Text(text) => Ok(text),
            _ => Err(self.mismatch()),
        }
    }

    fn texts(&self) -> Result<Vec<String>, Error> {
        let Node::Sequence(nodes) = self.node else {
            return Err(self.mismatch());
        };
        let text = |node: &Node| match node {
            Node::Text(text) => Ok(text.clone()),
            other => Err(self.mismatch_of(other, "string")),
        };
        nodes.iter().map(text).collect()
    }

    fn integer<T: TryFrom<i128>>(&self) -> Result<T, Error> {
        let number = self.node.integer();
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.mismatch())
    }

    fn mismatch(&self) -> Error {
        self.mismatch_of(self.node, place::go_type(self.flag))
    }

    fn mismatch_of(&self, node: &Node, wanted: &'static str) -> Error {
        Error::Type {
            found: node.describe(wanted),
            place: format!("struct field {}", self.place.go),
            wanted,
        }
    }

    fn refuse(&self, text: &str, error: value::Error) -> Error {
        match error {
            value::Error::Url(error) => Error::Url {
                key: self.flag.name,
                error,
            },
            value::Error::Gates(error) => Error::Gates(error),
            error => Error::Value {
                key: self.flag.name,
                value: text.to_owned(),
                error,
            },
        }
    }
}
