//! A power cut: what is left of a disk.

use rand::Rng;
use rand::rngs::StdRng;

use super::content::{Change, Content, SECTOR};
use super::disk::{Disk, File, Folder, Node, set_names};

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it is lost.
    Everything,
    /// None of it is lost, as when only the process dies.
    Nothing,
    /// Older changes of a file are lost and newer ones are not.
    Older,
    /// Any part of it is lost, down to single sectors.
    Random,
}

impl Loss {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Everything, Self::Nothing, Self::Older, Self::Random];

    /// Whether the change `at` of `all` pending ones survives whole.
    fn keeps(self, at: usize, all: usize, random: &mut StdRng) -> bool {
        match self {
            Self::Everything => false,
            Self::Nothing => true,
            Self::Older => at * 2 >= all,
            Self::Random => random.random(),
        }
    }
}

impl Disk {
    /// The disk as it is found after a power cut.
    #[must_use]
    pub fn cut(&self, loss: Loss, random: &mut StdRng) -> Self {
        let mut numbers: Vec<_> = self.nodes.keys().copied().collect();
        // So that a seed always gives the same.
        numbers.sort_unstable();
        let nodes = numbers.into_iter().map(|number| {
            let node = match &self.nodes[&number] {
                Node::Folder(folder) => Node::Folder(cut_folder(folder, loss, random)),
                Node::File(file) => Node::File(cut_file(file, loss, random)),
            };
            (number, node)
        });
        Self {
            nodes: nodes.collect(),
            next: self.next,
        }
    }
}

fn cut_folder(folder: &Folder, loss: Loss, random: &mut StdRng) -> Folder {
    let mut left = folder.durable.clone();
    let all = folder.pending.len();
    let kept = match loss {
        Loss::Everything => 0,
        Loss::Nothing => all,
        Loss::Older | Loss::Random => random.random_range(0..=all),
    };
    let survivors = folder.pending.iter().take(kept);
    survivors.for_each(|naming| set_names(&mut left, naming));
    Folder {
        now: left.clone(),
        durable: left,
        pending: Vec::new(),
    }
}

fn cut_file(file: &File, loss: Loss, random: &mut StdRng) -> File {
    let mut left = file.durable.clone();
    for (at, change) in file.pending.iter().enumerate() {
        let whole = loss.keeps(at, file.pending.len(), random);
        match change {
            Change::Write { offset, data } if loss == Loss::Random && !whole => {
                tear(&mut left, *offset, data, random);
            }
            // What lies beyond the end comes in order.
            Change::Write { offset, .. } if whole && *offset <= left.bytes() => left.apply(change),
            Change::Resize(_) if whole => left.apply(change),
            _ => {}
        }
    }
    File {
        now: left.clone(),
        durable: left,
        pending: Vec::new(),
    }
}

/// Writes some sectors of `data`: any of those within the file, and of the growth a beginning.
fn tear(left: &mut Content, offset: u64, data: &[u8], random: &mut StdRng) {
    let share = [0.0, 0.0, 0.5, 0.9][random.random_range(0..4)];
    let (mut at, mut rest) = (offset, data);
    let mut grows = true;
    while !rest.is_empty() {
        let to_sector_end = SECTOR - (at % SECTOR as u64) as usize;
        let (sector, behind) = rest.split_at(rest.len().min(to_sector_end));
        let is_growth = at + sector.len() as u64 > left.bytes();
        let kept = random.random_bool(share) && (!is_growth || (grows && at <= left.bytes()));
        grows &= kept || !is_growth;
        if kept {
            left.write(at, sector);
        }
        at += sector.len() as u64;
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use rand::SeedableRng;

    use super::super::disk::{Event, ROOT};
    use super::*;

    fn events() -> Vec<Event> {
        let name = |name: &str| OsString::from(name);
        let write = |offset, byte| Event::Write {
            number: 2,
            offset,
            data: vec![byte; 1024].into(),
        };
        vec![
            Event::Create {
                parent: ROOT,
                name: name("a.new"),
                number: 2,
                is_folder: false,
            },
            write(0, 1),
            Event::SyncFile(2),
            Event::Rename {
                from: (ROOT, name("a.new")),
                to: (ROOT, name("a")),
            },
            Event::SyncFolder(ROOT),
            write(0, 2),
            write(1024, 3),
        ]
    }

    fn after(count: usize, loss: Loss) -> Vec<(String, Vec<u8>)> {
        let mut disk = Disk::default();
        events()
            .iter()
            .take(count)
            .for_each(|event| disk.apply(event));
        let disk = disk.cut(loss, &mut StdRng::seed_from_u64(1));
        let names = disk
            .folder(ROOT)
            .map(|root| root.now.clone())
            .unwrap_or_default();
        let content = |number| disk.file(number).map(|file| file.now.read(0, 4096));
        names
            .into_iter()
            .map(|(name, number)| {
                (
                    name.to_string_lossy().into_owned(),
                    content(number).unwrap_or_default(),
                )
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_is_not() {
        assert_eq!(after(3, Loss::Everything), []);
        assert_eq!(after(4, Loss::Everything), []);
        assert_eq!(
            after(5, Loss::Everything),
            [("a".to_owned(), vec![1; 1024])]
        );
        assert_eq!(
            after(7, Loss::Everything),
            [("a".to_owned(), vec![1; 1024])]
        );
    }

    #[test]
    fn a_process_that_dies_loses_nothing() {
        let both = [vec![2; 1024], vec![3; 1024]].concat();
        assert_eq!(after(7, Loss::Nothing), [("a".to_owned(), both)]);
    }

    #[test]
    fn a_file_is_never_longer_than_what_came_of_its_growth() {
        for seed in 0..200 {
            let mut disk = Disk::default();
            events().iter().for_each(|event| disk.apply(event));
            let cut = disk.cut(Loss::Random, &mut StdRng::seed_from_u64(seed));
            let content = cut
                .file(2)
                .map(|file| file.now.read(0, 4096))
                .unwrap_or_default();
            assert!(content.len() >= 1024 && content.len() % SECTOR == 0);
            assert!(content[1024..].iter().all(|byte| *byte == 3), "seed {seed}");
        }
    }
}
