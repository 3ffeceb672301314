//! Where entries lie: a sparse index from an entry's index to its place in a segment.
//!
//! One place for about every 16 KiB, so that a gibibyte of log costs less than two mebibytes of memory.
//! Entries between two places are found by reading on from the first. Where the next entry in the
//! files is not the next of the log (after a truncation, at the beginning of a segment), there is a
//! place of its own, so reading on never meets an entry that was truncated.

use std::collections::VecDeque;

/// Bytes of log between two places.
const SPACING: u32 = 16 << 10;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) index: u64,
    pub(super) segment: u64,
    /// Where in the segment the entry's op begins.
    pub(super) offset: u32,
    /// Where the body of its record ends.
    pub(super) body_end: u32,
    /// The mask of its record.
    pub(super) mask: u32,
}

/// The places of a log, ascending by index and by where they lie.
#[derive(Debug, Default)]
pub(super) struct Places {
    list: VecDeque<Place>,
    /// The entry that would be found by reading on; none when the next needs a place.
    next: Option<u64>,
}

impl Places {
    /// Notes where the next entry of the log lies. Entries come in the order of the files.
    pub(super) fn note(&mut self, place: Place) {
        let near = self.list.back().is_some_and(|last| {
            last.segment == place.segment
                && place.offset - last.offset < SPACING
                && self.next == Some(place.index)
        });
        if !near {
            self.list.push_back(place);
        }
        self.next = Some(place.index + 1);
    }

    /// Adds the places of a segment that follows all before; what they overlap has been truncated.
    pub(super) fn extend(&mut self, places: impl IntoIterator<Item = Place>) {
        let mut places = places.into_iter().peekable();
        if let Some(first) = places.peek() {
            self.forget_from(first.index);
        }
        self.list.extend(places);
        self.next = None;
    }

    /// The places themselves.
    pub(super) fn into_list(self) -> impl Iterator<Item = Place> {
        self.list.into_iter()
    }

    /// Forgets the entries after `index`, or all.
    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        self.forget_from(index.map_or(0, |index| index + 1));
        self.next = None;
    }

    fn forget_from(&mut self, index: u64) {
        let keep = self.list.partition_point(|place| place.index < index);
        self.list.truncate(keep);
    }

    /// Forgets the places of the segments before `segment`.
    pub(super) fn forget_before(&mut self, segment: u64) {
        let gone = self.list.partition_point(|place| place.segment < segment);
        self.list.drain(..gone);
    }

    /// Index of the first entry that can be found.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.list.front().map(|place| place.index)
    }

    /// The places of one segment.
    pub(super) fn of_segment(&self, segment: u64) -> Vec<Place> {
        let from = self.list.partition_point(|place| place.segment < segment);
        self.list
            .range(from..)
            .take_while(|place| place.segment == segment)
            .copied()
            .collect()
    }

    /// The places to read from for the entries of `from..to`, each with the index at which to stop;
    /// none when `from` cannot be found. At most `limit` of them.
    pub(super) fn covering(&self, from: u64, to: u64, limit: usize) -> Option<Vec<(Place, u64)>> {
        let first = self
            .list
            .partition_point(|place| place.index <= from)
            .checked_sub(1)?;
        let stops = self
            .list
            .range(first + 1..)
            .map(|place| place.index)
            .chain([u64::MAX]);
        let covering = self.list.range(first..).copied().zip(stops);
        Some(
            covering
                .take_while(|(place, _)| place.index < to)
                .take(limit)
                .map(|(p, stop)| (p, stop.min(to)))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(index: u64, segment: u64, offset: u32) -> Place {
        Place {
            index,
            segment,
            offset,
            body_end: offset + 100,
            mask: 0,
        }
    }

    fn indexes(places: &Places) -> Vec<u64> {
        places.list.iter().map(|place| place.index).collect()
    }

    #[test]
    fn a_place_is_kept_at_intervals_and_wherever_reading_on_would_go_wrong() {
        let mut places = Places::default();
        places.note(place(0, 1, 512));
        places.note(place(1, 1, 1024));
        places.note(place(2, 1, 512 + SPACING));
        places.note(place(3, 1, 1024 + SPACING));
        places.note(place(4, 2, 512));
        places.truncate_after(Some(3));
        places.note(place(4, 2, 1024));
        places.note(place(9, 2, 2048));
        assert_eq!(indexes(&places), [0, 2, 4, 9]);
        assert_eq!(places.of_segment(2), [place(4, 2, 1024), place(9, 2, 2048)]);
        places.forget_before(2);
        assert_eq!(indexes(&places), [4, 9]);
    }

    #[test]
    fn places_of_a_later_segment_replace_what_they_overlap() {
        let mut places = Places::default();
        places.extend(vec![place(0, 1, 512), place(10, 1, 20_000)]);
        places.extend(vec![]);
        places.extend(vec![place(7, 3, 512), place(12, 3, 20_000)]);
        assert_eq!(indexes(&places), [0, 7, 12]);
    }

    #[test]
    fn covering_stops_at_the_next_place_and_at_the_end_of_the_range() {
        let mut places = Places::default();
        places.extend(vec![
            place(5, 1, 512),
            place(10, 1, 20_000),
            place(15, 2, 512),
        ]);
        let stops = |from, to, limit| {
            let covering = places.covering(from, to, limit).unwrap();
            covering
                .iter()
                .map(|(place, stop)| (place.index, *stop))
                .collect::<Vec<_>>()
        };
        assert_eq!(stops(5, 6, 9), [(5, 6)]);
        assert_eq!(stops(9, 16, 9), [(5, 10), (10, 15), (15, 16)]);
        assert_eq!(stops(9, 16, 1), [(5, 10)]);
        assert!(places.covering(4, 9, 9).is_none());
    }
}
