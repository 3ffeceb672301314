//! What is written is read; what is damaged is told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;

use proptest::prelude::*;

use crate::{Database, Error, Head, Writer};

type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill<W: Write>(out: W, content: &Content) -> std::io::Result<(W, Head)> {
    let mut writer = Writer::new(out)?;
    for (name, entries) in content {
        writer.bucket(name, |bucket| {
            entries
                .iter()
                .try_for_each(|(key, value)| bucket.put(key, value))
        })?;
    }
    writer.finish()
}

fn written(content: &Content) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.seek(SeekFrom::Start(8192)).expect("seekable");
    let (mut file, head) = fill(file, content).expect("written");
    file.seek(SeekFrom::Start(0)).expect("seekable");
    file.write_all(&head.encode()).expect("written");
    assert_eq!(file.metadata().expect("there").len(), head.file_bytes());
    file
}

fn read(file: File) -> Result<Content, Error> {
    let database = Database::open(file)?;
    let mut content = Content::new();
    for name in database.buckets()? {
        let entries = content.entry(name.clone()).or_default();
        let bucket = database.bucket(&name)?;
        let mut put = |key: &[u8], value: &[u8]| {
            entries.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        };
        bucket.map_or(Ok(()), |bucket| bucket.for_each(&mut put))?;
    }
    Ok(content)
}

fn numbered(count: u32, value_bytes: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let value = |at: u32| vec![at as u8; value_bytes];
    (0..count)
        .map(|at| (at.to_be_bytes().to_vec(), value(at)))
        .collect()
}

#[test]
fn a_large_bucket_has_branches_over_branches() {
    let content = Content::from([
        (b"key".to_vec(), numbered(100_000, 100)),
        (b"meta".to_vec(), numbered(3, 8)),
        (b"lease".to_vec(), BTreeMap::new()),
    ]);
    assert_eq!(read(written(&content)).expect("readable"), content);
}

#[test]
fn entries_larger_than_a_page_go_on_in_the_next() {
    let mut entries = numbered(300, 10);
    entries.insert(vec![0, 0, 0, 7, 1], vec![7; 1_000_000]);
    entries.insert(vec![9; 20_000], vec![8; 5]);
    entries.insert([vec![9; 20_000], vec![1]].concat(), vec![8; 4096]);
    let content = Content::from([(b"key".to_vec(), entries)]);
    assert_eq!(read(written(&content)).expect("readable"), content);
}

#[test]
fn the_same_pages_come_again_so_that_the_head_may_be_known_first() {
    let content = Content::from([(b"key".to_vec(), numbered(5_000, 50))]);
    let (_, head) = fill(std::io::sink(), &content).expect("counted");
    let (bytes, again) = fill(Vec::new(), &content).expect("written");
    assert_eq!(head, again);
    assert_eq!(head.file_bytes(), 8192 + bytes.len() as u64);
}

#[test]
fn keys_out_of_order_are_refused() {
    let mut writer = Writer::new(Vec::new()).expect("written");
    let refused = writer.bucket(b"key", |bucket| {
        bucket.put(b"b", b"")?;
        bucket.put(b"a", b"")
    });
    let refused: std::io::Error = refused.expect_err("out of order");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn foreign_and_short_files_are_told() {
    let of = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        Database::open(file)
    };
    assert!(matches!(of(b""), Err(Error::Foreign(_))));
    assert!(matches!(of(&[7; 100_000]), Err(Error::Foreign(_))));
    let content = Content::from([(b"key".to_vec(), numbered(5_000, 50))]);
    let file = written(&content);
    file.set_len(100_000).expect("cut");
    assert!(matches!(Database::open(file), Err(Error::Damaged { .. })));
}

#[test]
fn one_meta_page_is_enough() {
    let content = Content::from([(b"key".to_vec(), numbered(10, 50))]);
    for page in [0, 1] {
        let mut file = written(&content);
        file.seek(SeekFrom::Start(page * 4096 + 20))
            .expect("seekable");
        file.write_all(b"damage").expect("written");
        assert_eq!(read(file).expect("readable"), content);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(content in proptest::collection::btree_map(
        proptest::collection::vec(any::<u8>(), 1..10),
        proptest::collection::btree_map(
            proptest::collection::vec(any::<u8>(), 1..40),
            proptest::collection::vec(any::<u8>(), 0..600),
            0..60,
        ),
        0..6,
    )) {
        prop_assert_eq!(read(written(&content)).expect("readable"), content);
    }

    /// Whatever is damaged, reading ends, and in order or with an error.
    #[test]
    fn damage_is_no_panic(places in proptest::collection::vec((0..200_000_u64, any::<u8>()), 1..20)) {
        let content = Content::from([
            (b"key".to_vec(), numbered(1_000, 100)),
            (b"meta".to_vec(), numbered(3, 8)),
        ]);
        let mut file = written(&content);
        let length = file.metadata().expect("there").len();
        for (place, byte) in places {
            file.seek(SeekFrom::Start(place % length)).expect("seekable");
            file.write_all(&[byte]).expect("written");
        }
        let _ = read(file);
    }
}
