//! An engine against three BTreeMaps.

use std::collections::BTreeMap;

use metastore_engine::{Batch, Engine, Kind, Read, Space};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::support::{all, number, open, revision, scan};

type Maps = [BTreeMap<Vec<u8>, Vec<u8>>; 3];

#[derive(Clone, Debug)]
enum Operation {
    Append(Space, usize),
    Put(Space, Vec<u8>, usize),
    Delete(Space, Vec<u8>),
    DeleteRange(Space, Vec<u8>, Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Operation>),
    Flush,
    Reclaim,
    Reopen,
    Pin,
    Scan(Space, Vec<u8>, Vec<u8>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..60u64).prop_map(|main| revision(main, 0).to_vec()),
        proptest::collection::vec(0..4u8, 0..4),
    ]
}

fn space() -> impl Strategy<Value = Space> {
    proptest::sample::select(&Space::ALL[..])
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), 1..400usize, 8_000..40_000usize]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (space(), size()).prop_map(|(space, size)| Operation::Append(space, size)),
        4 => (space(), key(), size()).prop_map(|(space, key, size)| Operation::Put(space, key, size)),
        3 => (space(), key()).prop_map(|(space, key)| Operation::Delete(space, key)),
        1 => (space(), key(), key()).prop_map(|(space, from, to)| Operation::DeleteRange(space, from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => proptest::collection::vec(operation(), 0..20).prop_map(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Reopen),
        1 => Just(Step::Pin),
        3 => (space(), key(), key()).prop_map(|(space, from, to)| Step::Scan(space, from, to)),
    ]
}

/// The model: the state after each batch since the last flush, the newest last.
struct Model {
    states: Vec<Maps>,
    /// Batches before `states[0]`.
    flushed: u64,
    appended: u64,
}

impl Model {
    fn newest(&self) -> &Maps {
        self.states.last().expect("never empty")
    }

    fn written(&self) -> u64 {
        self.flushed + self.states.len() as u64 - 1
    }

    fn write(&mut self, operations: &[Operation]) -> Batch {
        let mut batch = Batch::new();
        let mut maps = self.newest().clone();
        for operation in operations {
            self.appended += 1;
            match operation {
                Operation::Append(space, size) => {
                    let key = revision(1000 + self.appended, 0);
                    put(&mut batch, &mut maps, *space, &key, &vec![1; *size]);
                }
                Operation::Put(space, key, size) => {
                    let value = vec![self.appended as u8; *size];
                    put(&mut batch, &mut maps, *space, key, &value);
                }
                Operation::Delete(space, key) => {
                    batch.delete(*space, key);
                    maps[*space as usize].remove(key);
                }
                Operation::DeleteRange(space, from, to) => {
                    batch.delete_range(*space, from, to);
                    maps[*space as usize].retain(|key, _| key < from || key >= to);
                }
            }
        }
        let number = self.written() + 1;
        put(
            &mut batch,
            &mut maps,
            Space::System,
            b"written",
            &number.to_le_bytes(),
        );
        self.states.push(maps);
        batch
    }

    fn flush(&mut self) {
        self.flushed = self.written();
        self.states.drain(..self.states.len() - 1);
    }

    /// Keeps the state with as many batches as the reopened engine has.
    fn reopen(&mut self, engine: &dyn Engine) {
        let written = number(engine.get(Space::System, b"written").unwrap());
        assert!((self.flushed..=self.written()).contains(&written));
        self.states.truncate((written - self.flushed) as usize + 1);
        self.flush();
    }
}

fn put(batch: &mut Batch, maps: &mut Maps, space: Space, key: &[u8], value: &[u8]) {
    batch.put(space, key, value);
    maps[space as usize].insert(key.to_vec(), value.to_vec());
}

fn check<R: Read + ?Sized>(read: &R, maps: &Maps) {
    for space in Space::ALL {
        let expected: Vec<_> = maps[space as usize].clone().into_iter().collect();
        assert!(all(read, space) == expected, "{space:?} differs");
        let keys: Vec<&[u8]> = expected.iter().map(|row| &row.0[..]).collect();
        let values = read.get_many(space, &keys).unwrap();
        assert!(
            values
                .iter()
                .zip(&expected)
                .all(|(value, row)| value.as_ref() == Some(&row.1))
        );
    }
}

fn run(kind: Kind, steps: &[Step]) {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(kind, directory.path());
    let mut model = Model {
        states: vec![Maps::default()],
        flushed: 0,
        appended: 0,
    };
    let mut pinned = Vec::new();
    for step in steps {
        match step {
            Step::Write(operations) => engine.write(&model.write(operations)).unwrap(),
            Step::Flush => {
                engine.flush().unwrap();
                model.flush();
            }
            Step::Reclaim => {
                engine
                    .reclaim(&|_| std::ops::ControlFlow::Continue(()))
                    .unwrap();
                model.flush();
            }
            Step::Reopen => {
                check(&*engine, model.newest());
                // A view keeps its engine's directory.
                for (view, maps) in pinned.drain(..) {
                    let view: Box<dyn metastore_engine::View> = view;
                    check(&*view, &maps);
                }
                drop(engine);
                engine = open(kind, directory.path());
                model.reopen(&*engine);
                check(&*engine, model.newest());
            }
            Step::Pin => pinned.push((engine.view().unwrap(), model.newest().clone())),
            Step::Scan(space, from, to) => {
                let map = &model.newest()[*space as usize];
                let in_range = |row: &(&Vec<u8>, &Vec<u8>)| row.0 >= from && row.0 < to;
                let expected: Vec<_> = map
                    .iter()
                    .filter(in_range)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert!(scan(&*engine, *space, from, Some(to)) == expected);
                assert_eq!(engine.get(*space, from).unwrap().as_ref(), map.get(from));
            }
        }
    }
    check(&*engine, model.newest());
    for (view, maps) in pinned {
        check(&*view, &maps);
    }
}

pub(crate) fn an_engine_is_a_btree_map_across_reopens(kind: Kind) {
    let cases = match kind {
        Kind::Memory => 128,
        Kind::RocksDb => 24,
    };
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 1..60);
    let result = TestRunner::new(config).run(&steps, |steps| {
        run(kind, &steps);
        Ok(())
    });
    result.unwrap();
}
