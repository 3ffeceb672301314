//! Whose directory it is.

use std::fs;
use std::path::{Path, PathBuf};

use metastore_engine::{Engine, Error, Kind, Space};

use super::support::{fresh, noise, open, options, revision, write};

fn refusal(kind: Kind, directory: &Path) -> Error {
    match metastore_engine::open(kind, directory, options()) {
        Ok(_) => panic!("{} was opened", directory.display()),
        Err(error) => error,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn another_engine_s_directory_is_refused_and_left_alone(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let other = match kind {
        Kind::Memory => "rocksdb",
        Kind::RocksDb => "memory",
    };
    fs::write(
        directory.path().join("FORMAT"),
        format!("metastore-engine {other} 1\n"),
    )
    .unwrap();
    let error = refusal(kind, directory.path());
    let Error::Foreign {
        found, expected, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(found, &format!("a {other} engine of format 1"));
    assert_eq!(expected, &format!("a {} engine of format 1", kind.name()));
    assert_eq!(names(directory.path()), ["FORMAT"]);
}

pub(crate) fn a_newer_format_is_refused(kind: Kind) {
    let (directory, engine) = fresh(kind);
    drop(engine);
    let format = directory.path().join("FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    assert_eq!(text, format!("metastore-engine {} 1\n", kind.name()));
    for text in [text.replace(" 1", " 2"), "etcd".to_owned(), String::new()] {
        fs::write(&format, text).unwrap();
        assert!(matches!(
            refusal(kind, directory.path()),
            Error::Foreign { .. }
        ));
    }
}

pub(crate) fn a_directory_with_strange_files_is_refused_and_left_alone(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("member")).unwrap();
    let error = refusal(kind, directory.path());
    assert!(matches!(error, Error::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("member"), "{error}");
    assert_eq!(names(directory.path()), ["member"]);
}

pub(crate) fn missing_directories_are_created(kind: Kind) {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("a/b/c");
    drop(open(kind, &deep));
    assert!(names(&deep).contains(&"FORMAT".to_owned()));
    open(kind, &deep);
}

pub(crate) fn a_directory_is_open_only_once(kind: Kind) {
    let (directory, engine) = fresh(kind);
    assert!(matches!(
        refusal(kind, directory.path()),
        Error::Locked { .. }
    ));
    drop(engine);
    open(kind, directory.path());
}

pub(crate) fn a_damaged_file_is_an_error_that_names_it(kind: Kind) {
    let (directory, engine) = fresh(kind);
    for main in 0..1000 {
        write(&*engine, |batch| {
            batch.put(Space::Record, &revision(main, 0), &noise(main, 300));
        });
    }
    engine.flush().unwrap();
    drop(engine);
    let file = largest_file(directory.path());
    let name = file.file_name().unwrap().to_str().unwrap();
    let good = fs::read(&file).unwrap();
    for at in [good.len() / 3, good.len() / 2] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, bad).unwrap();
        check_damaged(kind, directory.path(), name);
    }
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    check_damaged(kind, directory.path(), name);
    fs::write(&file, good).unwrap();
    read_all(&*open(kind, directory.path())).unwrap();
}

fn check_damaged(kind: Kind, directory: &Path, name: &str) {
    let opened = metastore_engine::open(kind, directory, options());
    let error = match opened.and_then(|engine| read_all(&*engine)) {
        Ok(()) => panic!("damage was not seen"),
        Err(error) => error,
    };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(
        error.to_string().contains(name),
        "{error} does not name {name}"
    );
}

fn read_all(engine: &dyn Engine) -> Result<(), Error> {
    engine.scan(Space::Record, &[], None, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
}

fn largest_file(directory: &Path) -> PathBuf {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => files.push(largest_file(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    let size = |file: &PathBuf| fs::metadata(file).unwrap().len();
    files.into_iter().max_by_key(size).unwrap()
}
