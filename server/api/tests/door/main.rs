//! The door of a real member, as clients meet it.

mod connections;
mod running;
mod services;
mod tls;
