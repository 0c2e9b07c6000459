//! One rule after the other, then everything at once against `serde_json`.

mod differential;
mod grammar;
mod rules;
mod validation;
