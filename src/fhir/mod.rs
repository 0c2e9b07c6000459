//! Words of the standard itself: resource types, instants and labels.
//!
//! Pure values; everything above speaks in them.

mod date_time;
mod instant;
mod label;
mod r4_types;
mod resource_type;

pub use date_time::{DateTime, DateTimeError};
pub use instant::{Instant, InstantError};
pub use label::{Labels, Token, TokenError};
pub use resource_type::{ResourceType, ResourceTypeError};
