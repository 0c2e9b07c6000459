//! Who may ask for what.
//!
//! An [`Authenticator`] says who a caller is: by a signature of AWS ([`AccessKeys`], module [`sigv4`]) or by a token of
//! SMART on FHIR ([`BearerTokens`], module [`smart`]). An [`Authorizer`] says what he may do: [`OwnRights`] goes by the
//! policies of IAM that came with his key (module [`policy`]) or by the scopes of his token. Hosts may bring their own of
//! either kind. What isn't allowed by somebody is denied.
//!
//! The HTTP face asks for each request before any handler sees it. It writes an audit record of each decision, with the
//! target `audit` of `tracing`.
//!
//! Sources: HealthLake contract section 7; Bulk Data Access IG, B rows; SMART Backend Services.

mod action;
mod authenticator;
mod authorizer;
mod caller;
#[cfg(feature = "auth")]
mod keys;
#[cfg(feature = "auth")]
pub mod policy;
#[cfg(feature = "auth")]
mod rights;
#[cfg(feature = "auth")]
mod secret;
#[cfg(feature = "auth")]
pub mod sigv4;
#[cfg(feature = "auth")]
pub mod smart;
#[cfg(feature = "auth")]
mod tokens;

pub use action::Action;
pub use authenticator::{AtHead, Authenticator, Presented, Unauthenticated};
pub use authorizer::{Authorizer, Decision, Denial, Grant, JobsOf, Question};
pub use caller::{Caller, Rights};
#[cfg(feature = "auth")]
pub use keys::{AccessKey, AccessKeys};
#[cfg(feature = "auth")]
pub use rights::OwnRights;
#[cfg(feature = "auth")]
pub use secret::SecretText;
#[cfg(feature = "auth")]
pub use tokens::BearerTokens;
