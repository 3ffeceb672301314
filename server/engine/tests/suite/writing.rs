//! Batches.

use metastore_engine::{Batch, Engine, Kind, Space};

use super::support::{all, fresh, noise, open, write};

fn keys(engine: &dyn Engine, space: Space) -> Vec<u8> {
    all(engine, space)
        .into_iter()
        .flat_map(|row| row.0)
        .collect()
}

pub(crate) fn operations_of_a_batch_take_effect_in_their_order(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    write(&*engine, |batch| {
        batch.put(Space::System, b"a", b"1");
        batch.put(Space::System, b"a", b"2");
        batch.put(Space::System, b"b", b"1");
        batch.delete(Space::System, b"b");
        batch.delete(Space::System, b"c");
        batch.put(Space::System, b"c", b"3");
        batch.put(Space::System, b"d", b"1");
        batch.delete_range(Space::System, b"d", b"e");
        batch.delete_range(Space::System, b"f", b"g");
        batch.put(Space::System, b"f", b"4");
    });
    let value = |key: &[u8]| engine.get(Space::System, key).unwrap();
    assert_eq!(keys(&*engine, Space::System), b"acf");
    assert_eq!(value(b"a").as_deref(), Some(&b"2"[..]));
    assert_eq!(value(b"c").as_deref(), Some(&b"3"[..]));
    assert_eq!(value(b"f").as_deref(), Some(&b"4"[..]));
}

pub(crate) fn spaces_are_apart(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    write(&*engine, |batch| {
        for space in Space::ALL {
            batch.put(space, b"key", &[space as u8]);
        }
    });
    write(&*engine, |batch| {
        batch.delete(Space::Record, b"key");
        batch.delete_range(Space::Meta, b"", b"z");
    });
    assert_eq!(engine.get(Space::Record, b"key").unwrap(), None);
    assert_eq!(engine.get(Space::Meta, b"key").unwrap(), None);
    let system = engine.get(Space::System, b"key").unwrap();
    assert_eq!(system, Some(vec![Space::System as u8]));
}

pub(crate) fn a_range_is_deleted_without_its_end(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    let fill = |batch: &mut Batch| {
        for key in b'a'..=b'h' {
            batch.put(Space::Record, &[key], &noise(1, 20_000));
        }
    };
    write(&*engine, fill);
    write(&*engine, |batch| {
        batch.delete_range(Space::Record, b"c", b"f")
    });
    assert_eq!(keys(&*engine, Space::Record), b"abfgh");
    write(&*engine, |batch| {
        batch.delete_range(Space::Record, b"g", b"g");
        batch.delete_range(Space::Record, b"h", b"a");
        batch.delete_range(Space::Record, b"aa", b"b");
    });
    assert_eq!(keys(&*engine, Space::Record), b"abfgh");
    engine.flush().unwrap();
    write(&*engine, |batch| {
        batch.delete_range(Space::Record, b"", b"\xff")
    });
    assert_eq!(keys(&*engine, Space::Record), b"");
    write(&*engine, fill);
    assert_eq!(keys(&*engine, Space::Record), b"abcdefgh");
}

pub(crate) fn big_values_and_long_keys_are_kept(kind: Kind) {
    let (directory, engine) = fresh(kind);
    let value = noise(1, 12 << 20);
    let key = noise(2, 100_000);
    write(&*engine, |batch| {
        batch.put(Space::Record, b"a", b"before");
        batch.put(Space::Record, b"b", &value);
        batch.put(Space::Record, b"c", b"after");
        batch.put(Space::System, &key, b"long");
    });
    let check = |engine: &dyn Engine| {
        assert!(engine.get(Space::Record, b"b").unwrap().as_ref() == Some(&value));
        assert_eq!(keys(engine, Space::Record), b"abc");
        let long = engine.get(Space::System, &key).unwrap();
        assert_eq!(long.as_deref(), Some(&b"long"[..]));
    };
    check(&*engine);
    engine.flush().unwrap();
    drop(engine);
    check(&*open(kind, directory.path()));
}

pub(crate) fn an_empty_batch_changes_nothing(kind: Kind) {
    let (_directory, engine) = fresh(kind);
    engine.write(&Batch::new()).unwrap();
    engine.flush().unwrap();
    for space in Space::ALL {
        assert!(all(&*engine, space).is_empty());
    }
}
