//! Algorithms of signatures.

use std::fmt;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

/// An algorithm that tokens may be signed with: those with a secret that both sides share aren't among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// RSA (PKCS #1 v1.5) with SHA-384, which SMART demands.
    Rs384,
    /// RSA (PKCS #1 v1.5) with SHA-512.
    Rs512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384, which SMART demands.
    Es384,
}

/// The kind of key that an algorithm works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
}

impl Algorithm {
    /// All that can be allowed.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Rs384, Self::Rs512, Self::Es256, Self::Es384];

    /// Those that SMART demands of every server.
    pub const SMART: [Self; 2] = [Self::Rs384, Self::Es384];

    /// The name in headers and keys, such as `RS384`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    /// Finds the algorithm of a name, which is written exactly so: `rs384` is none.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(super) const fn key_kind(self) -> KeyKind {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 => KeyKind::Rsa,
            Self::Es256 => KeyKind::P256,
            Self::Es384 => KeyKind::P384,
        }
    }

    /// Whether a signature is that of the key over the message.
    pub(super) fn verifies(self, key: &jsonwebtoken::DecodingKey, message: &[u8], signature: &Vec<u8>) -> bool {
        let algorithm = match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Rs384 => jsonwebtoken::Algorithm::RS384,
            Self::Rs512 => jsonwebtoken::Algorithm::RS512,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
        };
        // Named, and not the default of the process: that one panics when another crate of an embedder's program turns a
        // second implementation on.
        (DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_has_one_spelling() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), None);
        }
        for other in ["", "none", "None", "NONE", "HS256", "HS384", "HS512", "EdDSA", "PS384", "RS384 ", "RS1"] {
            assert_eq!(Algorithm::from_name(other), None, "{other}");
        }
    }
}
