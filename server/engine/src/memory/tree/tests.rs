//! The tree against a `BTreeMap`, with small nodes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Insert(Vec<u8>, usize),
    Remove(Vec<u8>),
    RemoveRange(Vec<u8>, Vec<u8>),
    Pin,
    Rebuild,
}

/// Keys with the same head, so that hints are used, and others.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..400u16).prop_map(|number| [&[1, 0, 0, 0], &number.to_be_bytes()[..]].concat()),
        (0..100u16)
            .prop_map(|number| [&[1, 0, 0, 0, 0, 0, 0, 9], &number.to_be_bytes()[..]].concat()),
        (0..400u16).prop_map(|number| number.to_be_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..3),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0usize), 1..40usize, 100..600usize];
    prop_oneof![
        4 => size.clone().prop_map(Step::Append),
        4 => (key(), size).prop_map(|(key, size)| Step::Insert(key, size)),
        3 => key().prop_map(Step::Remove),
        2 => (key(), key()).prop_map(|(from, to)| Step::RemoveRange(from, to)),
        1 => Just(Step::Pin),
        1 => Just(Step::Rebuild),
    ]
}

fn apply(step: &Step, number: u32, tree: &mut Tree, model: &mut Model) {
    match step {
        Step::Append(size) => {
            let key = [&[1, 0, 0, 0, 0, 1][..], &number.to_be_bytes()].concat();
            tree.insert(&key, &vec![7; *size]);
            model.insert(key, vec![7; *size]);
        }
        Step::Insert(key, size) => {
            tree.insert(key, &vec![number as u8; *size]);
            model.insert(key.clone(), vec![number as u8; *size]);
        }
        Step::Remove(key) => {
            tree.remove(key);
            model.remove(key);
        }
        Step::RemoveRange(from, to) => {
            tree.remove_range(from, to);
            model.retain(|key, _| key < from || key >= to);
        }
        Step::Pin => {}
        Step::Rebuild => *tree = rebuilt(tree),
    }
}

fn rebuilt(tree: &Tree) -> Tree {
    let mut blocks = Vec::new();
    let read: Result<(), ()> = tree.leaves(|leaf| {
        let mut block = Vec::new();
        leaf.encode(&mut block);
        blocks.push(Leaf::decode(block, leaf.rows()).unwrap());
        Ok(())
    });
    read.unwrap();
    Tree::from_leaves(blocks)
}

fn check(tree: &Tree, model: &Model) {
    let mut rows = Vec::new();
    let _ = tree.scan(&[], None, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    let expected: Vec<_> = model.clone().into_iter().collect();
    assert_eq!(rows, expected);
    for (key, value) in model {
        assert_eq!(tree.get(key), Some(&value[..]));
    }
    assert_eq!(tree.size().rows, model.len());
    let mut size = Size::default();
    check_node(&tree.root, None, None, &mut size);
    if size.rows > 0 {
        assert_eq!(tree.size(), size);
    }
}

/// Checks the bounds of every node and returns its height.
fn check_node(node: &Node, from: Option<&[u8]>, to: Option<&[u8]>, size: &mut Size) -> usize {
    match node {
        Node::Leaf(leaf) => {
            size.add(leaf);
            for index in 0..leaf.rows() {
                let key = leaf.key(index);
                assert!(from.is_none_or(|from| from <= key));
                assert!(to.is_none_or(|to| key < to));
            }
            0
        }
        Node::Inner(inner) => {
            assert_eq!(inner.firsts.len(), inner.children.len());
            assert!((1..=FANOUT).contains(&inner.children.len()));
            let heights: Vec<usize> = (0..inner.children.len())
                .map(|index| {
                    let from = if index == 0 {
                        from
                    } else {
                        Some(&*inner.firsts[index].key)
                    };
                    let to = inner
                        .firsts
                        .get(index + 1)
                        .map_or(to, |next| Some(&*next.key));
                    check_node(&inner.children[index], from, to, size)
                })
                .collect();
            assert!(heights.iter().all(|height| *height == heights[0]));
            heights[0] + 1
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_tree_is_a_btree_map_and_its_clones_never_change(
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let mut tree = Tree::default();
        let mut model = Model::new();
        let mut pinned = Vec::new();
        for (number, step) in (0..).zip(&steps) {
            apply(step, number, &mut tree, &mut model);
            if matches!(step, Step::Pin) {
                pinned.push((tree.clone(), model.clone()));
            }
            if number % 16 == 0 {
                check(&tree, &model);
            }
        }
        check(&tree, &model);
        for (tree, model) in &pinned {
            check(tree, model);
        }
    }
}

#[test]
fn appended_rows_cost_little_more_than_their_bytes() {
    let mut tree = Tree::default();
    for number in 0..10_000u32 {
        tree.insert(&number.to_be_bytes(), &[0; 40]);
    }
    // In tests a leaf is tiny, so its fixed cost is left out here.
    let size = tree.size();
    let held = size.held - size.leaves * LEAF_OVERHEAD;
    assert!(held < size.live * 14 / 10, "{size:?}");
    for number in (0..10_000u32).filter(|number| number % 10 != 0) {
        tree.remove(&number.to_be_bytes());
    }
    let size = tree.size();
    let held = size.held - size.leaves * LEAF_OVERHEAD;
    assert!(held < size.live * 3, "{size:?}");
    assert!(size.leaves < 500, "{size:?}");
}
