//! A long answer in pieces, all at one revision.

use std::sync::Arc;

use crate::pins::Pin;
use crate::read::count::count_now;
use crate::read::range::{Moment, Sink, TAG_RANGE_KVS};
use crate::read::scan::Scan;
use crate::read::span::Span;
use crate::shared::Shared;
use crate::{Error, Page, Query, Target};

/// A long answer at one revision; holds no lock between two calls, but keeps compaction from going past its revision
/// for a while: it must not be left lying about.
pub struct Walk {
    shared: Arc<Shared>,
    query: Query,
    moment: Moment,
    count: i64,
    sent: usize,
    resume: Option<Vec<u8>>,
    pin: Option<Pin>,
    done: bool,
}

impl Walk {
    pub(crate) fn new(shared: Arc<Shared>, query: Query) -> Result<Self, Error> {
        let span = Span::decode(&query.key, &query.end);
        let index = shared.index.read();
        let moment = shared.moment(query.revision, None)?;
        let pin = shared.pins.pin(moment.at);
        let count = count_now(&index, span, moment.at);
        drop(index);
        let count = match count {
            Some(count) => count,
            None => shared.count_at(span, moment.at, &pin)?,
        };
        Ok(Self {
            shared,
            query,
            moment,
            count,
            sent: 0,
            resume: None,
            pin: Some(pin),
            done: false,
        })
    }

    /// The next piece of about `byte_budget` bytes, at least one key unless there is none; `None` after the last one.
    /// Every piece carries the range's `count` and the header's `revision`, the last one `more`.
    pub fn next(&mut self, byte_budget: usize) -> Result<Option<Page>, Error> {
        if self.done {
            return Ok(None);
        }
        if self.query.count_only || self.query.target != Target::Key {
            self.done = true;
            let query = Query {
                revision: self.moment.at,
                ..self.query.clone()
            };
            let page = self.shared.range(&query, None)?;
            return Ok(Some(Page {
                revision: self.moment.current,
                ..page
            }));
        }
        self.next_in_order(byte_budget).map(Some)
    }

    fn next_in_order(&mut self, byte_budget: usize) -> Result<Page, Error> {
        let span = Span::decode(&self.query.key, &self.query.end);
        let mut sink = Sink::after(&self.query, TAG_RANGE_KVS, self.sent);
        let mut scan = Scan::resumed(
            span,
            self.moment.at,
            self.query.direction(),
            (self.resume.take(), self.pin.take()),
            byte_budget,
        );
        // At the limit one more step tells whether there is more.
        while !scan.is_done() && (sink.out.len() < byte_budget || sink.is_full()) {
            scan.step(&self.shared, sink.wanted(), &mut |found| sink.take(&found))?;
            sink.fill(&self.shared, &scan)?;
        }
        let page = Page {
            kvs: sink.out,
            kv_count: sink.taken,
            more: sink.more,
            count: self.count,
            revision: self.moment.current,
        };
        self.sent += page.kv_count;
        self.done = scan.is_done();
        let (resume, pin) = scan.suspend();
        self.resume = resume;
        self.pin = pin.filter(|_| !self.done);
        Ok(page)
    }
}
