//! The tree against a `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::{Entry, Pass, Tree, Version};

fn version(number: i64, live: bool) -> Version {
    Version {
        main: number,
        create: i64::from(live),
        version: i64::from(live),
        sub: 0,
        record_len: 1,
    }
}

fn entry(number: i64, live: bool) -> Entry {
    Entry {
        value: None,
        older: None,
        current: version(number, live),
        lease: 0,
    }
}

fn set(tree: &mut Tree, key: &[u8], number: i64, live: bool) {
    tree.edit(key, &mut |found| match found {
        Some(entry) => {
            entry.current = version(number, live);
            None
        }
        None => Some(entry(number, live)),
    });
}

fn keys(tree: &Tree, from: &[u8], to: Option<&[u8]>, pass: Pass) -> Vec<(Vec<u8>, i64)> {
    let mut keys = Vec::new();
    let _ = tree.walk(from, to, pass, &mut |leaf, range| {
        for at in range {
            let entry = &leaf.entries()[at];
            if pass == Pass::Nothing || entry.is_live() {
                keys.push((leaf.key(at).to_vec(), entry.current.main));
            }
        }
        ControlFlow::Continue(())
    });
    keys
}

fn keys_back(tree: &Tree, from: &[u8], to: Option<&[u8]>, pass: Pass) -> Vec<(Vec<u8>, i64)> {
    let mut keys = Vec::new();
    let _ = tree.walk_back(from, to, pass, &mut |leaf, range| {
        for at in range.rev() {
            let entry = &leaf.entries()[at];
            if pass == Pass::Nothing || entry.is_live() {
                keys.push((leaf.key(at).to_vec(), entry.current.main));
            }
        }
        ControlFlow::Continue(())
    });
    keys
}

fn reversed(mut keys: Vec<(Vec<u8>, i64)>) -> Vec<(Vec<u8>, i64)> {
    keys.reverse();
    keys
}

#[derive(Debug, Clone)]
enum Step {
    Set(Vec<u8>, bool),
    Run(u16, u16),
    Remove(Vec<u8>),
    RemoveRun(u16, u16),
    Rebuild,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..2000u16).prop_map(|number| format!("/registry/pods/{number:05}").into_bytes()),
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(255u8)], 0..6),
        (0..60u8).prop_map(|number| [vec![number % 3; 9000], vec![number]].concat()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (key(), any::<bool>()).prop_map(|(key, live)| Step::Set(key, live)),
        3 => (0..2000u16, 0..400u16).prop_map(|(from, count)| Step::Run(from, count)),
        2 => key().prop_map(Step::Remove),
        3 => (0..2000u16, 0..600u16).prop_map(|(from, count)| Step::RemoveRun(from, count)),
        1 => Just(Step::Rebuild),
    ]
}

fn run_key(number: u16) -> Vec<u8> {
    format!("/registry/pods/{number:05}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tree_answers_as_an_ordered_map(
        steps in proptest::collection::vec(step(), 1..40),
        probes in proptest::collection::vec((key(), key()), 12),
    ) {
        let mut tree = Tree::default();
        let mut model: BTreeMap<Vec<u8>, (i64, bool)> = BTreeMap::new();
        let mut number = 0;
        for step in steps {
            number += 1;
            match step {
                Step::Set(key, live) => {
                    set(&mut tree, &key, number, live);
                    model.insert(key, (number, live));
                }
                Step::Run(from, count) => for at in from..from + count {
                    let live = at % 7 != 0;
                    set(&mut tree, &run_key(at), number, live);
                    model.insert(run_key(at), (number, live));
                },
                Step::Remove(key) => {
                    let removed = tree.remove(&key).map(|entry| entry.current.main);
                    prop_assert_eq!(removed, model.remove(&key).map(|(number, _)| number));
                }
                Step::RemoveRun(from, count) => for at in from..from + count {
                    let removed = tree.remove(&run_key(at)).is_some();
                    prop_assert_eq!(removed, model.remove(&run_key(at)).is_some());
                },
                Step::Rebuild => {
                    tree = Tree::from_sorted(model.iter().map(|(key, (number, live))| (&key[..], entry(*number, *live))));
                }
            }
            prop_assert_eq!(tree.live(), model.values().filter(|(_, live)| *live).count() as u64);
        }
        for (a, b) in &probes {
            prop_assert_eq!(tree.get(a).map(|entry| entry.current.main), model.get(a).map(|(number, _)| *number));
            let before = model.range(..a.clone()).filter(|(_, (_, live))| *live).count();
            prop_assert_eq!(tree.live_before(a), before as u64);
            for to in [None, Some(&b[..])] {
                let inside = model.range(a.clone()..).filter(|(key, _)| to.is_none_or(|to| &key[..] < to));
                let all: Vec<_> = inside.clone().map(|(key, (number, _))| (key.clone(), *number)).collect();
                let live: Vec<_> = inside
                    .filter(|(_, (_, live))| *live)
                    .map(|(key, (number, _))| (key.clone(), *number))
                    .collect();
                prop_assert_eq!(keys(&tree, a, to, Pass::Nothing), &all[..]);
                prop_assert_eq!(keys(&tree, a, to, Pass::DeadSubtrees), &live[..]);
                prop_assert_eq!(keys_back(&tree, a, to, Pass::Nothing), reversed(all));
                prop_assert_eq!(keys_back(&tree, a, to, Pass::DeadSubtrees), reversed(live));
            }
        }
        // Leaf by leaf along the fences one meets every entry once.
        let mut seen = 0;
        let mut at: Box<[u8]> = Box::default();
        loop {
            let (leaf, fence) = tree.leaf_mut(&at);
            seen += leaf.entries().len();
            match fence {
                Some(next) => at = next,
                None => break,
            }
        }
        prop_assert_eq!(seen, model.len());
    }
}

/// The keys of each leaf, and their bytes.
fn leaves(tree: &Tree, from: &[u8], to: Option<&[u8]>) -> Vec<(usize, usize)> {
    let mut leaves = Vec::new();
    let _ = tree.walk(from, to, Pass::Nothing, &mut |leaf, range| {
        let bytes = range.clone().map(|at| leaf.key(at).len()).sum();
        leaves.push((range.len(), bytes));
        ControlFlow::Continue(())
    });
    leaves
}

#[test]
fn keys_in_order_leave_full_leaves() {
    let mut tree = Tree::default();
    for number in 0..64_000u32 {
        set(&mut tree, &number.to_be_bytes(), 1, true);
    }
    assert_eq!(leaves(&tree, b"", None).len(), 1000);
}

#[test]
fn keys_in_order_at_many_places_leave_full_leaves_too() {
    let mut tree = Tree::default();
    for number in 0..2_000u32 {
        for namespace in 0..20 {
            let key = format!("/registry/pods/namespace-{namespace:02}/pod-{number:05}");
            set(&mut tree, key.as_bytes(), 1, true);
        }
    }
    let leaves = leaves(&tree, b"", None).len();
    assert!(leaves <= 40_000 / 64 * 11 / 10, "{leaves} leaves");
}

#[test]
fn a_leaf_of_long_keys_has_few_of_them() {
    let mut tree = Tree::default();
    for number in 0..3_000u32 {
        let number = number * 7919 % 3_000;
        let key = [&[b'k'; 5_000][..], &number.to_be_bytes()].concat();
        set(&mut tree, &key, 1, true);
    }
    set(&mut tree, &[b'a'; 1_000_000], 1, true);
    set(&mut tree, b"b", 1, true);
    let leaves = leaves(&tree, b"", None);
    assert_eq!(leaves.iter().map(|(keys, _)| keys).sum::<usize>(), 3_002);
    for (keys, bytes) in leaves {
        assert!(
            keys == 1 || bytes <= 33 << 10,
            "{keys} keys of {bytes} bytes"
        );
    }
}

/// Writes or deletes as a transaction does, with the version that was there kept.
fn write(tree: &mut Tree, key: &[u8], main: i64, live: bool) {
    let version = |old: Option<&Version>| {
        let create = old
            .filter(|old| old.is_live())
            .map_or(main, |old| old.create);
        Version {
            main,
            create: if live { create } else { 0 },
            version: i64::from(live),
            sub: 0,
            record_len: 1,
        }
    };
    tree.edit(key, &mut |found| match found {
        Some(entry) => {
            let version = version(Some(&entry.current));
            entry.supersede(version, 0);
            None
        }
        None => live.then(|| Entry {
            current: version(None),
            ..entry(main, live)
        }),
    });
}

fn count_at(tree: &Tree, from: &[u8], to: Option<&[u8]>, at: i64) -> (u64, usize) {
    let mut visited = 0;
    let mut seen = 0;
    let (settled, _) = tree.count_settled((from, to), at, &mut |leaf, range| {
        let live = leaf.entries()[range].iter();
        seen += live.filter(|entry| entry.live_at(at).is_some()).count() as u64;
        visited += 1;
        ControlFlow::Continue(())
    });
    (settled + seen, visited)
}

proptest! {
    #[test]
    fn counts_of_the_past_are_those_of_then(
        writes in proptest::collection::vec((0..400u16, any::<bool>()), 1..1500),
        moment in 0..1500i64,
        (from, to) in (0..400u16, 0..401u16),
    ) {
        let mut tree = Tree::default();
        let mut then = BTreeMap::new();
        for (main, (key, live)) in (1i64..).zip(writes) {
            write(&mut tree, &key.to_be_bytes(), main, live);
            if main <= moment {
                then.insert(key, live);
            }
        }
        let live = |from: u16, to: u16| then.iter().filter(|(key, live)| **live && (from..to).contains(key)).count() as u64;
        let (from_key, to_key) = (from.to_be_bytes(), to.to_be_bytes());
        prop_assert_eq!(count_at(&tree, &from_key, None, moment).0, live(from, u16::MAX));
        prop_assert_eq!(count_at(&tree, &from_key, Some(&to_key), moment).0, live(from, to.max(from)));
    }
}

#[test]
fn keys_written_again_cost_a_count_of_the_past_nothing() {
    let mut tree = Tree::default();
    for number in 0..50_000u32 {
        write(
            &mut tree,
            &number.to_be_bytes(),
            i64::from(number) + 1,
            true,
        );
    }
    for number in 0..50_000u32 {
        write(
            &mut tree,
            &number.to_be_bytes(),
            i64::from(number) + 50_001,
            true,
        );
    }
    write(&mut tree, &77u32.to_be_bytes(), 100_001, false);
    write(&mut tree, &[0xff; 5], 100_002, true);
    assert_eq!(count_at(&tree, b"", None, 50_000), (50_000, 2));
    assert_eq!(count_at(&tree, b"", None, 100_002), (50_000, 0));
}
