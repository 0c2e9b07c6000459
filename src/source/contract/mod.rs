//! The promises of a source, as a suite that an embedder runs against his own.

mod collect;

pub use collect::{Collected, read};

use super::Source;
use crate::error::Result;

/// Checks that a source keeps its promises.
///
/// # Errors
/// What broke, and in which range.
pub async fn check(source: &dyn Source) -> Result<()> {
    drop(source.open().await?);
    Ok(())
}
