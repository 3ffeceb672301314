//! Generated calls.
