//! What can be wrong with a file.

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not one of bbolt's, or both of its meta pages are damaged.
    #[error("no bbolt database: {0}")]
    Foreign(String),
    /// A page does not hold what it should.
    #[error("the database is damaged at page {page}: {what}")]
    Damaged {
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
