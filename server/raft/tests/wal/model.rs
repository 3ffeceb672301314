//! Any sequence of calls, against a plain vector.

use std::ops::Range;

use metastore_raft::wal::{History, Options, Position, Vote};
use proptest::prelude::*;

use crate::scratch::{Item, Log, at, directory, item, options, wait};

#[derive(Debug, Clone)]
enum Step {
    Append {
        lens: Vec<usize>,
        zeros: bool,
        new_term: bool,
        wait: bool,
    },
    Truncate {
        back: u64,
    },
    TruncateAll,
    Purge {
        ahead: u64,
    },
    PurgeBeyond {
        by: u64,
    },
    Vote {
        granted: bool,
    },
    Committed {
        back: u64,
    },
    Reopen,
    Read {
        skip: u64,
        len: u64,
        bytes: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (
        proptest::collection::vec(0usize..1500, 1..12),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let step = prop_oneof![
        6 => append.prop_map(|(lens, zeros, new_term, wait)| Step::Append { lens, zeros, new_term, wait }),
        2 => (0u64..20).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::TruncateAll),
        2 => (0u64..40).prop_map(|ahead| Step::Purge { ahead }),
        1 => (1u64..50).prop_map(|by| Step::PurgeBeyond { by }),
        1 => any::<bool>().prop_map(|granted| Step::Vote { granted }),
        1 => (0u64..10).prop_map(|back| Step::Committed { back }),
        2 => Just(Step::Reopen),
        3 => (0u64..50, 0u64..50, 0usize..5000).prop_map(|(skip, len, bytes)| Step::Read { skip, len, bytes }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    items: Vec<Item>,
    term: u64,
    vote: Option<Vote>,
    purged: Option<Position>,
    committed: Option<Position>,
}

impl Model {
    fn first(&self) -> u64 {
        self.items.first().map_or(0, |item| item.at.index)
    }

    fn last(&self) -> Option<Position> {
        self.items.last().map(|item| item.at).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn read(&self, range: Range<u64>) -> Vec<Item> {
        self.items
            .iter()
            .filter(|item| range.contains(&item.at.index))
            .cloned()
            .collect()
    }

    fn purge(&mut self, to: Position) {
        self.items.retain(|item| item.at.index > to.index);
        self.purged = Some(to);
    }

    fn agrees(&self, history: &History) -> Result<(), TestCaseError> {
        prop_assert_eq!(history.last, self.last());
        prop_assert_eq!(history.purged, self.purged);
        prop_assert_eq!(history.vote, self.vote);
        prop_assert_eq!(history.committed, self.committed);
        for item in &self.items {
            prop_assert_eq!(history.term_at(item.at.index), Some(item.at.term));
        }
        prop_assert_eq!(history.term_at(self.next()), None);
        Ok(())
    }
}

/// A log and what it should hold.
struct Pair {
    options: Options,
    log: Option<Log>,
    model: Model,
}

impl Pair {
    fn new(options: &Options) -> Self {
        let log = Some(Log::open(options.clone()).unwrap());
        let model = Model {
            term: 1,
            ..Model::default()
        };
        Self {
            options: options.clone(),
            log,
            model,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.log = None;
        self.log = Some(Log::open(self.options.clone()).unwrap());
    }

    fn agrees(&self) -> Result<(), TestCaseError> {
        self.model.agrees(&self.log().history())?;
        prop_assert_eq!(&self.log().read(0..u64::MAX).unwrap(), &self.model.items);
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Append {
                lens,
                zeros,
                new_term,
                wait,
            } => self.append(lens, zeros, new_term, wait),
            Step::Truncate { back } => self.truncate(back),
            Step::TruncateAll => self.truncate_all(),
            Step::Purge { ahead } => {
                if let Some(to) = self.model.items.get(ahead as usize).map(|item| item.at) {
                    self.purge(to);
                }
            }
            Step::PurgeBeyond { by } => {
                self.model.term += 1;
                self.purge(at(self.model.term, self.model.next() + by));
            }
            Step::Vote { granted } => {
                self.model.term += 1;
                let vote = Vote {
                    term: self.model.term,
                    member: 9,
                    granted,
                };
                self.model.vote = Some(vote);
                wait(|done| self.log().save_vote(vote, done)).unwrap();
            }
            Step::Committed { back } => {
                if let Some(to) = self
                    .model
                    .items
                    .iter()
                    .rev()
                    .nth(back as usize)
                    .map(|item| item.at)
                {
                    self.model.committed = Some(to);
                    self.log().save_committed(to).unwrap();
                }
            }
            Step::Reopen => self.reopen(),
            Step::Read { skip, len, bytes } => return self.read(skip, len, bytes),
        }
        Ok(())
    }

    fn append(&mut self, lens: Vec<usize>, zeros: bool, new_term: bool, waits: bool) {
        self.model.term += u64::from(new_term);
        let (term, next) = (self.model.term, self.model.next());
        let make = |(index, len)| {
            let mut item = item(term, index, len);
            if zeros {
                item.bytes = vec![0; len].into();
            }
            item
        };
        let items: Vec<Item> = (next..).zip(lens).map(make).collect();
        self.model.items.extend_from_slice(&items);
        if waits {
            wait(|done| self.log().append(items, done)).unwrap();
        } else {
            self.log()
                .append(items, Box::new(|result| result.unwrap()))
                .unwrap();
        }
    }

    fn truncate(&mut self, back: u64) {
        let Some(after) = self
            .model
            .items
            .iter()
            .rev()
            .nth(back as usize)
            .map(|item| item.at)
        else {
            return;
        };
        self.model.items.retain(|item| item.at.index <= after.index);
        self.log().truncate_after(Some(after)).unwrap();
        // Raft never truncates what is committed; here it may happen.
        self.model.committed = self.model.committed.min(self.model.last());
        self.model.term += 1;
        if let Some(committed) = self.model.committed {
            self.log().save_committed(committed).unwrap();
        }
    }

    fn truncate_all(&mut self) {
        if self.model.committed.is_none() {
            self.model.items.clear();
            self.log().truncate_after(None).unwrap();
            self.model.term += 1;
        }
    }

    fn purge(&mut self, to: Position) {
        self.model.purge(to);
        self.log().purge(to).unwrap();
    }

    fn read(&self, skip: u64, len: u64, bytes: usize) -> Result<(), TestCaseError> {
        let start = self.model.first() + skip;
        let expected = self.model.read(start..start + len);
        prop_assert_eq!(&self.log().read(start..start + len).unwrap(), &expected);
        let some = self.log().read_some(start..start + len, bytes).unwrap();
        prop_assert_eq!(some.is_empty(), expected.is_empty());
        prop_assert_eq!(&some[..], &expected[..some.len()]);
        let size: usize = some.iter().map(|item| item.bytes.len()).sum();
        prop_assert!(some.len() <= 1 || size <= bytes);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_log_holds_what_a_vector_would(
        steps in steps(),
        segment in 1u64..64,
        cache in 0usize..8000,
        record in 1usize..10_000,
    ) {
        let directory = directory();
        let mut options = options(directory.path());
        options.segment_bytes = segment * 1024;
        options.first_segment_bytes = 2048;
        options.cache_bytes = cache;
        options.record_bytes = record;
        let mut pair = Pair::new(&options);
        for step in steps {
            pair.step(step)?;
            pair.agrees()?;
        }
        pair.reopen();
        pair.agrees()?;
    }
}
