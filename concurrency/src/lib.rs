//! Coordination among processes that share a cluster of MetaStore or etcd: sessions, mutexes, elections, and software
//! transactional memory.
//!
//! Follows etcd's Go package `client/v3/concurrency`, key by key: a lock or an election of this crate and one of that package,
//! or of `etcdctl lock` and `etcdctl elect`, exclude each other when they have the same name.
//!
//! Promises: whoever holds something here loses it on the server at the latest when its session's lease runs out, and is
//! told by [`Session::lost`] no later than that; whoever waits, waits for its predecessor only; what is dropped is given back. Must
//! not know which server answers.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use etcd_client::Client;
//! use metastore_concurrency::{Mutex, Session};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(["http://127.0.0.1:2379"], None).await?;
//! let session = Session::open(client, Duration::from_secs(10)).await?;
//! let guard = Mutex::new(&session, "jobs/cleanup").lock().await?;
//! // Nobody else cleans up now.
//! guard.unlock().await?;
//! session.close().await?;
//! # Ok(())
//! # }
//! ```

mod election;
mod error;
mod mutex;
mod place;
mod session;
mod stm;

pub use election::{Election, Leadership};
pub use error::Error;
pub use mutex::{Guard, Mutex};
pub use session::Session;
pub use stm::{Isolation, Stm, transact};
