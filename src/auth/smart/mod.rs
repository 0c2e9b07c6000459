//! SMART on FHIR: tokens, the keys that they are checked with, and scopes.
//!
//! A [`TokenVerifier`] checks an access token against the keys of its issuer, which a [`KeySource`] holds, and gives its
//! [`Claims`]. Their scope says which types the caller may export: [`Readable`], which is never empty and narrows what a
//! request asks for. [`SmartConfiguration`] tells clients where tokens are to be had; the crate gives out none itself.
//!
//! What fails is refused: a [`Refusal`] has words for the client, which say nothing of how far the check came before the
//! signature was found good, and others for the log. Neither holds the token.
//!
//! Sources: HealthLake contract section 7.2; Bulk Data Access IG, B rows; SMART Backend Services; RFC 6750, 7515, 7517,
//! 7519, 8725.

mod algorithm;
mod claims;
mod configuration;
#[cfg(test)]
mod forge;
mod json;
mod key_cache;
mod key_fetch;
mod key_set;
mod refusal;
mod scopes;
mod seen;
#[cfg(test)]
mod tests;
mod token;

pub use algorithm::Algorithm;
pub use claims::{Claims, RequiredClaim};
pub use configuration::SmartConfiguration;
pub use key_cache::{KeyPatience, KeySource};
pub use key_fetch::{FetchKeys, FetchedKeys, KeyFile, KeyUrl};
pub use key_set::KeySet;
pub use refusal::Refusal;
pub use scopes::{BeyondScope, NoExportScope, Readable};
pub use seen::Seen;
pub use token::{TokenVerifier, bearer_token};
