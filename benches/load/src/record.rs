//! What was measured, load by load, kept as JSON beside the report.
//!
//! A load that is measured again replaces its own measurement and leaves the others: a run may be made in parts, and one
//! that is cut off keeps what it had finished. Knows nothing of goals and tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cluster::Target;
use crate::sample::Sample;

/// All samples of one load.
pub(crate) type Samples = BTreeMap<Target, Vec<Sample>>;

/// One load's runs, and what they were made with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// MetaStore's commit.
    pub(crate) commit: String,
    /// The day, as 2026-11-26.
    pub(crate) date: String,
    /// The share of the load's full size.
    pub(crate) scale: f64,
    /// How each target was started.
    pub(crate) commands: BTreeMap<Target, String>,
    pub(crate) samples: Samples,
}

/// The measurements of clusters of one size, by load.
#[derive(Debug, Default)]
pub(crate) struct Record {
    file: Option<PathBuf>,
    loads: BTreeMap<String, Measurement>,
}

impl Record {
    /// The record that a directory holds; none is an empty one.
    ///
    /// # Errors
    /// A file that cannot be read, or is no record.
    pub(crate) fn open(directory: &Path, members: usize) -> Result<Self> {
        let file = directory.join(format!("load-{members}.json"));
        let loads = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is no record of loads", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let file = Some(file);
        Ok(Self { file, loads })
    }

    /// Takes a load's measurement in, in place of an earlier one, and writes the file where there is one.
    pub(crate) fn add(&mut self, load: &str, measurement: Measurement) -> Result<()> {
        self.loads.insert(load.to_owned(), measurement);
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = file.with_extension("json.new");
        fs::write(&new, serde_json::to_string_pretty(&self.loads)? + "\n")?;
        Ok(fs::rename(new, file)?)
    }

    pub(crate) fn get(&self, load: &str) -> Option<&Measurement> {
        self.loads.get(load)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(commit: &str, rate: f64) -> Measurement {
        let mut sample = Sample::default();
        sample.set("rate", rate);
        Measurement {
            commit: commit.to_owned(),
            samples: BTreeMap::from([(Target::MetaStore, vec![sample])]),
            ..Measurement::default()
        }
    }

    #[test]
    fn a_load_measured_again_replaces_its_own_figures_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut first = Record::open(directory.path(), 3).expect("empty");
        first.add("put", measured("a", 1.0)).expect("written");
        first.add("range", measured("a", 2.0)).expect("written");
        let mut second = Record::open(directory.path(), 3).expect("read");
        second.add("put", measured("b", 3.0)).expect("written");
        let third = Record::open(directory.path(), 3).expect("read");
        let of = |load: &str| third.get(load).expect("kept").clone();
        assert_eq!(
            (of("put").commit, of("range").commit),
            ("b".into(), "a".into())
        );
        assert_eq!(
            of("put").samples[&Target::MetaStore][0].figures["rate"],
            3.0
        );
        assert!(
            Record::open(directory.path(), 1)
                .expect("another size")
                .get("put")
                .is_none()
        );
    }

    #[test]
    fn a_file_that_is_no_record_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("load-1.json"), "[]").expect("written");
        let error = Record::open(directory.path(), 1).expect_err("refused");
        assert!(error.to_string().contains("is no record of loads"));
    }
}
