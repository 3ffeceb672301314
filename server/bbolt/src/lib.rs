//! Files of bbolt, the database that etcd keeps its data in: reading any, and writing whole ones.
//!
//! Promises: what is written is read by bbolt 1.3 and later, and by etcd's tools; a file is written in one pass over sorted
//! entries, in order, with memory for a page and for one key in each page of a bucket; what is read is checked, and a
//! damaged or foreign file is an error, never a panic or an endless walk. Follows `internal/common` and `tx.go` of
//! go.etcd.io/bbolt v1.4. Must not know what etcd keeps in its buckets.
//!
//! A file is made of pages. The first two are meta pages, which say where the root bucket's tree begins; the one with the
//! greater transaction id that is whole counts. A bucket is a B+tree of pages; the root bucket's values say where the
//! other buckets begin. A page that is too small for its content goes on in the pages behind it. Numbers are little-endian.

mod error;
mod page;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use reader::{Bucket, Database};
pub use writer::{Entries, Head, Writer};
