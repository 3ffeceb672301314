//! What happened to a disk, in order.

use std::time::Instant;

use super::disk::{Disk, Event};

/// The changes of a disk from its beginning on.
#[derive(Clone, Debug)]
pub struct Recording {
    pub(super) before: Disk,
    pub(super) events: Vec<(Instant, Event)>,
}

impl Recording {
    /// How many changes and syncs there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// How many of them had happened at a time: what was answered by then may rest on these, and on no others.
    pub fn count_at(&self, time: Instant) -> usize {
        self.events.partition_point(|(at, _)| *at <= time)
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The disk after each of `counts` changes, which ascend.
    pub fn disks(
        &self,
        counts: impl IntoIterator<Item = usize>,
    ) -> impl Iterator<Item = (usize, Disk)> {
        let mut disk = self.before.clone();
        let mut done = 0;
        counts.into_iter().map(move |count| {
            while done < count.min(self.events.len()) {
                disk.apply(&self.events[done].1);
                done += 1;
            }
            (count, disk.clone())
        })
    }

    /// One line about each change, for a failure's message.
    pub fn describe(&self, from: usize, to: usize) -> String {
        let events = self.events.iter().enumerate();
        let lines = events.skip(from).take(to.saturating_sub(from));
        lines
            .map(|(at, (_, event))| match event {
                Event::Write {
                    number,
                    offset,
                    data,
                } => {
                    format!("{at}: write {} bytes at {offset} of {number}\n", data.len())
                }
                other => format!("{at}: {other:?}\n"),
            })
            .collect()
    }
}
