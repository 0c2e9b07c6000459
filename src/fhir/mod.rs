//! Words of the standard itself: resource types and instants.
//!
//! Pure values; everything above speaks in them.

mod date_time;
mod instant;
mod r4_types;
mod resource_type;

pub use date_time::{DateTime, DateTimeError};
pub use instant::{Instant, InstantError};
pub use resource_type::{ResourceType, ResourceTypeError};
