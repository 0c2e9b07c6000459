//! Reading the JSON of tokens and keys without trust.
//!
//! A member that is read and stands there twice is refused by the derived readers, so two readers of one token can't take
//! different ones. Members that aren't read don't matter.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};

/// The last second of the year 9999. What is above is a time in milliseconds, or a token that never ends.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Reads an object. Derived readers would take an array for one, member by member.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok())?
}

/// A moment, in seconds since 1970; a fraction is cut off (RFC 7519 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) i64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if !(0.0..=LAST_SECOND).contains(&seconds) {
            return Err(de::Error::custom("not seconds since 1970"));
        }
        #[expect(clippy::cast_possible_truncation, reason = "in range, and the fraction is meant to go")]
        Ok(Self(seconds as i64))
    }
}

/// Whether a member is there, whatever it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Present(pub(super) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|IgnoredAny| Self(true))
    }
}

/// `true`, which HealthLake's own sample writes as a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Yes(pub(super) bool);

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YesVisitor)
    }
}

struct YesVisitor;

impl Visitor<'_> for YesVisitor {
    type Value = Yes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yes, E> {
        Ok(Yes(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Yes, E> {
        Ok(Yes(value == "true"))
    }
}

/// A text, or an array of texts.
#[derive(Clone, Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or an array of texts")
    }

    fn visit_str<E>(self, value: &str) -> Result<Texts, E> {
        Ok(Texts(vec![value.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element::<String>()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}
