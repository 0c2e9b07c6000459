//! Texts that must not be seen.

use std::fmt;

/// A secret that doesn't print, so that what holds one may be printed.
///
/// It can't be compared either: an equality would tell, by the time that it takes, how much of a guess is right.
/// Its bytes aren't wiped from memory.
#[derive(Clone)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself, for who checks or makes a signature.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl From<&str> for SecretText {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}
