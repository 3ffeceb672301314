//! A file system that forgets what was not synced.
//!
//! [`Recorder`] mounts it (FUSE) and writes down every change in order, with the syncs among them. [`Disk`] is the
//! model behind it: what a process sees, and what a power cut may leave. From a [`Recording`] the disk after any
//! number of changes can be had, cut in one of several [`Loss`]es, and laid out as a plain folder for a restart.
//!
//! The model is as unkind as POSIX and a disk allow:
//! - data of a file survives when the file was synced after the write; otherwise each sector of 512 bytes does or does
//!   not, in any order; where a file grows, what survives of the growth has no holes (file systems keep that order);
//! - a name (created, renamed, removed) survives when its folder was synced; otherwise the changes of each folder survive
//!   up to some point (file systems keep that order), whatever becomes of other folders and of files' data; a rename is
//!   one change;
//! - syncing a file does not make its name durable, and the other way round.

mod content;
mod cut;
mod disk;
mod mount;
mod recording;

pub use cut::Loss;
pub use disk::Disk;
pub use mount::{Faults, Recorder};
pub use recording::Recording;
