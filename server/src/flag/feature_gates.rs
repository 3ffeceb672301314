//! `--feature-gates`: etcd 3.7's gates, their defaults and stages, and the syntax that sets them.
//!
//! Follows `server/features/etcd_features.go` and `pkg/featuregate/feature_gate.go`.

use std::collections::BTreeMap;
use std::fmt;

use super::number::parse_bool;

/// How mature etcd calls a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stage {
    Alpha,
    Beta,
}

impl Stage {
    /// etcd's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
        }
    }
}

/// One gate of etcd 3.7.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Its stage.
    pub stage: Stage,
    /// Whether it is on unless set.
    pub default: bool,
    /// Why it changes nothing in MetaStore; `None` where it does what it does in etcd.
    pub no_effect: Option<&'static str>,
}

const fn gate(
    name: &'static str,
    stage: Stage,
    default: bool,
    no_effect: Option<&'static str>,
) -> Gate {
    Gate {
        name,
        stage,
        default,
        no_effect,
    }
}

/// Every gate, in the order of their names.
pub const GATES: [Gate; 11] = [
    gate("AllAlpha", Stage::Alpha, false, None),
    gate(
        "AllBeta",
        Stage::Beta,
        false,
        Some("none of the beta gates has an effect"),
    ),
    gate(
        "CompactHashCheck",
        Stage::Alpha,
        false,
        Some("this version does not compare the members' data by itself"),
    ),
    gate(
        "FastLeaseKeepAlive",
        Stage::Beta,
        true,
        Some("a keepalive never waits for the applied index"),
    ),
    gate(
        "InitialCorruptCheck",
        Stage::Alpha,
        false,
        Some("this version does not compare the members' data by itself"),
    ),
    gate("LeaseCheckpoint", Stage::Alpha, false, None),
    gate(
        "LeaseCheckpointPersist",
        Stage::Alpha,
        false,
        Some("checkpoints are always kept"),
    ),
    gate(
        "PriorityRequest",
        Stage::Alpha,
        false,
        Some("revoking a lease waits behind nothing but the log"),
    ),
    gate("SetMemberLocalAddr", Stage::Alpha, false, None),
    gate(
        "StopGRPCServiceOnDefrag",
        Stage::Alpha,
        false,
        Some("defragmentation stops nobody"),
    ),
    gate(
        "TxnModeWriteWithSharedBuffer",
        Stage::Beta,
        true,
        Some("there is no buffer of bbolt"),
    ),
];

/// Which gates are set, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    set: BTreeMap<&'static str, bool>,
}

/// What is wrong with the text, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `=`.
    #[error("missing bool value for {0}")]
    MissingValue(String),
    /// Not a boolean after `=`.
    #[error(
        "invalid value of {gate}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    InvalidValue {
        /// The gate.
        gate: String,
        /// What was to be a boolean.
        value: String,
    },
    /// No such gate.
    #[error("unrecognized feature gate: {0}")]
    Unrecognized(String),
}

impl FeatureGates {
    /// Sets the gates that `text`, `A=true,B=false`, names; those set before and not named keep their value.
    ///
    /// # Errors
    /// With etcd's text; then nothing has changed.
    pub fn set(&mut self, text: &str) -> Result<(), Error> {
        let mut wanted = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Error::MissingValue(pair.trim().to_owned()));
            };
            let (name, value) = (name.trim(), value.trim());
            let on = parse_bool(value).map_err(|_| Error::InvalidValue {
                gate: name.to_owned(),
                value: value.to_owned(),
            })?;
            wanted.insert(name, on);
        }
        let mut set = self.set.clone();
        // A gate named on its own wins over `AllAlpha` and `AllBeta`.
        let mut stages = Vec::new();
        for (name, on) in wanted {
            let gate = find(name).ok_or_else(|| Error::Unrecognized(name.to_owned()))?;
            set.insert(gate.name, on);
            match gate.name {
                "AllAlpha" => stages.push((Stage::Alpha, on)),
                "AllBeta" => stages.push((Stage::Beta, on)),
                _ => {}
            }
        }
        for (stage, on) in stages {
            for gate in GATES.iter().filter(|gate| gate.stage == stage) {
                set.entry(gate.name).or_insert(on);
            }
        }
        self.set = set;
        Ok(())
    }

    /// Whether the gate is on.
    ///
    /// # Panics
    /// Where `name` is not one of [`GATES`].
    pub fn enabled(&self, name: &str) -> bool {
        let gate = find(name).expect("the name is one of the table's");
        self.set.get(name).copied().unwrap_or(gate.default)
    }

    /// The gates that were set to something else than their default and change nothing here, with the reason.
    pub fn without_effect(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        GATES.iter().filter_map(|gate| {
            let set = self
                .set
                .get(gate.name)
                .is_some_and(|on| *on != gate.default);
            gate.no_effect
                .filter(|_| set)
                .map(|reason| (gate.name, reason))
        })
    }
}

impl fmt::Display for FeatureGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, on)) in self.set.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={on}")?;
        }
        Ok(())
    }
}

fn find(name: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<FeatureGates, String> {
        let mut gates = FeatureGates::default();
        gates.set(text).map_err(|error| error.to_string())?;
        Ok(gates)
    }

    #[test]
    fn a_gate_has_its_default_until_it_is_set() {
        let gates = set("LeaseCheckpoint=true, CompactHashCheck = 1 ,,FastLeaseKeepAlive=F")
            .expect("gates");
        assert!(gates.enabled("LeaseCheckpoint") && gates.enabled("CompactHashCheck"));
        assert!(!gates.enabled("FastLeaseKeepAlive") && !gates.enabled("InitialCorruptCheck"));
        assert!(gates.enabled("TxnModeWriteWithSharedBuffer"));
        assert_eq!(
            gates.to_string(),
            "CompactHashCheck=true,FastLeaseKeepAlive=false,LeaseCheckpoint=true"
        );
    }

    #[test]
    fn a_stage_sets_the_gates_that_are_not_named() {
        let gates = set("AllAlpha=true,LeaseCheckpoint=false,AllBeta=false").expect("gates");
        assert!(gates.enabled("InitialCorruptCheck") && !gates.enabled("LeaseCheckpoint"));
        assert!(!gates.enabled("FastLeaseKeepAlive"));
    }

    #[test]
    fn refusals_have_etcds_words() {
        for (text, error) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("Foo", "missing bool value for Foo"),
            (
                "LeaseCheckpoint=maybe",
                "invalid value of LeaseCheckpoint=maybe, err: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ] {
            assert_eq!(set(text), Err(error.to_owned()));
        }
    }

    #[test]
    fn gates_without_effect_are_told_where_they_were_changed() {
        let gates =
            set("StopGRPCServiceOnDefrag=true,FastLeaseKeepAlive=true,LeaseCheckpoint=true")
                .expect("gates");
        assert_eq!(
            gates
                .without_effect()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            ["StopGRPCServiceOnDefrag"]
        );
    }
}
