//! Reading at a revision.

pub(crate) mod count;
pub(crate) mod events;
pub(crate) mod fetch;
pub(crate) mod range;
pub(crate) mod scan;
pub(crate) mod sort;
pub(crate) mod span;
pub(crate) mod walk;
