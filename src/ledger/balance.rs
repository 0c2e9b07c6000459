//! The closing balance.
