//! The MetaStore member.
fn main() {}
